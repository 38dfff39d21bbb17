"""`orchestrate check`: a part of another package held to the laws that ours keep.

A few lines each; imports inside keep --help light.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.cli.commands.options import Json, model_options
from trainables.contract.errors import GateFailed, UserError, in_words

if TYPE_CHECKING:
    from types import ModuleType

    from trainables.contract.cards import CardTable
    from trainables.laws.law import PartSettings, Verdict

check_app = typer.Typer(
    help="Hold a part, of ours or of another package, to every law of its kind.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
Part = Annotated[
    str, typer.Argument(metavar="PART", help="A name, or package.module:NAME of its card.")
]


@check_app.command("backbone")
def check_backbone(
    part: Part,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="MODEL.OPTION=V", help="A setting other than the default."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Hold a backbone to its laws: deploy form, masks, files, counts, export; exit code 4 where it
    breaks one.
    """
    from pydantic import ValidationError

    from trainables.contract.model import ModelConfig

    model = {"backbone": part} | model_options("PART", part, settings or ())
    try:
        ModelConfig.model_validate(model)
    except ValidationError as error:
        raise UserError.of(f"--set: {in_words(item['msg'])}" for item in error.errors()) from error
    from trainables.laws import backbone

    _hold(f"backbone {part}", backbone, model, as_json)


@check_app.command("generator")
def check_generator(
    part: Part,
    settings: Annotated[
        str | None,
        typer.Option("--with", metavar="{...}", help="Other settings of `sparsity`, as YAML."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Hold a sparsity generator to its laws: amounts, exact zeros, seeds, deploy form, state; exit
    code 4 where it breaks one.
    """
    from pydantic import ValidationError

    from trainables.contract.generators import GENERATORS
    from trainables.contract.sparsity import SparsityConfig

    _known(GENERATORS, part)
    sparsity = {**_mapping(settings), "generator": part}
    try:
        SparsityConfig.model_validate({**sparsity, "level": 0.75})
    except ValidationError as error:
        raise UserError.of(f"--with: {in_words(item['msg'])}" for item in error.errors()) from error
    from trainables.laws import generator

    _hold(f"generator {part}", generator, sparsity, as_json)


@check_app.command("reader")
def check_reader(
    part: Part,
    sample: Annotated[
        Path, typer.Argument(metavar="SAMPLE", help="Read this file or folder, a small one.")
    ],
    as_json: Json = False,
) -> None:
    """Hold a reader to its laws on a sample: the same clips twice, damage named; exit code 4 where
    it breaks one.
    """
    from trainables.contract.readers import READERS

    _known(READERS, part)
    if not sample.exists():
        raise UserError(f"SAMPLE: {sample} must be there, but it is not")
    from trainables.laws import reader

    _hold(f"reader {part}", reader, {"reader": part, "sample": sample}, as_json)


@check_app.command("search")
def check_search(part: Part, as_json: Json = False) -> None:
    """Hold a search to its laws: its cell's trials, each once, whatever ends they have; exit code 4
    where it breaks one.
    """
    from orchestrator.sweep.searches import SEARCHES

    _known(SEARCHES, part)
    from orchestrator.laws import search

    _hold(f"search {part}", search, {"search": part}, as_json)


@check_app.command("strategy")
def check_strategy(
    part: Part,
    settings: Annotated[
        str | None, typer.Option("--with", metavar="{...}", help="Other options, as YAML.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Hold an ensemble strategy to its laws: weights of its sources alone, repeatable, scores left
    alone; exit code 4 where it breaks one.
    """
    from orchestrator.sweep.strategies import STRATEGIES

    _known(STRATEGIES, part)
    options = _mapping(settings)
    from orchestrator.laws import strategy

    try:
        strategy.options_of(STRATEGIES.find(part), options)
    except UserError as error:
        raise UserError.of(f"--with: {problem}" for problem in error.problems) from error
    _hold(f"strategy {part}", strategy, {"strategy": part, "options": options}, as_json)


def _known(table: CardTable[Any], part: str) -> None:
    """UserError where the table has no such card."""
    try:
        table.find(part)
    except UserError as error:
        raise UserError(f"PART: {error}") from error


def _mapping(settings: str | None) -> dict[str, Any]:
    """What `--with` says, as YAML."""
    from orchestrator.sweep.document import parse

    document = parse(settings or "{}", "--with", place="--with")
    if document.problems or not isinstance(document.values, dict):
        raise UserError.of(document.problems or ["--with: must be a mapping, {setting: value}"])
    return document.values


def _hold(part: str, kind: ModuleType, subject: PartSettings, as_json: bool) -> None:
    """Hold the subject to every law of its kind, `kind` being the module of those laws."""
    from trainables.laws.law import held_to

    laws = (*kind.CARD_LAWS, *kind.LAWS)
    _print(part, held_to(laws, subject), len(laws), as_json)


def _print(part: str, judged: Iterator[Verdict], laws: int, as_json: bool) -> None:
    """A line per verdict as it comes; GateFailed where a law is broken."""
    verdicts: list[Verdict] = []
    for verdict in judged:
        verdicts.append(verdict)
        if not as_json:
            print(
                f"{'ok     ' if verdict.kept else 'failed '} {verdict.law}"
                f"{'' if verdict.kept else f': {verdict.reason}'}",
                flush=True,
            )
    if as_json:
        rows = [
            {"law": verdict.law, "kept": verdict.kept, "reason": verdict.reason}
            for verdict in verdicts
        ]
        print(json.dumps(rows, indent=2))
    broken = sum(not verdict.kept for verdict in verdicts)
    if broken:
        raise GateFailed(f"{part} breaks {broken} of {laws} laws")
