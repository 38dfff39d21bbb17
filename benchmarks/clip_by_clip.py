"""Synthetic recordings, and the feeders of CTR-GCN that read and augment them clip by clip, which
the data path is compared with.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import Dataset

from trainables.contract.config import StreamConfig
from trainables.data.store.reading import Clip, Description, ProtocolRule, Store, write_store

MEAN_LENGTH = {"ctr": 80, "ucla": 40}
TWO_PERSONS = {"ctr": 0.22, "ucla": 0.0}
LATE = 0.2  # of the second persons come late
PERSONS = {"ctr": 2, "ucla": 1}
LAYOUT = {"ctr": "ntu25", "ucla": "ucla20"}
LONGEST = 300
STORAGES: tuple[Literal["float32", "int16"], ...] = ("float32", "int16")
Sample = tuple[torch.Tensor | np.ndarray, int]


def described(pipeline: str) -> Description:
    """What the synthetic stores say of themselves."""
    everything = ProtocolRule(column="label", train=tuple(range(9)), test=(9,))
    names = tuple(f"class {label}" for label in range(10))
    return Description(
        name=pipeline,
        layout=LAYOUT[pipeline],
        classes=names,
        persons=PERSONS[pipeline],
        pipeline=pipeline,
        protocols={"all": everything},
    )


def synthesise(out: Path, pipeline: str, count: int, storage: Literal["float32", "int16"]) -> Store:
    """A store of random walks with the lengths and persons of the pipeline's recordings."""
    rng = np.random.default_rng(0)
    joints = 25 if pipeline == "ctr" else 20

    def clips() -> Iterator[Clip]:
        for number in range(count):
            length = int(np.clip(rng.gamma(8, MEAN_LENGTH[pipeline] / 8), 15, LONGEST))
            persons = 1 + int(rng.random() < TWO_PERSONS[pipeline])
            pose = rng.normal(size=(persons, 1, joints, 3)) * 0.3 + [0, 0, 3]
            walk = pose + np.cumsum(rng.normal(size=(persons, length, joints, 3)) * 0.01, axis=1)
            if persons == 2 and rng.random() < LATE:
                walk[1, : length // 3] = 0
            yield Clip(f"{number:06}", number % 10, walk.astype(np.float32))

    write_store(out, clips(), described(pipeline), storage=storage)
    return Store.open(out)


class NTUFeeder(Dataset[Sample]):
    """One clip at a time: count valid frames, crop, resize, rotate, bone, motion, as CTR-GCN's
    feeder_ntu does it.
    """

    def __init__(self, store: Store, stream: StreamConfig, frames: int) -> None:
        self.stream, self.frames = stream, frames
        self.parents = store.layout.parents
        self.label = store.column("label")
        padded = np.zeros((store.info.clips, LONGEST, 2, store.layout.size, 3), np.float32)
        for number in range(store.info.clips):
            joints = store.clip(number)
            centred = np.where(
                joints.any(axis=(2, 3), keepdims=True),
                joints - joints[0, 0, store.layout.origin],
                0,
            )
            padded[number, : joints.shape[1], : joints.shape[0]] = centred.transpose(1, 0, 2, 3)
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
        share = np.random.uniform(0.5, 1)  # noqa: NPY002 - as the feeder draws
        kept = min(max(int(np.floor(valid * share)), 64), valid)
        first = np.random.randint(0, valid - kept + 1)  # noqa: NPY002 - as the feeder draws
        coordinates, _, joints, persons = data.shape
        flat = (
            torch.tensor(data[:, first : first + kept])
            .permute(0, 2, 3, 1)
            .contiguous()
            .view(1, 1, -1, kept)
        )
        resized = F.interpolate(
            flat, size=(flat.shape[2], self.frames), mode="bilinear", align_corners=False
        )
        return (
            resized.view(coordinates, joints, persons, self.frames).permute(0, 3, 1, 2).contiguous()
        )


def rotate(data: torch.Tensor) -> torch.Tensor:
    """One rotation by up to 0.3 radians around every axis, made and applied frame by frame as the
    feeder does. data: (C, T, V, M).
    """
    coordinates, frames, joints, persons = data.shape
    angle = torch.zeros(3).uniform_(-0.3, 0.3).expand(frames, 3)
    cos, sin = angle.cos(), angle.sin()
    zero, one = torch.zeros(frames), torch.ones(frames)

    def matrix(*rows: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=1)  # (T, 3, 3)

    x = matrix((one, zero, zero), (zero, cos[:, 0], sin[:, 0]), (zero, -sin[:, 0], cos[:, 0]))
    y = matrix((cos[:, 1], zero, -sin[:, 1]), (zero, one, zero), (sin[:, 1], zero, cos[:, 1]))
    z = matrix((cos[:, 2], sin[:, 2], zero), (-sin[:, 2], cos[:, 2], zero), (zero, zero, one))
    turned = (
        z.matmul(y)
        .matmul(x)
        .matmul(data.permute(1, 0, 2, 3).contiguous().view(frames, coordinates, -1))
    )
    return turned.view(frames, coordinates, joints, persons).permute(1, 0, 2, 3).contiguous()


class UCLAFeeder(Dataset[Sample]):
    """One clip at a time: centre, view change, fit to [-1, 1], sample, bone, motion, in float64 as
    CTR-GCN's feeder_ucla does it.
    """

    def __init__(self, store: Store, stream: StreamConfig, frames: int) -> None:
        self.stream, self.frames = stream, frames
        self.parents, self.origin = store.layout.parents, store.layout.origin
        self.label = store.column("label")
        self.clips = [
            store.clip(number)[0].astype(np.float64) for number in range(store.info.clips)
        ]

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Sample:
        clip = self.clips[index]
        points = self.view(clip - clip[0, self.origin])
        fitted = (points - np.min(points, axis=0)) / (
            np.max(points, axis=0) - np.min(points, axis=0)
        )
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
