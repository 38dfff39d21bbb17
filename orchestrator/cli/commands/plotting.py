"""The command that draws one figure of a sweep for a paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from orchestrator.cli.commands.options import Storage
from orchestrator.report.plots.kinds import KINDS


def plot(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The sweep's name or folder.")],
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help=f"What to draw: {'; '.join(f'{kind}: {shows}' for kind, shows in KINDS.items())}.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="FILE", help="Write this file; it ends with .svg, .pdf or .png."
        ),
    ],
    width: Annotated[
        Literal["single", "double"],
        typer.Option("--width", help="As wide as one column of a paper, or two."),
    ] = "single",
    papers: Annotated[
        bool,
        typer.Option("--papers/--no-papers", help="Draw what the papers print beside it, or not."),
    ] = True,
    row: Annotated[
        str | None,
        typer.Option(
            "--row", help="Of confusion: this network or ensemble instead of what the sweep ships."
        ),
    ] = None,
    storage: Storage = "runs",
) -> None:
    """Draw one figure of a sweep at publication quality: vectors, fonts embedded, colours that
    colour-blind people tell apart, bars of one standard error.
    """
    from orchestrator.record.folder import find_folder
    from orchestrator.report.plots.kinds import Asked, draw_figure

    asked = Asked(kind, out, width, papers, row)
    print(draw_figure(find_folder(name, storage), asked))
