"""What commands share: options turned into checked records, a progress bar. Knows no command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

if TYPE_CHECKING:
    from trainables.contract.config import Frozen

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Storage = Annotated[str, typer.Option("--storage", help="Look for sweeps in this folder.")]


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


def _option_problem(item: dict[str, Any]) -> str:
    message = str(item["msg"]).removeprefix("Value error, ")
    if not item["loc"]:
        return message
    name = "selection-kind" if item["loc"] == ("kind",) else str(item["loc"][0]).replace("_", "-")
    return f"--{name}: {message}, got {item['input']}"
