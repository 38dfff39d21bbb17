"""Files per second and peak memory of the NTU RGB+D imports, on synthetic files of realistic size.

    python benchmarks/data_import.py [--files N] [--rounds R] [--json]

Raw files are written as a Kinect v2 recorder writes them: 72 frames on average, 25 joints of 12
values, two bodies in a fifth of them; a few hundred different ones under many names. The import
does everything from text to a finished store on disk. It takes turns with a parser that follows the
released preparation scripts line by line, on one core, and does only the first of their three steps
(text to arrays per body). Every turn is a process of its own, so peak memory is its own; its start
and imports are not in the rates, those of its workers are. Files are in the page cache.

Archives hold (N, 300, 150) float32, three quarters of it padding, as the pipeline's do. Two sizes
of each show whether memory grows with them.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MEAN_FRAMES, LONGEST = 72, 300
TWO_BODIES = 0.2
WHOLE = 114_480  # files of NTU RGB+D 120
DIFFERENT = 300  # files that are written; the others are links to them
ROWS = (400, 1600)  # of the archives


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--files", type=int, default=2000, help="synthetic raw files")
    options.add_argument(
        "--rounds", type=int, default=3, help="turns of each side; medians are printed"
    )
    options.add_argument("--json", action="store_true", help="print JSON instead of a table")
    # what a process of its own does: side and source
    options.add_argument("--turn", nargs=2, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.turn:
        print(json.dumps(turn(chosen.turn[0], Path(chosen.turn[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        results = measure(Path(folder), files=chosen.files, rounds=chosen.rounds)
    sys.stdout.write(
        json.dumps(results, indent=2) + "\n" if chosen.json else table(results, chosen.files)
    )


def measure(folder: Path, *, files: int, rounds: int) -> dict[str, dict[str, float]]:
    """Medians per side; every side takes a turn in every round."""
    rng = np.random.default_rng(0)
    raw = folder / "raw"
    raw.mkdir()
    for number in range(files):
        file = raw / f"{sample(number)}.skeleton"
        if number < DIFFERENT:
            write_skeleton(file, rng)
        else:
            file.hardlink_to(raw / f"{sample(number % DIFFERENT)}.skeleton")
    sides = {"line by line": raw, "1 process": raw, "2 processes": raw}
    for rows in ROWS:
        for kind, save in (("stored", np.savez), ("compressed", np.savez_compressed)):
            sides[f"npz {kind} {rows}"] = folder / f"{kind}-{rows}.npz"
            save(sides[f"npz {kind} {rows}"], **archive(rows, rng))
    turns: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, source in sides.items():
            command = [sys.executable, __file__, "--turn", side, str(source)]
            turns[side].append(
                json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            )
    return {
        side: {key: statistics.median(each[key] for each in made) for key in made[0]}
        for side, made in turns.items()
    }


def sample(number: int) -> str:
    """A name as the data set's; up to 120 960 different ones."""
    setup, camera, performer = 1 + number // 7200, 1 + number // 60 % 3, 1 + number // 180 % 40
    return f"S{setup:03}C{camera:03}P{performer:03}R001A{1 + number % 60:03}"


def turn(side: str, source: Path) -> dict[str, float]:
    """One import, or one pass of the plain parser: clips per second and peak memory in MiB, of this
    process and of the largest it started.
    """
    import pyarrow.parquet  # noqa: F401 - loaded by the store at its first use

    from trainables.data.readers.ntu import read_ntu
    from trainables.data.readers.ntu_npz import read_ntu_npz
    from trainables.data.store.writing import write_store

    def imported() -> int:
        recordings = (
            read_ntu_npz(source) if source.suffix == ".npz" else read_ntu(source, jobs=int(side[0]))
        )
        with tempfile.TemporaryDirectory() as folder:
            return write_store(
                Path(folder) / "store", recordings.clips, recordings.description
            ).clips

    began = time.perf_counter()
    plain = side == "line by line"
    clips = (
        sum(1 for file in sorted(source.iterdir()) if plain_parse(file)) if plain else imported()
    )
    seconds = time.perf_counter() - began
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    # getrusage would count what the parent was when it forked
    peak = int(status["VmHWM"].split()[0]) / 1024
    return {
        "clips_per_s": clips / seconds,
        "peak_mib": peak,
        "largest_worker_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    }


def plain_parse(file: Path) -> dict[str, dict[str, np.ndarray]]:
    """Joints and places in the colour image of every body, line by line and joint by joint, as the
    released scripts parse.
    """
    with file.open() as stream:
        lines = stream.readlines()
    bodies: dict[str, dict[str, np.ndarray]] = {}
    at = 1
    for _ in range(int(lines[0].strip("\r\n"))):
        count = int(lines[at].strip("\r\n"))
        at += 1
        joints = np.zeros((count, 25, 3), np.float32)
        colours = np.zeros((count, 25, 2), np.float32)
        for body in range(count):
            name = lines[at].strip("\r\n").split()[0]
            number = int(lines[at + 1].strip("\r\n"))
            at += 2
            for joint in range(number):
                values = lines[at].strip("\r\n").split()
                joints[body, joint] = np.array(values[:3], np.float32)
                colours[body, joint] = np.array(values[5:7], np.float32)
                at += 1
            if name in bodies:
                bodies[name]["joints"] = np.vstack((bodies[name]["joints"], joints[body]))
                bodies[name]["colours"] = np.vstack(
                    (bodies[name]["colours"], colours[body, np.newaxis])
                )
            else:
                bodies[name] = {"joints": joints[body], "colours": colours[body, np.newaxis]}
    return bodies


def write_skeleton(file: Path, rng: np.random.Generator) -> None:
    """A random walk of one or two standing bodies, in seven significant digits."""
    frames = int(np.clip(rng.gamma(8, MEAN_FRAMES / 8), 15, LONGEST))
    bodies = 1 + int(rng.random() < TWO_BODIES)
    middle = np.array([0, 0, 3, 250, 200, 1000, 500, 0, 0, 0, 0])
    spread = np.array([0.2, 0.8, 0.2, 30, 60, 100, 200, 0.5, 0.5, 0.5, 0.5])
    pose = middle + rng.uniform(-1, 1, size=(bodies, 1, 25, 11)) * spread
    walk = pose + np.cumsum(rng.normal(size=(bodies, frames, 1, 11)) * 0.01, axis=1)
    lines = [str(frames)]
    for t in range(frames):
        lines.append(str(bodies))
        for body in range(bodies):
            lines += [f"{72057594037931101 + body} 0 1 1 1 1 0 0.02764709 0.05745083 2", "25"]
            lines += [" ".join(f"{value:.7g}" for value in joint) + " 2" for joint in walk[body, t]]
    file.write_bytes(("\r\n".join(lines) + "\r\n").encode())


def archive(rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Arrays as the pipeline saves them, a tenth of the rows for the test."""
    x = np.zeros((rows, LONGEST, 150), np.float32)
    for row in x:
        frames, columns = (
            int(np.clip(rng.gamma(8, MEAN_FRAMES / 8), 15, LONGEST)),
            150 if rng.random() < TWO_BODIES else 75,
        )
        row[:frames, :columns] = rng.normal(size=(frames, columns))
    y = np.eye(60)[rng.integers(60, size=rows)]
    test = rows // 10
    return {"x_train": x[test:], "y_train": y[test:], "x_test": x[:test], "y_test": y[:test]}


def table(results: dict[str, dict[str, float]], files: int) -> str:
    """Readable lines, and what they would mean for a whole data set."""
    plain = results["line by line"]["clips_per_s"]
    lines = [f"{'':22} {'clips/s':>8} {'ratio':>6} {'peak MiB':>9} {'largest worker':>15}"]
    for side, found in results.items():
        ratio = "" if side.startswith("npz") else f"{found['clips_per_s'] / plain:5.1f}x"
        worker = f"{found['largest_worker_mib']:.0f}" if side == "2 processes" else ""
        lines.append(
            f"{side:22} {found['clips_per_s']:8.0f} {ratio:>6} {found['peak_mib']:9.0f}"
            f" {worker:>15}"
        )
    for side in ("1 process", "2 processes"):
        minutes = WHOLE / results[side]["clips_per_s"] / 60
        lines.append(
            f"{WHOLE} files at the rate of {side}: {minutes:.1f} minutes (extrapolated from {files}"
            " synthetic files in the page cache)"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
