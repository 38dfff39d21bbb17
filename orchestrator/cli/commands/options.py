"""What commands share: options turned into checked records, a progress bar. Knows no command."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from trainables.contract.config import Frozen

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Storage = Annotated[
    str, typer.Option("--storage", help="Look for sweeps in this folder, or at this address.")
]


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr when that is a terminal; gives the function to call after each clip."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


F = TypeVar("F", bound="Frozen")


def checked(model: type[F], **values: Any) -> F:
    """The options as a checked record; UserError names every option that is wrong."""
    from pydantic import ValidationError

    from trainables.contract.errors import UserError

    try:
        return model(**values)
    except ValidationError as error:
        raise UserError.of(_option_problem(dict(item)) for item in error.errors()) from error


def _with_nearest(message: str) -> str:
    """What pydantic says of a value, with the nearest of the known ones where there is one."""
    from orchestrator.sweep.problems import nearest
    from trainables.contract.errors import in_words

    text = in_words(message)
    listed = re.fullmatch(r"'(.*?)' is not one of (.*)\.", text)
    near = nearest(listed[1], re.findall(r"'([^']*)'", listed[2])) if listed else ""
    return f"{text[:-1]}{near}" if near else text


class PlainGroup(TyperGroup):
    """Commands whose options are refused in plain words: Typer has them checked by pydantic."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was typed."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = _with_nearest(error.message)
            raise


def _option_problem(item: dict[str, Any]) -> str:
    message = _with_nearest(str(item["msg"]))
    if not item["loc"]:
        return message
    name = "selection-kind" if item["loc"] == ("kind",) else str(item["loc"][0]).replace("_", "-")
    return f"--{name}: {message}, got {item['input']}"


def model_options(
    place_of_name: str, backbone: str, settings: list[str] | tuple[()]
) -> dict[str, Any]:
    """Options of the model from `model.option=value`; UserError lists everything that is wrong with
    them, and an unknown backbone.
    """
    from orchestrator.sweep.document import parse, show
    from orchestrator.sweep.leaves import LEAVES
    from orchestrator.sweep.problems import nearest, rule_of
    from trainables.contract.backbones import BACKBONES
    from trainables.contract.errors import UserError
    from trainables.contract.model import option_used

    try:
        BACKBONES.find(backbone)
    except UserError as error:
        raise UserError(f"{place_of_name}: {error}") from error
    known = [
        name
        for name in LEAVES
        if name.startswith("model.") and name not in ("model.backbone", "model.layout")
    ]
    options: dict[str, Any] = {}
    problems: list[str] = []
    for text in settings:
        name, equals, raw = text.partition("=")
        option, place = name.removeprefix("model."), f"--set {name}"
        if not equals:
            problems.append(f"{place}: must be model.option=value")
        elif name not in known:
            problems.append(f"{place}: unknown{nearest(name, known)}")
        elif option in options:
            problems.append(f"{place}: must be given once")
        # which temporal module it is, the checkpoint shows
        elif not option_used(option, backbone, "rep_tcn"):
            problems.append(f"{place}: has no effect in {backbone}")
        else:
            document = parse(raw, place, place=place)
            value = options[option] = document.values
            rules = (
                []
                if document.problems
                else [rule_of(error) for error in LEAVES[name].errors(value)[:1]]
            )
            problems += [
                *document.problems,
                *(
                    f"{place}: {rule}{'' if ', got ' in rule else f', got {show(value)}'}"
                    for rule in rules
                ),
            ]
    if problems:
        raise UserError.of(problems)
    return options
