"""The data path against a loader that reads and augments clip by clip as published feeders do:
speed, memory, start-up.

    python benchmarks/data_path.py [--part batches|open|processes] [--json]

batches: clips per second of both sides, with the same transforms on the same synthetic recordings,
ending with float32 (N, 3, T, V, M) batches and labels; all take turns in one run, a ratio is the
median over the rounds. Ours uses one core, a loader with two workers two. The clip-by-clip side
follows the structure of CTR-GCN's feeders: dense recordings in memory, already centred (NTU RGB+D),
a torch DataLoader with persistent workers. The limit is what the copy bandwidth of one core,
measured in the same rounds, would allow if every frame that a clip needs were read once from the
store and every number of the batch written once.

processes: what one and several processes take that read a store, and that load the same clips from
an .npz of 300 frames and two persons each. Memory is proportional set size (PSS): a page that n
processes share counts 1/n in each. "before" is that of one process that has imported everything and
dealt some epochs of another, small store, so that code is loaded and working memory is there; the
others are the growth of all processes together from there to the end of a full pass over all clips.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from clip_by_clip import (
    LONGEST,
    PERSONS,
    STORAGES,
    NTUFeeder,
    UCLAFeeder,
    described,
    synthesise,
)
from data_path_tables import batches_table, open_table, processes_table
from torch.utils.data import DataLoader

from trainables.contract.config import DataConfig
from trainables.data.batches.batches import Batches, Dealing
from trainables.data.batches.transforms import crop_training, sample_training
from trainables.data.store.reading import Clip, Store, write_store

STREAMS = ("joint", "bone", "joint_motion", "bone_motion")
WORKERS = (0, 2)
FRAMES = {"ctr": 64, "ucla": 52}
PASSES = 8  # of the batches per turn; one takes some 10 ms
BATCH = 64
COPIED = 1 << 28  # bytes, to measure the bandwidth: more than fits into a cache
NTU120 = 114_480  # clips
WARM = "warm"
Row = dict[str, Any]


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--part", choices=("all", *PARTS), default="all", help="what to measure")
    options.add_argument(
        "--clips", type=int, default=512, help="recordings in the synthetic stores for batches"
    )
    options.add_argument(
        "--rounds",
        type=int,
        default=5,
        help="turns of everything that is compared; medians are printed",
    )
    options.add_argument(
        "--shared-clips",
        type=int,
        default=40_000,
        help="recordings that processes share: NTU RGB+D 60 trains on 40,091",
    )
    options.add_argument(
        "--npz-clips",
        type=int,
        default=4096,
        help="recordings that each process loads from an .npz",
    )
    options.add_argument("--processes", type=int, default=4, help="processes at once")
    options.add_argument("--json", action="store_true", help="print JSON instead of tables")
    options.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    torch.set_num_threads(1)
    if chosen.child:
        child(*chosen.child)
        return
    parts = PARTS if chosen.part == "all" else {chosen.part: PARTS[chosen.part]}
    with tempfile.TemporaryDirectory() as folder:
        results = {name: part(Path(folder), chosen) for name, part in parts.items()}
    sys.stdout.write(
        json.dumps(results, indent=2) + "\n"
        if chosen.json
        else "\n".join(TABLES[name](rows) for name, rows in results.items())
    )


# --- batches


def measure_batches(folder: Path, chosen: argparse.Namespace) -> list[Row]:
    """One row per pipeline and stream."""
    rows = []
    for pipeline in FRAMES:
        stores = {
            storage: synthesise(folder / f"{pipeline}-{storage}", pipeline, chosen.clips, storage)
            for storage in STORAGES
        }
        rows += [measure(stores, pipeline, stream, rounds=chosen.rounds) for stream in STREAMS]
    return rows


def measure(
    stores: dict[Literal["float32", "int16"], Store], pipeline: str, stream: str, *, rounds: int
) -> Row:
    """Median clips per second of the batches and of the loaders, which take turns, and of the
    ratios of each round.
    """
    plain = stores["float32"]
    data = DataConfig(store=str(plain.path), protocol="all", stream=stream, frames=FRAMES[pipeline])
    feeder = (NTUFeeder if pipeline == "ctr" else UCLAFeeder)(
        plain, data.stream_config, data.frames
    )
    passes: dict[str, Callable[[int], Iterator[int]]] = {
        name: dealing(store, data) for name, store in stores.items()
    }
    for workers in WORKERS:
        loader = DataLoader(
            feeder,
            batch_size=BATCH,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        passes[f"workers_{workers}"] = lambda _, loader=loader: (len(x.float()) for x, _ in loader)
    speeds: dict[str, list[float]] = {name: [] for name in (*passes, "bandwidth")}
    for turn in range(rounds + 1):
        measured = {"bandwidth": bandwidth()}
        for name, one_pass in passes.items():
            began = time.perf_counter()
            clips = sum(one_pass(turn))
            measured[name] = clips / (time.perf_counter() - began)
        if turn > 0:  # the first turn starts workers and reads the file
            for name, speed in measured.items():
                speeds[name].append(speed)
    row: Row = {"pipeline": pipeline, "stream": stream} | {
        name: statistics.median(values) for name, values in speeds.items()
    }
    for storage, store in stores.items():
        for workers in WORKERS:
            row[f"{storage}_ratio_{workers}"] = ratio(speeds[storage], speeds[f"workers_{workers}"])
        row[f"{storage}_ratio_2_per_core"] = 2 * row[f"{storage}_ratio_2"]
        row[f"{storage}_bytes"] = bytes_per_clip(store, pipeline)
        row[f"{storage}_of_limit"] = (
            ratio(speeds[storage], speeds["bandwidth"]) * row[f"{storage}_bytes"]
        )
    return row


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of the ratios of the rounds: what slows the machine down for a while slows both."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def dealing(store: Store, data: DataConfig) -> Callable[[int], Iterator[int]]:
    """A function that deals some epochs of training batches and gives their sizes."""
    everything = np.arange(store.info.clips)
    batches = Batches(store, everything, data, Dealing(BATCH, training=True, labelled=True))
    return lambda turn: (
        len(dealt.x) for epoch in range(PASSES) for dealt in batches.epoch(PASSES * turn + epoch)
    )


def bandwidth() -> float:
    """Bytes per second that one core reads and writes when it copies."""
    source, target = torch.ones(COPIED, dtype=torch.uint8), torch.zeros(COPIED, dtype=torch.uint8)
    began = time.perf_counter()
    target.copy_(source)
    return 2 * COPIED / (time.perf_counter() - began)


def bytes_per_clip(store: Store, pipeline: str) -> float:
    """Bytes that a training clip takes at least, on average: its frames read once, as stored, and
    its part of the batch written once.
    """
    length, rng = store.column("length"), np.random.default_rng(0)
    if pipeline == "ctr":
        frames = crop_training(length, rng)[1]
    else:
        frames = np.array(
            [len(set(chosen)) for chosen in sample_training(length, FRAMES[pipeline], rng).tolist()]
        )
    read = (frames * store.column("persons")).mean() * store.joints[0].nbytes
    return float(read + 4 * 3 * FRAMES[pipeline] * store.layout.size * PERSONS[pipeline])


# --- opening


def measure_open(folder: Path, _chosen: argparse.Namespace) -> list[Row]:
    """Median time to open stores of many and of few clips in a
    process that has opened one before.
    """
    rows = []
    for count in (1000, NTU120):
        path = folder / f"opened-{count}"
        pose = np.ones((1, 1, 25, 3), np.float32)
        clips = (
            Clip(
                f"S001C001P001R001A{number:06}",
                number % 10,
                pose * (number + 1),
                subject=number % 106,
            )
            for number in range(count)
        )
        write_store(path, clips, described("ctr"))
        Store.open(path)
        times = []
        for _ in range(25):
            began = time.perf_counter()
            Store.open(path)
            times.append(time.perf_counter() - began)
        rows.append({"clips": count, "milliseconds": 1e3 * statistics.median(times)})
    return rows


# --- processes


def measure_processes(folder: Path, chosen: argparse.Namespace) -> list[Row]:
    """One row per form and number of clips: start-up and memory of one process and of several at
    once.
    """
    rows = []
    synthesise(folder / WARM, "ctr", 512, "float32")
    for count in (chosen.npz_clips, chosen.shared_clips):
        for form in (*STORAGES, "npz"):
            if form == "npz" and count != chosen.npz_clips:
                continue
            path = folder / f"{form}-{count}"
            if form == "npz":
                pad_to_npz(Store.open(folder / f"float32-{count}"), path)
            else:
                synthesise(path, "ctr", count, form)
            alone, together = (watch(form, path, number) for number in (1, chosen.processes))
            rows.append(
                {
                    "form": form,
                    "clips": count,
                    "processes": chosen.processes,
                    "first_batch_ms": alone["first_batch_ms"],
                    "with_import_ms": alone["with_import_ms"],
                    "before_mb": alone["before_mb"],
                    "one_mb": alone["grown_mb"],
                    "all_mb": together["grown_mb"],
                    "ratio": together["grown_mb"] / alone["grown_mb"],
                }
            )
    return rows


def watch(form: str, path: Path, number: int) -> Row:
    """Start `number` processes, see how long the first batch takes and by how much all of them have
    grown after a full pass.
    """
    command = [sys.executable, __file__, "--child", form, str(path)]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    began = time.perf_counter()
    started = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        for _ in range(number)
    ]
    imported = [listen(process) and time.perf_counter() - began for process in started]
    for process in started:
        listen(process)
    before = sum(pss(process.pid) for process in started)
    for process in started:
        say(process)
    batches = [float(listen(process)) for process in started]
    for process in started:
        listen(process)
    grown = sum(pss(process.pid) for process in started) - before
    for process in started:
        say(process)
        process.wait()
    return {
        "first_batch_ms": batches[0],
        "with_import_ms": 1e3 * imported[0] + batches[0],
        "before_mb": before / 1e6,
        "grown_mb": grown / 1e6,
    }


def listen(process: subprocess.Popen[str]) -> str:
    """The next line of a child."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        raise RuntimeError("a process ended before its time")
    return line


def say(process: subprocess.Popen[str]) -> None:
    """Tell a child to go on."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def pss(process: int) -> int:
    """Proportional set size of a process, in bytes."""
    for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("the kernel does not say how much memory a process takes")


def child(form: str, path: str) -> None:
    """One process that trains: says when all is imported, when it is warm, how long the first batch
    took (ms), when all clips were seen.
    """

    def tell(text: object) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    import pyarrow.parquet  # noqa: F401 - opening a store imports it

    tell("imported")
    warm = batches_of(Path(path).parent / WARM)
    for epoch in range(4):
        for _ in warm.epoch(epoch):
            pass
    tell("warm")
    sys.stdin.readline()
    began = time.perf_counter()
    if form == "npz":
        joints = np.load(f"{path}.npz")["x_train"]
        assert joints[:BATCH].any()
        tell(1e3 * (time.perf_counter() - began))
        assert joints.any(axis=(1, 2)).all()
    else:
        batches = batches_of(Path(path))
        next(batches.epoch(0))
        tell(1e3 * (time.perf_counter() - began))
        for _ in batches.epoch(0):
            pass
    tell("passed")
    sys.stdin.readline()


def batches_of(path: Path) -> Batches:
    """All clips of a store of the pipeline ctr, for training."""
    store, data = (
        Store.open(path),
        DataConfig(store=str(path), protocol="all", frames=FRAMES["ctr"]),
    )
    everything = np.arange(store.info.clips)
    return Batches(store, everything, data, Dealing(BATCH, training=True, labelled=True))


def pad_to_npz(store: Store, path: Path) -> None:
    """What CTR-GCN's preparation leaves: (clips, 300, 150) float32, two persons side by side, zeros
    to the end.
    """
    padded = np.zeros((store.info.clips, LONGEST, 2 * 75), np.float32)
    for number in range(store.info.clips):
        for person, joints in enumerate(store.clip(number)):
            padded[number, : len(joints), 75 * person : 75 * (person + 1)] = joints.reshape(
                len(joints), 75
            )
    np.savez(path, x_train=padded)


PARTS: dict[str, Callable[[Path, argparse.Namespace], list[Row]]] = {
    "batches": measure_batches,
    "open": measure_open,
    "processes": measure_processes,
}
TABLES: dict[str, Callable[[Sequence[Row]], str]] = {
    "batches": batches_table,
    "open": open_table,
    "processes": processes_table,
}

if __name__ == "__main__":
    main()
