"""`orchestrate curves` and `orchestrate simulate`: sweeps without training.

A few lines each; imports inside keep --help light.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.commands.options import Json, Storage

if TYPE_CHECKING:
    from orchestrator.sweep import Sweep


def curves(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME", help="Name sweeps in the storage folder, or their folders."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Write the curves to this Parquet file.")],
    storage: Storage = "runs",
) -> None:
    """Keep the learning curves of sweeps in one file: what `simulate` plays a sweep through on."""
    from orchestrator.record.folder import find_folder
    from orchestrator.simulation.curves import collect_curves, save_curves

    found = collect_curves([find_folder(name, storage) for name in names])
    save_curves(found, out)
    whole = sum(curve.result is not None for curve in found)
    cells = len({json.dumps(dict(curve.axes)) for curve in found})
    of_cells = f"{cells} cell{'s' * (cells != 1)}"
    print(f"{out}: {len(found)} curves of {of_cells}, {whole} of them to the last epoch")


def simulate(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="Play this sweep file through, or a shipped search space."
        ),
    ],
    curves: Annotated[
        Path, typer.Option("--curves", help="Take what trials report from this file of curves.")
    ],
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Let so many trials run at a time.")
    ] = 200,
    methods: Annotated[
        list[str] | None,
        typer.Option("--method", metavar="NAME", help="Try this search, too; may be repeated."),
    ] = None,
    stops: Annotated[
        list[str] | None,
        typer.Option(
            "--stop",
            metavar="TYPE",
            help="Try this early termination, too: asha, or {type: asha, eta: 4}; may be repeated.",
        ),
    ] = None,
    repeat: Annotated[
        int,
        typer.Option("--repeat", min=1, help="Repeat it with so many seeds, and take medians."),
    ] = 1,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="A.B=V", help="Override a value of the file; may be repeated."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Play a sweep through on recorded curves and a virtual clock, beside plain baselines."""
    from orchestrator.planning.check import checked_sweep
    from orchestrator.simulation.compare import compare
    from orchestrator.simulation.curves import load_curves
    from orchestrator.simulation.ways import ways_of

    def load(changes: Sequence[str]) -> Sweep:
        return checked_sweep(file, [*(overrides or ()), *changes], data=False)

    ways, note = ways_of(load, methods or (), stops or ())
    outcomes = compare(ways, load_curves(curves), workers, repeat)
    if as_json:
        print(json.dumps([outcome.to_json() for outcome in outcomes], indent=2))
    else:
        from orchestrator.cli.printing.simulation import print_outcomes

        print_outcomes(ways[0].sweep, outcomes, workers, repeat, note)
