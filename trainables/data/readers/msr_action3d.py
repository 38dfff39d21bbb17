"""MSR-Action3D skeletons: one text file per clip, 20 lines of x y z confidence per frame.

Knows nothing of stores.

Data set: W. Li, Z. Zhang, Z. Liu, "Action Recognition Based on a Bag of 3D Points", CVPR Workshops
2010. The list of the clips that papers use comes with the code of R. Vemulapalli, F. Arrate, R.
Chellappa, "Human Action Recognition by Representing 3D Skeletons as Points in a Lie Group", CVPR
2014.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trainables.contract.errors import UserError
from trainables.contract.foreign_files import read_text
from trainables.contract.names import shown
from trainables.data.readers.checks import Problems, checked_joints
from trainables.data.readers.licences import LICENCES
from trainables.data.store.description import Clip, Description, Joints, Recordings
from trainables.data.store.protocols import ProtocolRule
from trainables.layouts import LAYOUTS

CLASSES = (
    "high arm wave",
    "horizontal arm wave",
    "hammer",
    "hand catch",
    "forward punch",
    "high throw",
    "draw X",
    "draw tick",
    "draw circle",
    "hand clap",
    "two hand wave",
    "side boxing",
    "bend",
    "forward kick",
    "side kick",
    "jogging",
    "tennis swing",
    "tennis serve",
    "golf swing",
    "pickup and throw",
)
_NAME = re.compile(r"a(\d{2})_s(\d{2})_e(\d{2})")
_SUFFIX = "_skeleton3D.txt"
_LIST = "files_used_in_cvpr12_paper.txt"


def read_msr_action3d(src: Path, *, all_clips: bool = False) -> Recordings:
    """The 557 clips that papers use, or every clip there is, from `real_world_coordinates/` in
    `src`.
    """
    folder = src / "real_world_coordinates"
    if not folder.is_dir():
        raise UserError(
            f"{src}: must be the MSRAction3D folder, but there is no {folder.name}/ in it"
        )
    names = _present(folder) if all_clips else _listed(folder / _LIST)
    problems = Problems()
    for name in names:
        match = _NAME.fullmatch(name)
        if not match or not 1 <= int(match[1]) <= len(CLASSES):
            problems.add(
                f"{folder}: clip names must look like a01_s01_e01 with an action from 1 to"
                f" {len(CLASSES)}, got {shown(name)}"
            )
    problems.raise_any()
    description = Description(
        name="msr-action3d",
        layout="msr20",
        classes=CLASSES,
        pipeline="ucla",
        protocols={
            "xsub": ProtocolRule(column="subject", train=(1, 3, 5, 7, 9), test=(2, 4, 6, 8, 10))
        },
        provenance={
            "kind": "msr-action3d",
            "licence": LICENCES["msr-action3d"],
            "citation": (
                "W. Li, Z. Zhang, Z. Liu, Action Recognition Based on a Bag of 3D Points, CVPR"
                " Workshops 2010"
            ),
            "clips": "all" if all_clips else f"those in {_LIST}",
        },
    )
    return Recordings(description, _clips(folder, names), len(names))


def _present(folder: Path) -> list[str]:
    names = sorted(file.name.removesuffix(_SUFFIX) for file in folder.glob(f"*{_SUFFIX}"))
    if not names:
        raise UserError(
            f"{folder}: must hold clips named like a01_s01_e01{_SUFFIX}, but there are none"
        )
    return names


def _listed(file: Path) -> list[str]:
    """The clip names of a list file, sorted; each must be there once."""
    names = read_text(file, "the list of clips (--all-clips does without)").split()
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        raise UserError(
            f"{file}: must name each clip once, got"
            f" {'twice: ' + ', '.join(twice) if twice else 'an empty list'}"
        )
    return sorted(names)


def _clips(folder: Path, names: list[str]) -> Iterator[Clip]:
    """Every named clip; all problems together at the end."""
    problems = Problems()
    for name in names:
        try:
            joints = clip_joints(folder / f"{name}{_SUFFIX}")
        except UserError as error:
            problems.add(str(error))
            continue
        action, subject, take = (int(number) for number in re.findall(r"\d+", name))
        yield Clip(name, action - 1, joints, subject=subject, take=take)
    problems.raise_any()


def clip_joints(file: Path) -> Joints:
    """(1, T, 20, 3) in metres; the confidence is dropped."""
    count = LAYOUTS["msr20"].size
    text = read_text(file, "the text of a clip")
    rows = [line.split() for line in text.splitlines() if line.strip()]
    wrong = next((number for number, row in enumerate(rows, 1) if len(row) != 4), None)
    if wrong is not None:
        raise UserError(
            f"{file}:{wrong}: a line must have 4 numbers (x y z confidence), got"
            f" {len(rows[wrong - 1])}"
        )
    if not rows or len(rows) % count:
        raise UserError(
            f"{file}: must have {count} lines per frame, got {len(rows)} lines; it was cut short or"
            " has another layout"
        )
    try:
        values = np.array(rows, dtype=np.float32)
    except ValueError as error:
        raise UserError(f"{file}: every entry must be a number: {error}") from error
    return checked_joints(str(file), values.reshape(-1, count, 4)[..., :3], count)
