"""What the sample names of NTU RGB+D 60 and 120 say, and the lists that both releases come with.

Knows neither skeletons nor stores.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from trainables.data.store.protocols import ProtocolRule

Release = Literal[60, 120]

CLIPS: dict[Release, int] = {60: 56_578, 120: 113_945}
"""Samples of a release that have usable skeletons."""
CITATIONS: dict[Release, str] = {
    60: (
        "A. Shahroudy, J. Liu, T.-T. Ng, G. Wang, NTU RGB+D: A Large Scale Dataset for 3D Human"
        " Activity Analysis, CVPR 2016"
    ),
    120: (
        "J. Liu, A. Shahroudy, M. Perez, G. Wang, L.-Y. Duan, A. C. Kot, NTU RGB+D 120: A"
        " Large-Scale Benchmark for 3D Human Activity Understanding, TPAMI 42(10), 2020"
    ),
}
EXAMPLE = "S001C001P001R001A001"
_NAME = re.compile(r"S([0-9]{3})C([0-9]{3})P([0-9]{3})R([0-9]{3})A([0-9]{3})")
_LARGEST = (32, 3, 106, 2, 120)
_SETUPS_OF_60, _ACTIONS_OF_60 = 17, 60

_TRAIN_60 = (1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38)
_TRAIN_120 = (
    *_TRAIN_60,
    *(
        45,
        46,
        47,
        49,
        50,
        52,
        53,
        54,
        55,
        56,
        57,
        58,
        59,
        70,
        74,
        78,
        80,
        81,
        82,
        83,
        84,
        85,
        86,
        89,
        91,
        92,
        93,
        94,
        95,
        97,
        98,
        100,
        103,
    ),
)


@dataclass(frozen=True, slots=True)
class NtuName:
    """The numbers of a sample's name, all counted from 1.

    `take` is what the data set calls replication.
    """

    setup: int
    camera: int
    subject: int
    take: int
    action: int

    @property
    def label(self) -> int:
        """The class, counted from 0."""
        return self.action - 1

    @property
    def in_60(self) -> bool:
        """Whether the sample is part of NTU RGB+D 60, the older half of NTU RGB+D 120."""
        return self.setup <= _SETUPS_OF_60 and self.action <= _ACTIONS_OF_60


def parse_name(text: str) -> NtuName | None:
    """The numbers of a name SsssCcccPpppRrrrAaaa; None where `text` is not the name of a sample of
    either release.
    """
    match = _NAME.fullmatch(text)
    numbers = [int(digits) for digits in match.groups()] if match else []
    if not match or not all(
        1 <= number <= largest for number, largest in zip(numbers, _LARGEST, strict=True)
    ):
        return None
    return NtuName(*numbers)


def protocols(release: Release) -> dict[str, ProtocolRule]:
    """The two published protocols; values stand in the order in which the CTR-GCN pipeline saves
    their clips.
    """
    train = _TRAIN_60 if release == 60 else _TRAIN_120
    subjects = range(1, 41 if release == 60 else 107)
    xsub = ProtocolRule(
        column="subject",
        train=train,
        test=tuple(subject for subject in subjects if subject not in train),
    )
    if release == 60:
        return {"xsub": xsub, "xview": ProtocolRule(column="camera", train=(2, 3), test=(1,))}
    return {
        "xsub": xsub,
        "xset": ProtocolRule(
            column="setup", train=tuple(range(2, 33, 2)), test=tuple(range(1, 33, 2))
        ),
    }


def saved_order(names: Sequence[NtuName], rule: ProtocolRule) -> dict[str, list[int]]:
    """Positions in `names` of the rows of x_train and x_test as the CTR-GCN pipeline saves them:
    value by value of the rule, then as listed.
    """
    values = [getattr(name, rule.column) for name in names]
    wanted = {"train": rule.train, "test": rule.test}
    return {
        part: [
            position
            for value in wanted[part]
            for position, has in enumerate(values)
            if has == value
        ]
        for part in wanted
    }


@cache
def actions() -> tuple[str, ...]:
    """The 120 actions as the data set's authors call them; the
    first 60 are those of NTU RGB+D 60.
    """
    return tuple(_lines("ntu_actions.txt"))


@cache
def without_skeletons() -> frozenset[str]:
    """The 535 samples that the authors list as having missing or incomplete skeletons; 302 of them
    are part of NTU RGB+D 60.
    """
    return frozenset(_lines("ntu_missing.txt"))


def _lines(file: str) -> list[str]:
    return Path(__file__).with_name(file).read_text(encoding="ascii").splitlines()
