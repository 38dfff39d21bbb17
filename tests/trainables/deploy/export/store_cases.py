"""Small stores of every kind of data set, whose clips are difficult in the ways real ones are."""

from __future__ import annotations

import numpy as np

from trainables.contract.config import DataConfig
from trainables.data.readers.detected import hide_unseen
from trainables.data.store.reading import Clip, Description, ProtocolRule, Store, write_store
from trainables.layouts import LAYOUTS

SPLIT = ProtocolRule(column="split", train=("train",), test=("test",))
# kind of store -> layout, channels, pipeline, storage
KINDS = {
    "ctr": ("ntu25", "xyz", "ctr", "float32"),
    "int16": ("ntu25", "xyz", "ctr", "int16"),
    "coco": ("coco17", "xyz", "ctr", "float32"),
    "ucla": ("ucla20", "xyz", "ucla", "float32"),
    "pyskl": ("ntu25", "xyz", "pyskl", "float32"),
    "pyskl xy": ("coco17", "xy", "pyskl", "float32"),
    "pyskl xyc": ("coco17", "xyc", "pyskl", "float32"),
}
# frames and persons of the clips; the last ones are made difficult
SHAPES = [(1, 1), (2, 2), (7, 2), (8, 1), (12, 2), (16, 1), (45, 2), (130, 1), (40, 2), (30, 2)]


def store_of(path, kind, shapes=SHAPES):
    """A store of that kind."""
    layout, channels, pipeline, storage = KINDS[kind]
    generator = np.random.default_rng(0)
    clips = []
    for number, (frames, persons) in enumerate(shapes):
        joints = generator.normal(size=(persons, frames, LAYOUTS[layout].size, 3))
        if channels != "xyz":
            joints = 100.0 + 50.0 * joints
            joints[..., 2] = generator.uniform(size=joints.shape[:-1]) if channels == "xyc" else 0.0
        joints = joints.astype(np.float32)
        make_difficult(joints, number, generator)
        clips.append(
            Clip(
                f"clip {number:03d}",
                number % 3,
                hide_unseen(joints) if channels == "xyc" else joints,
                subject=number % 4,
                extra={"split": "test" if number % 4 == 3 else "train"},
            )
        )
    description = Description(
        name=kind,
        layout=layout,
        channels=channels,
        classes=("sit", "stand", "wave"),
        persons=2,
        pipeline=pipeline,
        protocols={"split": SPLIT},
    )
    write_store(path, clips, description, storage=storage)
    return Store.open(path)


def make_difficult(joints, number, generator):
    """Joints (M, T, V, 3) of some clips lose what recordings lose, in place."""
    persons, frames = joints.shape[:2]
    if number % 5 == 2:  # single joints
        joints[generator.uniform(size=joints.shape[:3]) < 0.2] = 0
    if number % 5 == 3:  # person 0 comes later, so the other one is there more often
        joints[0, : frames // 2] = 0
    if number % 5 == 4:  # gaps
        joints[:, generator.uniform(size=frames) < 0.3] = 0
        joints[0, frames // 3 : frames // 2] = 0
    if number == 8:  # nobody at all
        joints[:] = 0
    if number == 9 and persons > 1:  # nobody but the second
        joints[0] = 0


def seen(store, stream="joint", **leaves):
    return DataConfig.model_validate(
        {"store": str(store.path), "protocol": "split", "stream": stream, "frames": 8, **leaves}
    )


def raw(store, position):
    """(1, C, T, V, M) of a clip as people give it to a file, persons who are not there zero."""
    joints = store.clip(position)  # (M, T, V, 3)
    if store.info.channels == "xy":
        joints = joints[..., :2]
    clip = np.moveaxis(joints, (3, 0), (0, 3))
    free = store.info.persons - clip.shape[3]
    return np.pad(clip, [(0, 0)] * 3 + [(0, free)])[None]
