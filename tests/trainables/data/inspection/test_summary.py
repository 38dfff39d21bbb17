"""What `data info` counts, against counting by hand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.naive_stores import clip, store
from trainables.data.inspection.summary import MOST_BINS, length_bins, summarise
from trainables.data.store.reading import Clip, ProtocolRule, Store


@pytest.fixture
def made(tmp_path: Path) -> Store:
    rules = {
        "split": ProtocolRule(column="split", train=("train",), test=("test",), selection=("val",)),
        "cameras": ProtocolRule(column="camera", train=(1,), test=(2,)),
    }
    clips = [
        clip("a", 0, subject=1, camera=1, frames=3),
        clip("b", 1, subject=1, camera=2, frames=5, split="test"),
        clip("c", 1, subject=None, camera=1, frames=5, split="val", persons=2),
        clip("d", 1, subject=2, camera=3, frames=8, split=None),
        Clip("e", -1, clip("e").joints, subject=2, camera=2, extra={"split": "train"}),
        Clip("f", 7, clip("f").joints, subject=2, camera=2, extra={"split": "test"}),
    ]
    return store(tmp_path / "s", clips, classes=3, protocols=rules)


def test_summary_of_a_store(made: Store) -> None:
    summary = summarise(made)
    assert summary["clips"] == 6
    # labels outside the classes belong to none
    assert summary["classes"] == {"class 0": 1, "class 1": 3, "class 2": 0}
    assert summary["length"] == {"min": 3, "median": 5.0, "max": 8}
    assert summary["persons_per_clip"] == {"1": 5, "2": 1}
    assert (summary["channels"], summary["storage"]) == ("xyz", "float32")
    assert summary["protocols"] == {
        "split": {"train": 2, "selection": 1, "test": 2},
        "cameras": {"train": 2, "selection": 0, "test": 3},
    }
    assert (summary["subjects"], summary["cameras"]) == ([1, 2], [1, 2, 3])
    assert summary["bytes"] == sum(file.stat().st_size for file in made.path.iterdir())


def test_counts_of_groups_and_parts_match_counting_clip_by_clip(made: Store) -> None:
    counts = summarise(made)["counts"]
    values = {"split": made.column("split"), "cameras": made.column("camera")}
    parts = {
        "split": {"train": "train", "selection": "val", "test": "test"},
        "cameras": {"train": 1, "selection": None, "test": 2},
    }
    names = {0: "class 0", 1: "class 1"}
    groups = {
        "class": [names.get(label) for label in made.column("label").tolist()],
        "subject": made.column("subject").tolist(),
        "camera": made.column("camera").tolist(),
    }
    assert list(counts["class"]) == ["class 0", "class 1", "class 2"]
    for group, own in groups.items():
        for name, row in counts[group].items():
            here = [i for i in range(6) if own[i] is not None and str(own[i]) == name]
            assert row["clips"] == len(here)
            for protocol, of in parts.items():
                assert row["protocols"][protocol] == {
                    part: sum(values[protocol][i] == value for i in here)
                    for part, value in of.items()
                }
    # one clip does not say who is in it
    assert sum(row["clips"] for row in counts["subject"].values()) == 5


@pytest.mark.parametrize(
    "lengths",
    [
        [1],
        [0, 0, 3],
        [7, 7, 7],
        list(range(1, 13)),
        [13, 50, 100, 936],
        [*range(1, 400), 5000],
        [300] * 50 + [299],
    ],
)
def test_bins_hold_every_clip_once(lengths: list[int]) -> None:
    bins = length_bins(np.array(lengths))
    for each in bins:
        assert each["clips"] == sum(each["from"] <= length <= each["to"] for length in lengths)
    assert sum(each["clips"] for each in bins) == len(lengths)
    assert all(one["to"] + 1 == other["from"] for one, other in pairwise(bins))
    assert len(bins) <= MOST_BINS + 1
    assert bins[0]["clips"] > 0
    assert bins[-1]["clips"] > 0


def test_one_very_long_clip_does_not_set_the_width() -> None:
    bins = length_bins(np.array([20] * 60 + [35] * 60 + [900]))
    assert [each for each in bins if each["clips"]] == [
        {"from": 20, "to": 21, "clips": 60},
        {"from": 34, "to": 35, "clips": 60},
        {"from": 36, "to": 900, "clips": 1},
    ]
