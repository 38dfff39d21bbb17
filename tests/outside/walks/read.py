"""A folder of JSON files {"label": 0, "person": 3, "joints": [[[x, y, z], ...], ...]} in metres."""

import json
from pathlib import Path

import numpy as np

from trainables.contract.errors import UserError
from trainables.contract.foreign_files import reading
from trainables.data.store.description import Clip, Description, Recordings
from trainables.data.store.protocols import ProtocolRule


def read_walks(src: Path) -> Recordings:
    """The clips of `src`, of NW-UCLA's 20 joints; persons 1 and 2 train."""
    files = sorted(src.glob("*.json"))
    if not files:
        raise UserError(f"{src}: must hold .json files, got none")
    description = Description(
        name="walks",
        classes=("walk", "run"),
        layout="ucla20",
        persons=1,
        pipeline="ctr",
        protocols={"xsub": ProtocolRule(column="subject", train=(1, 2), test=(3,))},
        provenance={"kind": "walks"},
    )
    return Recordings(description, map(_clip, files), len(files))


def _clip(path: Path) -> Clip:
    """joints: (M, T, V, 3)."""
    with reading(path, "a clip in JSON"):  # one UserError, whatever is wrong with the file
        record = json.loads(path.read_text())
        joints = np.asarray(record["joints"], dtype=np.float32)[None]
        return Clip(path.stem, record["label"], joints, subject=record["person"])
