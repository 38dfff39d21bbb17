"""`orchestrate predict`: classes of new clips, or of what a camera sees now; `publish`: a model in
the layout of model hubs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orchestrator.cli.commands.options import Json, Storage, progress
from trainables.contract.disk import check_writable, write_atomic
from trainables.contract.errors import UserError

if TYPE_CHECKING:
    from orchestrator.ensembling.open_model import Model

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="Take a sweep (what it ships), SWEEP/TRIAL, SWEEP/ENSEMBLE, the folder of one,"
        " an exported file, a published folder or models:/NAME@ALIAS.",
    ),
]
ClipFiles = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="CLIPS",
        help="Predict the clips in these files, folders or patterns (.skeleton, .npy, .npz, .pkl,"
        " .jsonl, .json, .txt).",
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", help="Write every probability to this .csv or .json.")
]
Top = Annotated[int | None, typer.Option("--top", min=1, help="Show so many classes of each clip.")]
Batch = Annotated[
    int | None,
    typer.Option("--batch", min=1, help="Run so many clips at a time.  [default: 64]"),
]
UnitOption = Annotated[
    Literal["m", "cm", "mm", "px"] | None,
    typer.Option("--unit", help="Say what the numbers are.  [default: metres or pixels, checked]"),
]
SkipBad = Annotated[
    bool,
    typer.Option("--skip-bad", help="Leave out clips or lines that cannot be read, and say so."),
]
Stream = Annotated[
    bool, typer.Option("--stream", help="Read frames as lines of JSON from standard input.")
]
Window = Annotated[
    float | None,
    typer.Option("--window", help="Look at the last so many seconds of a stream.  [default: 2]"),
]
Every = Annotated[
    int | None,
    typer.Option("--every", min=1, help="Answer every so many frames.  [default: 10]"),
]
Fps = Annotated[
    float | None, typer.Option("--fps", help="Say how many frames a second a stream has.")
]
Tracking = Annotated[
    str | None,
    typer.Option(
        "--tracking",
        help="Look for registered models in this MLflow store."
        "  [default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db]",
    ),
]


def predict(
    model: ModelName,
    clips: ClipFiles = None,
    out: Out = None,
    as_json: Json = False,
    top: Top = None,
    batch: Batch = None,
    unit: UnitOption = None,
    skip_bad: SkipBad = False,
    stream: Stream = False,
    window: Window = None,
    every: Every = None,
    fps: Fps = None,
    tracking: Tracking = None,
    storage: Storage = "runs",
) -> None:
    """Say which classes clips are of, with probabilities; or, with --stream, what is seen now."""
    if stream:
        _check_stream(clips, out, as_json, batch)
        _check_times(window, fps)
        _stream(_opened(model, storage, tracking), unit, (window, every, fps), skip_bad, top)
        return
    if (window, every, fps) != (None, None, None):
        raise UserError("--window, --every and --fps: have no effect without --stream")
    if not clips:
        raise UserError("CLIPS: must name at least one file, folder or pattern, got none")
    if out is not None and out.suffix.lower() not in (".csv", ".json"):
        raise UserError(f"--out: must end in .csv or .json, got {out}")
    if out is not None:
        check_writable(out)
    from orchestrator.ensembling.predicting import Reading, files_of, predict_files
    from trainables.data.readers.clip_files import Wanted

    files = files_of(clips)
    opened = _opened(model, storage, tracking)
    wanted = Wanted.of(opened.description, unit)
    with progress("clips", len(files)) as step:
        reading = Reading(batch or 64, skip_bad, _note, step)
        predicted = list(predict_files(opened, files, wanted, reading))
    from orchestrator.cli.printing import predictions

    classes = opened.description.classes
    if out is not None:
        written = predictions.as_csv if out.suffix.lower() == ".csv" else predictions.as_json
        write_atomic(out, written(predicted, classes, top).encode())
    if as_json:
        print(predictions.as_json(predicted, classes, top), end="")
    elif out is not None:
        print(f"{out}: {len(predicted)} clip{'s' * (len(predicted) != 1)}")
    else:
        predictions.print_predictions(predicted, classes, top or 2)


def _opened(text: str, storage: str, tracking: str | None) -> Model:
    from orchestrator.ensembling.find_model import find_model
    from orchestrator.ensembling.open_model import open_model

    found = find_model(text, storage)
    if found.kind == "registered":
        from orchestrator.tracking.registered import fetched

        found = fetched(found, tracking)
    elif tracking is not None:
        raise UserError(f"--tracking: has no effect on {found.place}, which is not registered")
    return open_model(found)


def _check_stream(
    clips: list[str] | None, out: Path | None, as_json: bool, batch: int | None
) -> None:
    if clips:
        raise UserError(
            f"CLIPS: must be left out with --stream, which reads standard input, got {clips[0]}"
        )
    if out is not None or as_json or batch is not None:
        raise UserError(
            "--out, --json and --batch: have no effect with --stream, whose answers are lines of"
            " JSON"
        )


def _check_times(window: float | None, fps: float | None) -> None:
    if window is not None and not 0 < window <= 3600:
        raise UserError(f"--window: must be more than 0 and at most 3600 seconds, got {window:g}")
    if fps is not None and not 0 < fps <= 100_000:
        raise UserError(f"--fps: must be more than 0 and at most 100000, got {fps:g}")
    from trainables.data.readers.frames import MOST_FRAMES

    if window is not None and fps is not None and window * fps > MOST_FRAMES:
        raise UserError(
            f"--window: must hold at most {MOST_FRAMES} frames, got {window * fps:g} ({window:g} s"
            f" at {fps:g} a second)"
        )


def _stream(
    model: Model,
    unit: Any,
    times: tuple[float | None, int | None, float | None],
    skip_bad: bool,
    top: int | None,
) -> None:
    from orchestrator.ensembling.live import Streaming, answers, warm_up
    from trainables.data.readers.clip_files import Wanted

    window, every, fps = times
    streaming = Streaming(window or 2.0, every or 10, fps, skip_bad, top, _note)
    wanted = Wanted.of(model.description, unit)
    warm_up(model, wanted)
    if sys.stdin.isatty():
        _note("reading frames from the keyboard, one JSON record a line; Ctrl-D ends")
    count = 0
    try:
        for answer in answers(_lines(), model, wanted, streaming):
            print(json.dumps(answer, ensure_ascii=False), flush=True)
            count += 1
    finally:
        _note(f"{count} answer{'s' * (count != 1)}")


def _lines() -> Iterator[bytes]:
    """Lines of standard input as they come; of one that is too long its beginning."""
    from trainables.data.readers.frames import LONGEST_LINE

    stream = sys.stdin.buffer
    while line := stream.readline(LONGEST_LINE + 1):
        yield line
        while len(line) > LONGEST_LINE and not line.endswith(b"\n"):
            line = stream.readline(LONGEST_LINE + 1)


def _note(text: str) -> None:
    from trainables.contract.names import printable

    print(printable(text), file=sys.stderr, flush=True)


def publish(
    model: Annotated[
        str,
        typer.Argument(
            metavar="TRIAL_OR_ENSEMBLE",
            help="Publish SWEEP/TRIAL, SWEEP/ENSEMBLE, what SWEEP ships, or the folder of one.",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Write this folder.")],
    force: Annotated[
        bool, typer.Option("--force", help="Replace OUT if it was published there.")
    ] = False,
    storage: Storage = "runs",
    as_json: Json = False,
) -> None:
    """Write a folder as model hubs read it: card, configuration, weights as safetensors, and the
    program that runs them with torch alone.
    """
    from orchestrator.ensembling.find_model import find_model
    from orchestrator.ensembling.publishing import publish as write

    published = write(find_model(model, storage), out, force=force, note=_note)
    if as_json:
        from dataclasses import asdict

        print(json.dumps(asdict(published) | {"folder": str(published.folder)}, indent=2))
        return
    print(f"{out}: {published.tensors} tensors, {published.bytes:,} bytes")
    print(
        f"logits differ from the stored ones by at most {published.largest_difference:.1e} on"
        f" {published.clips} {published.split} clips"
    )
    print(f"next: orchestrate predict {out} CLIPS...")


COMMANDS: dict[str, Callable[..., None]] = {"predict": predict, "publish": publish}
