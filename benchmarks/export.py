"""Size, speed and accuracy of exported files of one trial or ensemble, in every format and
precision, in turns, on this machine.

    python benchmarks/export.py MODEL [--storage runs] [--threads 1] [--rounds 20] [--json]

A file is made as `orchestrate export` makes it, whatever top-1 it loses. Time is that of the raw
clips of the selection split that have the most usual length: of one, and of up to 64 at once, from
raw joints to fused logits. The ratio is the median over rounds of (time of ONNX Runtime in fp32 /
time of this one) in the same round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import torch

from orchestrator.ensembling.exporting import source_of
from orchestrator.ensembling.find_model import find_model
from trainables.contract.errors import UserError
from trainables.cost.measured import device_name
from trainables.deploy.export.about import About
from trainables.deploy.export.export import Asked, Source, batches_of, export, positions_of
from trainables.deploy.export.exported import open_exported

FILES = [
    (kind, precision)
    for kind in ("onnx", "openvino", "pt2")
    for precision in ("fp32", "bf16", "int8")
]
ENDINGS = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2"}
BATCH = 64
FIRST = "onnx fp32"

Clips = npt.NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--storage", default="runs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with TemporaryDirectory() as folder:
        rows = measured(options, Path(folder))
    if options.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{options.model} on {device_name(torch.device('cpu'))}, {options.threads} thread(s)")
    print(
        "| file | bytes | points lost on selection | wrong, right | ms, clip | ms, batch | ratios |"
    )
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(map(str, row.values())) + " |")


def measured(options: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    """A row per file."""
    found = find_model(options.model, options.storage)
    made: dict[str, tuple[About, int]] = {}
    run: dict[str, Callable[[Clips], object]] = {}
    clips: Clips | None = None
    for kind, precision in FILES:
        name = f"{kind} {precision}"
        out = folder / f"{precision}{ENDINGS[kind]}"
        source = source_of(found)  # anew: bf16 rounds its networks
        try:
            made[name] = export(source, out, Asked(kind, precision, tolerance=100.0))
        except UserError as error:
            print(error, file=sys.stderr)
            continue
        run[name] = open_exported(out, options.threads).logits
        clips = usual_clips(source, made[name][0]) if clips is None else clips
    assert clips is not None
    times = {size: in_turns(run, clips[:size], options.rounds) for size in (1, len(clips))}
    rows = []
    for name, (about, size) in made.items():
        check = about.check
        assert check is not None
        each = [times[count][name] for count in times]
        rows.append(
            {
                "file": name,
                "bytes": f"{size:,}",
                "lost": None if check.lost_points is None else f"{check.lost_points:.2f}",
                "changed": f"{check.only_before}, {check.only_after}",
                "one": f"{1e3 * statistics.median(each[0]):.2f}",
                "batch": f"{1e3 * statistics.median(each[1]):.1f}",
                "ratios": " ".join(
                    f"{ratio(times[count][FIRST], times[count][name]):.2f}" for count in times
                ),
            }
        )
    return rows


def usual_clips(source: Source, about: About) -> Clips:
    """Up to 64 scored clips of the length that most of them have."""
    parts = [clips for _rows, clips in batches_of(source.store, positions_of(source), about)]
    longest = max(parts, key=len)
    return np.concatenate([longest] * -(-BATCH // len(longest)))[:BATCH]


def in_turns(
    run: dict[str, Callable[[Clips], object]], clips: Clips, rounds: int
) -> dict[str, list[float]]:
    """Seconds of every file in every round, another one first each time; the first round warms
    up.
    """
    names, seconds = list(run), {name: list[float]() for name in run}
    for number in range(rounds + 1):
        shift = number % len(names)
        for name in [*names[shift:], *names[:shift]]:
            begin = time.perf_counter()
            run[name](clips)
            seconds[name] += [time.perf_counter() - begin] if number else []
    return seconds


def ratio(first: list[float], other: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(first, other, strict=True))


if __name__ == "__main__":
    main()
