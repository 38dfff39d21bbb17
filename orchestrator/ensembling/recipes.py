"""How the logits of a bundle's networks become one, as a bundle's file says it; read from outside,
so it is checked before it is used.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Annotated, Any

from pydantic import Field, FiniteFloat, ValidationError

from orchestrator.sweep.presets import Combine
from trainables.contract.errors import UserError, in_words
from trainables.contract.frozen import Frozen
from trainables.contract.names import shown

Weight = Annotated[FiniteFloat, Field(strict=True)]
Temperature = Annotated[FiniteFloat, Field(strict=True, gt=0)]
DEEPEST = 20  # ensembles of ensembles of ...


class _Network(Frozen):
    trial: str


class _Ensemble(Frozen):
    combine: Combine
    sources: tuple[tuple[Weight, Any] | tuple[Weight, Any, Temperature], ...] = Field(min_length=1)


def check_recipe(place: str, recipe: Any, members: Container[str], depth: int = 0) -> None:
    """UserError unless it is {"trial": NAME} of a member, or {"combine": HOW, "sources": [[WEIGHT,
    RECIPE], ...]} with the temperature of a source, where it has one, behind its recipe.
    """
    if depth > DEEPEST:
        raise UserError(f"{place}: must be nested at most {DEEPEST} times")
    try:
        if isinstance(recipe, dict) and "trial" in recipe:
            if (trial := _Network.model_validate(recipe).trial) not in members:
                raise UserError(f"{place}: trial must be one of the members, got {shown(trial)}")
            return
        sources = _Ensemble.model_validate(recipe).sources
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UserError(f"{place}: {where or 'it'} is wrong: {in_words(first['msg'])}") from error
    for number, source in enumerate(sources):
        check_recipe(f"{place}: sources[{number}]", source[1], members, depth + 1)
