"""`orchestrate export`: a trial or an ensemble as one file that runs without this package.

Imports inside keep --help light.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from orchestrator.cli.commands.options import Json, Storage


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="TRIAL_OR_ENSEMBLE",
            help="Export SWEEP/TRIAL, SWEEP/ENSEMBLE, what SWEEP ships, or the folder of one.",
        ),
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="Write this .pt2, .onnx or .xml (and its .bin).")
    ],
    kind: Annotated[
        Literal["pt2", "onnx", "openvino"] | None,
        typer.Option("--format", help="Write this format.  [default: that of OUT's ending]"),
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16", "int8"],
        typer.Option("--precision", help="Keep the networks in this precision."),
    ] = "fp32",
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance",
            min=0.0,
            help="Refuse a lower precision that loses more points of top-1 on the selection split.",
        ),
    ] = 0.2,
    force: Annotated[
        bool, typer.Option("--force", help="Replace OUT if it is there already.")
    ] = False,
    storage: Storage = "runs",
    as_json: Json = False,
) -> None:
    """Write one file that takes raw joints (N, C, T, V, M) of any length and gives logits; it is
    checked against the stored logits first.
    """
    from orchestrator.ensembling.find_model import find_model
    from trainables.contract.errors import UserError
    from trainables.deploy.export.about import SUFFIXES

    kind = kind or SUFFIXES.get(out.suffix.lower())
    if kind is None:
        raise UserError(f"{out}: must end in {', '.join(SUFFIXES)}, got '{out.suffix}'")
    found = find_model(model, storage)

    from orchestrator.ensembling.exporting import source_of
    from trainables.deploy.export.export import Asked, check_target, said_loss
    from trainables.deploy.export.export import export as write

    asked = Asked(kind, precision, tolerance, force)
    check_target(out, asked)
    about, size = write(
        source_of(found), out, asked, note=lambda text: print(text, file=sys.stderr, flush=True)
    )
    if as_json:
        print(json.dumps({"out": str(out), "bytes": size, **about.model_dump(mode="json")}))
        return
    check = about.check
    assert check is not None
    print(f"{out}: {about.kind} {about.name}, {about.precision}, {size:,} bytes")
    print(
        f"logits differ from the stored ones by at most {check.largest_difference:.1e} on"
        f" {check.clips} {check.split} clips, where they reach {check.largest_logit:.3g}"
    )
    if check.lost_points is not None:
        print(f"top-1 lost: {said_loss(check)}")
