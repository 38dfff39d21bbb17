"""Rules become splits: disjoint, deterministic, and with whole subjects held out."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError

from trainables.contract.config import SelectionConfig
from trainables.contract.errors import UserError
from trainables.data.store.protocols import Column, ProtocolRule, Split, split_clips

CLIPS = 120
XVIEW = ProtocolRule(column="camera", train=(1, 2), test=(3,))


def columns(name: str) -> Column:
    """120 clips: 10 subjects, 3 cameras, 4 classes of 60, 36, 20 and 4 clips."""
    place = np.arange(CLIPS)
    own = {
        "camera": place % 3 + 1,
        "subject": place // 3 % 10,
        "label": np.repeat([0, 1, 2, 3], [60, 36, 20, 4]),
    }
    return own[name]


def split(rule: ProtocolRule = XVIEW, **selection: object) -> Split:
    return split_clips("p", rule, columns, SelectionConfig.model_validate(selection))


DRAWS = [
    {"kind": kind, "fraction": fraction}
    for kind in ("subject", "clip")
    for fraction in (0.01, 0.1, 0.5, 0.99)
]


@pytest.mark.parametrize("selection", [*DRAWS, {"kind": "none"}])
def test_parts_are_ascending_and_share_nothing(selection: dict[str, object]) -> None:
    made = split(**selection)
    everything = np.concatenate([made.train, made.selection, made.test])
    assert sorted(everything) == list(range(CLIPS))
    for part in (made.train, made.selection, made.test):
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
    assert set(columns("camera")[made.test]) == {3}
    assert len(made.train)
    assert bool(len(made.selection)) == (selection["kind"] != "none")


@pytest.mark.parametrize(
    ("fraction", "count"), [(0.01, 1), (0.1, 1), (0.2, 2), (0.25, 2), (0.5, 5), (0.99, 9)]
)
def test_whole_subjects_are_held_out(fraction: float, count: int) -> None:
    made = split(kind="subject", fraction=fraction)
    trained, held_out = (
        set(columns("subject")[part].tolist()) for part in (made.train, made.selection)
    )
    assert not trained & held_out
    assert len(held_out) == count
    assert len(trained) == 10 - count


def test_more_subjects_contain_fewer() -> None:
    few, many = (
        set(split(kind="subject", fraction=fraction).selection.tolist()) for fraction in (0.1, 0.3)
    )
    assert few < many


def test_clips_are_held_out_by_class() -> None:
    made = split(kind="clip", fraction=0.25)
    labels = columns("label")
    total, held_out = (
        Counter(labels[np.union1d(made.train, made.selection)].tolist()),
        Counter(labels[made.selection].tolist()),
    )
    assert len(made.selection) == 20
    for label, number in total.items():
        assert abs(held_out[label] - 0.25 * number) < 1


def test_every_class_keeps_a_clip_for_training() -> None:
    made = split(kind="clip", fraction=0.99)
    assert set(columns("label")[made.train].tolist()) == {0, 1, 2, 3}
    assert len(made.train) == 4


@pytest.mark.parametrize("kind", ["subject", "clip"])
def test_the_seed_decides_alone(kind: str) -> None:
    drawn = [
        tuple(split(kind=kind, fraction=0.2, seed=seed).selection.tolist())
        for seed in (*range(8), 0)
    ]
    assert drawn[0] == drawn[-1]
    assert len(set(drawn)) > 4


def test_the_data_sets_own_validation_part() -> None:
    own = ProtocolRule(column="camera", train=(1,), test=(3,), selection=(2,))
    made = split(own, kind="protocol")
    assert [
        set(columns("camera")[part].tolist()) for part in (made.train, made.selection, made.test)
    ] == [{1}, {2}, {3}]
    for kind in ("subject", "none"):
        other = split(own, kind=kind)
        assert set(columns("camera")[np.union1d(other.train, other.selection)].tolist()) == {1}


def test_a_number_and_its_text_are_different_values() -> None:
    with pytest.raises(
        UserError,
        match=r"protocol 'p': train must match at least one clip, but no camera is one of '1'",
    ):
        split(ProtocolRule(column="camera", train=("1",), test=(3,)))


@pytest.mark.parametrize(
    ("rule", "selection", "message"),
    [
        (
            ProtocolRule(column="camera", train=(1,), test=(7,)),
            {},
            "test must match at least one clip, but no camera is one of 7",
        ),
        (XVIEW, {"kind": "protocol"}, "needs a validation split, this one has none"),
        (
            ProtocolRule(column="camera", train=(1,), test=(3,), selection=(9,)),
            {"kind": "protocol"},
            "selection must match at least one clip",
        ),
        (
            ProtocolRule(column="subject", train=(1,), test=(3,)),
            {"kind": "subject"},
            "needs at least 2 training subjects, got 1",
        ),
    ],
)
def test_impossible_splits_are_refused(
    rule: ProtocolRule, selection: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        split(rule, **selection)


def test_unknown_subjects_are_refused() -> None:
    def without_subjects(name: str) -> Column:
        return np.array([None] * CLIPS, dtype=object) if name == "subject" else columns(name)

    with pytest.raises(UserError, match="needs a subject for every training clip"):
        split_clips("p", XVIEW, without_subjects, SelectionConfig())


@pytest.mark.parametrize(
    "parts",
    [
        {"train": (1, 2), "test": (2,)},
        {"train": (1, 1), "test": (2,)},
        {"train": (), "test": (1,)},
        {"train": (1,), "test": ()},
    ],
)
def test_rules_without_sense_are_refused(parts: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(ValidationError):
        ProtocolRule(column="camera", **parts)


@pytest.mark.parametrize("fraction", [0.999, 1 - 2**-53])
def test_every_class_keeps_exactly_one_clip_where_nearly_all_are_held_out(fraction: float) -> None:
    made = split(kind="clip", fraction=fraction)
    assert Counter(columns("label")[made.train].tolist()) == {0: 1, 1: 1, 2: 1, 3: 1}


def test_classes_of_a_single_clip_have_none_to_hold_out() -> None:
    def one_each(name: str) -> Column:
        return np.arange(4) if name == "label" else columns(name)[:4]

    rule = ProtocolRule(column="camera", train=(1, 2), test=(3,))
    with pytest.raises(UserError, match="needs a class with at least 2 training clips, got 3"):
        split_clips("p", rule, one_each, SelectionConfig(kind="clip", fraction=0.5))


def test_values_of_two_parts_are_named() -> None:
    with pytest.raises(ValidationError, match="belong to one part of the split, got 2 more than"):
        ProtocolRule(column="camera", train=(1, 2), test=(2,))
    for part in ("train", "test"):
        with pytest.raises(ValidationError):
            ProtocolRule(**{"column": "camera", "train": (1,), "test": (2,), part: ()})


@pytest.mark.parametrize(("number", "more"), [(10, ""), (11, ", ...")])
def test_a_part_that_matches_nothing_names_ten_values(number: int, more: str) -> None:
    values = tuple(range(100, 100 + number))
    listed = ", ".join(map(str, values[:10]))
    rule = ProtocolRule(column="camera", train=(1,), test=values)
    with pytest.raises(UserError, match=f"no camera is one of {listed}{more}$"):
        split(rule)


@pytest.mark.parametrize("subjects", [1, 2])
def test_of_two_subjects_one_is_held_out_and_of_one_none_can_be(subjects: int) -> None:
    def few(name: str) -> Column:
        return np.arange(4) % subjects + 1 if name == "subject" else columns(name)[:4]

    rule = ProtocolRule(column="camera", train=(1, 2), test=(3,))
    kind = SelectionConfig(kind="subject", fraction=0.9)
    if subjects == 2:
        found = split_clips("p", rule, few, kind)
        held_out = set(few("subject")[found.selection].tolist())
        assert len(held_out) == 1
        assert held_out.isdisjoint(few("subject")[found.train].tolist())
    else:
        with pytest.raises(UserError, match="needs at least 2 training subjects, got 1"):
            split_clips("p", rule, few, kind)


def test_of_few_clips_one_is_held_out_however_small_the_fraction() -> None:
    made = split(kind="clip", fraction=0.0001)
    assert len(made.selection) == 1
