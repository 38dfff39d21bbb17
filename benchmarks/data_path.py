"""Clips per second of the batch pipeline, on one core, against a loader that reads and augments clip by clip as published feeders do.

    python benchmarks/data_path.py [--json]

Both sides do the same transforms on the same synthetic recordings and end with float32 (N, 3, T, V, M) batches and labels; all take turns in
one run. The clip-by-clip side follows the structure of CTR-GCN's feeders: dense recordings in memory, already centred (NTU RGB+D), a
torch DataLoader with persistent workers.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from trainables.contract.config import DataConfig, StreamConfig
from trainables.data.batches import Batches
from trainables.data.store import Clip, Description, ProtocolRule, Store, write_store

STREAMS = ("joint", "bone", "joint_motion", "bone_motion")
WORKERS = (0, 2)
FRAMES = {"ctr": 64, "ucla": 52}
MEAN_LENGTH = {"ctr": 80, "ucla": 40}
TWO_PERSONS = {"ctr": 0.22, "ucla": 0.0}
LAYOUT = {"ctr": "ntu25", "ucla": "ucla20"}
LONGEST = 300
PASSES = 8  # of the batches per turn; one takes some 10 ms
Sample = tuple[torch.Tensor | np.ndarray, int]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--clips", type=int, default=512, help="recordings in the synthetic store")
    options.add_argument("--batch", type=int, default=64, help="clips per batch")
    options.add_argument("--rounds", type=int, default=5, help="passes over all clips; medians are printed")
    options.add_argument("--json", action="store_true", help="print JSON instead of a table")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        results = [
            measure(store, pipeline, stream, batch=chosen.batch, rounds=chosen.rounds)
            for pipeline in FRAMES
            for store in [synthesise(Path(folder) / pipeline, pipeline, chosen.clips)]
            for stream in STREAMS
        ]
    sys.stdout.write(json.dumps(results, indent=2) + "\n" if chosen.json else table(results))


def table(results: Sequence[dict[str, str | float]]) -> str:
    """The results as aligned text, one line per stream."""
    lines = ["clips per second (median; one core for batches)", ""]
    lines.append(f"{'pipeline':9} {'stream':13} {'batches':>9} {'0 workers':>10} {'2 workers':>10} {'ratio to 0':>11} {'ratio to 2':>11}")
    for row in results:
        speeds = f"{row['batches']:9.0f} {row['workers_0']:10.0f} {row['workers_2']:10.0f}"
        lines.append(f"{row['pipeline']:9} {row['stream']:13} {speeds} {row['ratio_0']:10.1f}x {row['ratio_2']:10.1f}x")
    return "\n".join(lines) + "\n"


def measure(store: Store, pipeline: str, stream: str, *, batch: int, rounds: int) -> dict[str, str | float]:
    """Median clips per second of the batches and of the loaders, which take turns."""
    data = DataConfig(store=str(store.path), protocol="all", stream=stream, frames=FRAMES[pipeline])
    everything = np.arange(store.info.clips)
    ours = Batches(store, everything, data, batch_size=batch, device=torch.device("cpu"), training=True, seed=0, labelled=True)
    feeder = (NTUFeeder if pipeline == "ctr" else UCLAFeeder)(store, data.stream_config, data.frames)
    passes: dict[str, Callable[[int], Iterator[int]]] = {
        "batches": lambda turn: (len(dealt.x) for epoch in range(PASSES) for dealt in ours.epoch(PASSES * turn + epoch))
    }
    for workers in WORKERS:
        loader = DataLoader(feeder, batch_size=batch, shuffle=True, drop_last=True, num_workers=workers, persistent_workers=workers > 0)
        passes[f"workers_{workers}"] = lambda _, loader=loader: (len(x.float()) for x, _ in loader)
    speeds: dict[str, list[float]] = {name: [] for name in passes}
    for turn in range(rounds + 1):
        for name, one_pass in passes.items():
            began = time.perf_counter()
            clips = sum(one_pass(turn))
            if turn > 0:  # the first pass starts workers and reads the file
                speeds[name].append(clips / (time.perf_counter() - began))
    median = {name: statistics.median(values) for name, values in speeds.items()}
    ratios = {f"ratio_{workers}": median["batches"] / median[f"workers_{workers}"] for workers in WORKERS}
    return {"pipeline": pipeline, "stream": stream, **median, **ratios}


def synthesise(out: Path, pipeline: str, count: int) -> Store:
    """A store of random walks with the lengths and persons of the pipeline's recordings."""
    rng = np.random.default_rng(0)
    joints = 25 if pipeline == "ctr" else 20

    def clips() -> Iterator[Clip]:
        for number in range(count):
            length = int(np.clip(rng.gamma(8, MEAN_LENGTH[pipeline] / 8), 15, LONGEST))
            persons = 1 + int(rng.random() < TWO_PERSONS[pipeline])
            pose = rng.normal(size=(persons, 1, joints, 3)) * 0.3 + [0, 0, 3]
            walk = np.cumsum(rng.normal(size=(persons, length, joints, 3)) * 0.01, axis=1)
            yield Clip(f"{number:06}", number % 10, (pose + walk).astype(np.float32))

    everything = ProtocolRule(column="label", train=tuple(range(9)), test=(9,))
    names = tuple(f"class {label}" for label in range(10))
    write_store(
        out, clips(), Description(name=pipeline, layout=LAYOUT[pipeline], classes=names, pipeline=pipeline, protocols={"all": everything})
    )
    return Store.open(out)


class NTUFeeder(Dataset[Sample]):
    """One clip at a time: count valid frames, crop, resize, rotate, bone, motion, as CTR-GCN's feeder_ntu does it."""

    def __init__(self, store: Store, stream: StreamConfig, frames: int) -> None:
        self.stream, self.frames = stream, frames
        self.parents = store.layout.parents
        self.label = store.column("label")
        padded = np.zeros((store.info.clips, LONGEST, 2, store.layout.size, 3), np.float32)
        for number in range(store.info.clips):
            joints = store.clip(number) - store.clip(number)[0, 0, store.layout.origin]
            padded[number, : joints.shape[1], : joints.shape[0]] = joints.transpose(1, 0, 2, 3)
        self.data = padded.transpose(0, 4, 1, 3, 2)  # (n, C, T, V, M), a view as in the feeder

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Sample:
        clip = np.array(self.data[index])
        valid = int(np.sum(clip.sum(0).sum(-1).sum(-1) != 0))
        data: torch.Tensor | np.ndarray = rotate(self.crop(clip, valid))
        if self.stream.bone:
            bone = np.zeros_like(data)
            for joint, parent in enumerate(self.parents):
                bone[:, :, joint] = data[:, :, joint] - data[:, :, parent]
            data = bone
        if self.stream.motion:
            data[:, :-1] = data[:, 1:] - data[:, :-1]
            data[:, -1] = 0
        return data, int(self.label[index])

    def crop(self, data: np.ndarray, valid: int) -> torch.Tensor:
        """A random half to whole of the valid frames, brought to `frames` frames."""
        kept = min(max(int(np.floor(valid * np.random.uniform(0.5, 1))), 64), valid)  # noqa: NPY002 - as the feeder draws
        first = np.random.randint(0, valid - kept + 1)  # noqa: NPY002 - as the feeder draws
        coordinates, _, joints, persons = data.shape
        flat = torch.tensor(data[:, first : first + kept]).permute(0, 2, 3, 1).contiguous().view(1, 1, -1, kept)
        resized = F.interpolate(flat, size=(flat.shape[2], self.frames), mode="bilinear", align_corners=False)
        return resized.view(coordinates, joints, persons, self.frames).permute(0, 3, 1, 2).contiguous()


def rotate(data: torch.Tensor) -> torch.Tensor:
    """One rotation by up to 0.3 radians around every axis, made and applied frame by frame as the feeder does. data: (C, T, V, M)."""
    coordinates, frames, joints, persons = data.shape
    angle = torch.zeros(3).uniform_(-0.3, 0.3).expand(frames, 3)
    cos, sin = angle.cos(), angle.sin()
    zero, one = torch.zeros(frames), torch.ones(frames)

    def matrix(*rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=1)  # (T, 3, 3)

    x = matrix((one, zero, zero), (zero, cos[:, 0], sin[:, 0]), (zero, -sin[:, 0], cos[:, 0]))
    y = matrix((cos[:, 1], zero, -sin[:, 1]), (zero, one, zero), (sin[:, 1], zero, cos[:, 1]))
    z = matrix((cos[:, 2], sin[:, 2], zero), (-sin[:, 2], cos[:, 2], zero), (zero, zero, one))
    turned = z.matmul(y).matmul(x).matmul(data.permute(1, 0, 2, 3).contiguous().view(frames, coordinates, -1))
    return turned.view(frames, coordinates, joints, persons).permute(1, 0, 2, 3).contiguous()


class UCLAFeeder(Dataset[Sample]):
    """One clip at a time: centre, view change, fit to [-1, 1], sample, bone, motion, in float64 as CTR-GCN's feeder_ucla does it."""

    def __init__(self, store: Store, stream: StreamConfig, frames: int) -> None:
        self.stream, self.frames = stream, frames
        self.parents, self.origin = store.layout.parents, store.layout.origin
        self.label = store.column("label")
        self.clips = [store.clip(number)[0].astype(np.float64) for number in range(store.info.clips)]

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Sample:
        clip = self.clips[index]
        points = self.view(clip - clip[0, self.origin])
        fitted = (points - np.min(points, axis=0)) / (np.max(points, axis=0) - np.min(points, axis=0))
        fitted = np.reshape(fitted * 2 - 1, clip.shape)
        chosen = random.sample(list(np.arange(len(clip))) * 100, self.frames)
        chosen.sort()
        data = fitted[chosen]
        if self.stream.bone:
            bone = np.zeros_like(data)
            for joint, parent in enumerate(self.parents):
                bone[:, joint] = data[:, joint] - data[:, parent]
            data = bone
        if self.stream.motion:
            moved = np.zeros_like(data)
            moved[:-1] = data[1:] - data[:-1]
            data = moved
        return data.transpose(2, 0, 1)[..., None], int(self.label[index])

    def view(self, clip: np.ndarray) -> np.ndarray:
        """All joints (T * V, 3) after a random change of view."""
        x, y = (math.radians(random.randint(-60, 60)) for _ in range(2))
        scale = np.diag([random.uniform(0.5, 1.5)] * 3)
        rx = np.asarray([[1, 0, 0], [0, math.cos(x), math.sin(x)], [0, -math.sin(x), math.cos(x)]])
        ry = np.asarray([[math.cos(y), 0, -math.sin(y)], [0, 1, 0], [math.sin(y), 0, math.cos(y)]])
        return np.dot(np.reshape(clip, (-1, 3)), np.dot(ry, np.dot(rx, scale)))


if __name__ == "__main__":
    main()
