"""Commands that make a store: the options that all of them share, and what they do with what a
format's own function has read. Imports inside keep --help light.
"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orchestrator.cli.commands.options import progress
from trainables.contract.names import printable

if TYPE_CHECKING:
    from trainables.data.readers.units import Unit
    from trainables.data.store.description import Clip, Recordings


@dataclass(frozen=True, slots=True)
class Target:
    """Where a store is written, how, and from what."""

    out: Path
    storage: Literal["float32", "int16"]
    force: bool
    name: str | None
    source: Path | None = None  # None: it is made, not read


def _shared(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Make this folder.")],
    unit: Annotated[
        Literal["m", "cm", "mm", "px"] | None,
        typer.Option(
            help="Say what the coordinates are; they are stored in metres, in images in pixels.",
            show_default="m or px, refused where no body has that size",
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Call the data set so in tables and reports.", show_default="by its source"
        ),
    ] = None,
    storage: Annotated[
        Literal["float32", "int16"],
        typer.Option(
            help="Store so; int16 halves the size and rounds to 0.1 mm (in images 0.05 pixels)."
        ),
    ] = "float32",
    force: Annotated[
        bool, typer.Option("--force", help="Replace a store that is there already.")
    ] = False,
) -> None:
    """The parameters that every command here has; `unit` where a format does not fix it."""


def stores(
    source: str | None, *, ask_unit: bool = False
) -> Callable[[Callable[..., Recordings]], Callable[..., None]]:
    """The command that stores what a function reads, with the shared parameters beside its own.

    source: the parameter that names what is read, or None where recordings are made. ask_unit:
    whether the unit is not fixed by the format and can be said with --unit.
    """

    def command_of(read: Callable[..., Recordings]) -> Callable[..., None]:
        # the type of what is read belongs to the heavy half, so its name is resolved here
        own = inspect.signature(read, eval_str=True, locals={"Recordings": Any}).parameters
        shared = dict(inspect.signature(_shared, eval_str=True).parameters)
        if not ask_unit:
            del shared["unit"]

        def command(**values: Any) -> None:
            unit = values.get("unit")
            place = None if source is None else values[source]
            target = Target(
                values["out"], values["storage"], values["force"], values["name"], place
            )
            options = {name: values[name] for name in own}
            _write(lambda: read(**options), target, unit, ask=ask_unit)

        out = shared.pop("out")
        arguments = 0 if source is None else list(own).index(source) + 1
        order = [*own.values()]
        order[arguments:arguments] = [out]
        parameters = [
            item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in (*order, *shared.values())
        ]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {item.name: item.annotation for item in parameters}
        command.__name__, command.__doc__ = read.__name__, read.__doc__
        return command

    return command_of


def _write(
    read: Callable[[], Recordings], target: Target, unit: Unit | None = None, *, ask: bool = False
) -> None:
    """Read and write one store; the last line names the next command.

    ask: whether the unit is not fixed by the format and can be said with --unit.
    """
    from trainables.contract.addresses import was_address
    from trainables.contract.errors import UserError
    from trainables.data.readers.units import in_store_units
    from trainables.data.store.writing import check_target, write_store

    out = target.out
    for place in (out, target.source):
        if place is not None and was_address(Path(place)):
            raise UserError(
                f"{place}: must be a place on this machine, no address; `orchestrate data push`"
                " copies a store to one"
            )
    check_target(out.absolute(), force=target.force)
    recordings = in_store_units(read(), unit, target.storage, ask=ask, place=target.source)
    description = recordings.description
    if target.name is not None:
        description = description.model_copy(update={"name": target.name})
    with progress("importing", recordings.count) as advance:
        info = write_store(
            out,
            _counted(recordings.clips, advance),
            description,
            storage=target.storage,
            force=target.force,
        )
    for note in recordings.notes:
        typer.echo(f"note: {printable(note)}", err=True)
    typer.echo(
        f"{out}: {info.name}, {info.clips} clips, {len(info.classes)} classes, {info.rows} frames,"
        f" protocols {', '.join(info.protocols)}"
    )
    typer.echo(f"next: orchestrate data audit {shlex.quote(str(out))}")


def _counted(clips: Iterable[Clip], advance: Callable[[], None]) -> Iterator[Clip]:
    for clip in clips:
        yield clip
        advance()
