"""An ensemble that is asked for on the command line, checked as one of a sweep file is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from orchestrator.sweep.document import Document, plain
from orchestrator.sweep.ensembles import SEED, resolve_ensembles
from orchestrator.sweep.presets import Combine
from orchestrator.sweep.problems import report
from orchestrator.sweep.schema import EnsembleConfig, Parameter
from trainables.contract.errors import UserError

_PLACE = re.compile(r"^asked ensembles\[0\]\.?(\w*)(?:\[\d+\])?\.?")
_OPTIONS = {"options": "option", "name": "called"}  # field -> option, where the names differ


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says of an ensemble; what it leaves out has its default."""

    method: str | None = None
    options: Sequence[str] = ()  # NAME=VALUE, of the method
    budget: Sequence[str] = ()  # MEASURE=LIMIT
    over: Sequence[str] = ()
    per: Sequence[str] = ()
    combine: Combine | None = None
    weights: str | None = None  # a preset's name, or VALUE=WEIGHT,VALUE=WEIGHT

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing."""
        return self == Asked()

    def fields(self, name: str, axes: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """As `ensembles[]` says it. Without a method greedy chooses, or the weights that are given
        are taken; without axes to combine all are that have several values, seeds only where there
        is nothing else.
        """
        several = [axis for axis, values in axes.items() if len(values) > 1]
        others = [axis for axis in several if axis not in self.per and axis != SEED]
        if not self.over and not others and len(axes.get(SEED, ())) < 2:
            raise UserError(
                "every axis with several values is one of --per: nothing is left to combine"
                if several
                else "an ensemble needs two networks, or several seeds of one: there are none here"
            )
        over = list(self.over) or others or [SEED]
        asked: dict[str, Any] = {
            "name": name,
            "over": over[0] if len(over) == 1 else over,
            "method": self.method or ("weights" if self.weights else "greedy"),
        }
        if self.per or not self.over:
            asked["per"] = list(self.per)
        if self.options:
            asked["options"] = settings_of(self.options, "--option")
        if self.budget:
            asked["budget"] = settings_of(self.budget, "--budget")
        if self.combine:
            asked["combine"] = self.combine
        if self.weights:
            given = self.weights.split(",")
            asked["weights"] = (
                settings_of(given, "--weights") if "=" in self.weights else self.weights
            )
        return asked


def asked_ensemble(
    fields: Mapping[str, Any], axes: Mapping[str, Sequence[Any]], *, held_out: bool
) -> EnsembleConfig:
    """The ensemble that these fields of `ensembles[]` describe, completed.

    axes: those of the networks, with their values; `seed` among them. UserError names every option
    that is wrong.
    """
    kind = "held out" if held_out else "none"
    values = {"ensembles": [dict(fields)], "data": {"selection": {"kind": kind}}}
    document = Document("asked", values)
    cells = {
        axis: Parameter(values=tuple(each), axis="cell")
        for axis, each in axes.items()
        if axis != SEED
    }
    try:
        asked = EnsembleConfig.model_validate_json(json.dumps(fields), strict=True)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        report(document, ("ensembles", 0), errors, EnsembleConfig)
    else:
        (ensemble,) = resolve_ensembles(document, [asked], cells, axes.get(SEED, ()))
        if not document.problems:
            return ensemble
    raise UserError.of(_by_option(problem) for problem in document.problems)


def settings_of(texts: Sequence[str], option: str) -> dict[str, Any]:
    """`name=value`, each value as YAML has it, of an option that may be repeated."""
    found: dict[str, Any] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not (name and sign and value) or name in found:
            raise UserError(f"{option}: must be NAME=VALUE, each name once, got '{text}'")
        found[name] = plain(value)
    return found


def _by_option(problem: str) -> str:
    """The problem of a field as one of the option that gives it."""
    match = _PLACE.match(problem)
    if match is None:
        return problem
    name, rest = match[1], problem[match.end() :]
    return f"--{_OPTIONS.get(name, name)}{'' if rest.startswith(':') else ' '}{rest}"
