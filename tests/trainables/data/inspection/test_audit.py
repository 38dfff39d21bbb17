"""The audit counts damage, gaps and copies exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.naive_stores import clip, description, store
from trainables.contract.config import SelectionConfig
from trainables.contract.errors import UserError
from trainables.data.inspection.audit import audit_store
from trainables.data.store.reading import Clip, ProtocolRule, Store, write_store

OWN = SelectionConfig(kind="protocol")


@pytest.fixture
def leaky(tmp_path: Path) -> Store:
    """Joints 1: three times in train.

    2: train, selection. 3: train, twice in test. 4: selection, test. 5: test and in no part.
    """
    return store(
        tmp_path / "leaky",
        [
            clip("a1", 0, fill=1),
            clip("a2", 0, fill=1),
            clip("a3", 1, fill=1),
            clip("b1", 1, fill=2),
            clip("b2", 1, fill=2, split="val"),
            clip("c1", 0, fill=3),
            clip("c2", 0, fill=3, split="test"),
            clip("c3", 0, fill=3, split="test"),
            clip("d1", 0, fill=4, split="val"),
            clip("d2", 0, fill=4, split="test"),
            clip("e1", 0, fill=5, split="test"),
            clip("e2", 0, fill=5, split=None),
            clip("f1", 1, fill=6, split="test"),
        ],
    )


def test_copies_are_counted_exactly(leaky: Store) -> None:
    found = audit_store(leaky, ["split"], OWN)
    counts = {
        "within_train": 2,
        "within_selection": 0,
        "within_test": 1,
        "train_selection": 1,
        "train_test": 2,
        "selection_test": 1,
    }
    assert found.protocols["split"].duplicates.counts() == counts
    assert found.record()["duplicates"] == counts
    assert found.copies.count == 7
    assert found.disagreeing_copies.examples == ("a3",)
    own = found.protocols["split"]
    assert (own.train, own.selection, own.test, own.clean_test) == (5, 2, 5, 2)
    assert own.duplicates.train_test.examples == ("c2", "c3")
    assert own.unused.examples == ("e2",)
    assert own.shared.count == 0
    assert found.damage() == ["split: 4 clips have an identical clip in another part"]


def test_copies_depend_on_what_is_held_out(leaky: Store) -> None:
    counts = (
        audit_store(leaky, ["split"], SelectionConfig(kind="none"))
        .protocols["split"]
        .duplicates.counts()
    )
    assert counts == {
        "within_train": 2,
        "within_selection": 0,
        "within_test": 1,
        "train_selection": 0,
        "train_test": 2,
        "selection_test": 0,
    }


def test_copies_match_a_comparison_of_all_pairs(leaky: Store) -> None:
    split = leaky.split("split", OWN)
    same = [[np.array_equal(leaky.clip(i), leaky.clip(j)) for j in range(13)] for i in range(13)]
    counts = audit_store(leaky, ["split"], OWN).protocols["split"].duplicates.counts()
    assert counts["train_test"] == sum(any(same[i][j] for i in split.train) for j in split.test)
    assert counts["within_train"] == sum(
        any(same[i][j] for i in split.train if i < j) for j in split.train
    )


def test_a_clean_store_has_no_findings(tmp_path: Path) -> None:
    clips = [
        clip(f"{k}{split}", k, fill=10 * k + i, split=split)
        for k in range(2)
        for i, split in enumerate(("test", "train", "val"))
    ]
    found = audit_store(store(tmp_path / "s", clips), ["split"], OWN)
    record = found.record()
    protocols = record.pop("protocols")
    assert record.pop("clips") == 6
    assert (record.pop("near"), record.pop("unit")) == (1.0, "mm")
    assert not any(record.pop("duplicates").values())  # type: ignore[attr-defined]
    assert not any(record.pop("near_duplicates").values())  # type: ignore[attr-defined]
    assert not any(record.values())
    assert protocols["split"]["missing_classes"] == {
        "train": [],
        "selection": [],
        "test": [],
        "clean_test": [],
    }  # type: ignore[index]


def test_damage_is_found(tmp_path: Path) -> None:
    normal = clip("x", frames=4).joints

    def changed(
        name: str, place: object, value: float, label: int = 0, split: str = "train"
    ) -> Clip:
        joints = normal.copy()
        joints[place] = value  # type: ignore[index]
        return Clip(name, label, joints, extra={"split": split})

    clips = [
        changed("a_nan", (0, 1, 2, 0), np.nan),
        changed("b_inf", (0, 1, 2, 0), np.inf),
        Clip("c_empty", 0, normal[:, :0], extra={"split": "train"}),
        Clip("d_single", 0, normal[:, :1], extra={"split": "train"}),
        changed("e_zero", slice(None), 0.0),
        changed("f_frame", (slice(None), 2), 0.0),
        changed("g_joint", (0, 3, 5), 0.0),
        changed("h_coordinate", (0, 3, 5, 1), 0.0),
        changed("i_label", (0, 0, 0, 0), 1.0, label=3),
        changed("j_label", (0, 0, 0, 0), 2.0, label=-1, split="test"),
    ]
    found = audit_store(
        store(tmp_path / "s", clips, classes=3), ["split"], SelectionConfig(kind="none")
    )
    assert found.nan.examples == ("a_nan", "b_inf")
    assert found.empty.examples == ("c_empty",)
    assert found.one_frame.examples == ("d_single",)
    assert found.all_zero.examples == ("e_zero",)
    assert found.zero_frames.examples == ("f_frame",)
    assert found.zero_joints.examples == ("g_joint",)
    assert found.unknown_label.examples == ("i_label", "j_label")
    assert found.missing_classes == ("class 1", "class 2")
    assert found.protocols["split"].missing_classes["test"] == ("class 0", "class 1", "class 2")
    assert found.damage() == [
        "nan: 2 clips",
        "empty: 1 clips",
        "all_zero: 1 clips",
        "unknown_label: 2 clips",
    ]


def test_an_absent_second_person_is_no_damage(tmp_path: Path) -> None:
    joints = clip("x", persons=2).joints.copy()
    joints[1, 2:] = 0.0
    clips = [Clip("a", 0, joints, extra={"split": "train"}), clip("b", split="test")]
    found = audit_store(store(tmp_path / "s", clips), ["split"], SelectionConfig(kind="none"))
    assert (found.zero_frames.count, found.zero_joints.count) == (0, 0)


def test_examples_are_few_and_counts_whole(tmp_path: Path) -> None:
    clips = [clip(f"{i:02}", fill=0, split="train" if i else "test") for i in range(12)]
    found = audit_store(store(tmp_path / "s", clips), ["split"], SelectionConfig(kind="none"))
    assert found.copies.count == 11
    assert found.copies.examples == ("01", "02", "03", "04", "05")
    every = [f"{i:02}" for i in range(1, 12)]
    record = found.record()
    assert record["ids"] == {"copies": every}
    own = record["protocols"]["split"]["ids"]  # type: ignore[index]
    assert own == {"duplicates.within_train": every[1:], "duplicates.train_test": ["00"]}


def test_a_part_to_choose_on_is_what_is_held_out(tmp_path: Path) -> None:
    """As a sweep does with `selection.kind: protocol`; an identical clip in it is a leak."""
    made = store(
        tmp_path / "s",
        [
            clip("a", fill=1, subject=1),
            clip("b", fill=2, subject=2),
            clip("c", fill=1, split="val", subject=3),
            clip("d", fill=3, split="test", subject=4),
        ],
    )
    own = audit_store(made).protocols["split"]
    assert (own.selection_kind, own.train, own.selection, own.test) == ("protocol", 2, 1, 1)
    assert own.duplicates.train_selection.ids == ("c",)
    assert own.unused.count == 0


def test_default_selection_needs_subjects_and_says_when_there_are_none(tmp_path: Path) -> None:
    without = store(tmp_path / "without", [clip("a"), clip("b"), clip("c", split="test")])
    assert audit_store(without, ["split"]).protocols["split"].selection_kind == "none"
    with pytest.raises(UserError, match="needs a subject"):
        audit_store(without, ["split"], SelectionConfig())
    known = store(
        tmp_path / "with",
        [clip("a", subject=1), clip("b", subject=2), clip("c", split="test", subject=1)],
    )
    own = audit_store(known, ["split"]).protocols["split"]
    assert (own.selection_kind, own.train, own.selection, own.test) == ("subject", 1, 1, 1)


def test_several_protocols_show_the_largest_counts(tmp_path: Path) -> None:
    rules = {
        "cameras": ProtocolRule(column="camera", train=(1,), test=(2,)),
        "takes": ProtocolRule(column="take", train=(1,), test=(2,)),
    }
    clips = [
        clip("a", fill=1, camera=1, take=1),
        clip("b", fill=1, camera=2, take=1),
        clip("c", fill=2, camera=2, take=2),
    ]
    found = audit_store(
        store(tmp_path / "s", clips, protocols=rules), rules, SelectionConfig(kind="none")
    )
    record = found.record()
    assert {
        name: audit.duplicates.counts()["train_test"] for name, audit in found.protocols.items()
    } == {"cameras": 1, "takes": 0}
    assert record["duplicates"] == {
        "within_train": 1,
        "within_selection": 0,
        "within_test": 0,
        "train_selection": 0,
        "train_test": 1,
        "selection_test": 0,
    }


def test_changed_bytes_are_noticed(leaky: Store) -> None:
    file = leaky.path / "joints.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"joints\.npy: its content must match"):
        audit_store(Store.open(leaky.path), ["split"], OWN)


@pytest.fixture
def placed(tmp_path: Path) -> Store:
    """b and c are a placed elsewhere, and of another class; d is a once more; the others are
    motions of their own.
    """
    a = clip("a", subject=1)
    turn = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]], np.float32)
    made = [
        a,
        Clip("b", 1, a.joints @ turn + 3, subject=2, extra={"split": "test"}),
        Clip("c", 1, a.joints - 2, subject=1, extra={"split": "train"}),
        clip("d", fill=sum(map(ord, "a")) * 1000 + 1, split="test", subject=3),
        clip("e", split="test", subject=1),
        clip("f", subject=2),
    ]
    return store(tmp_path / "placed", made)


def test_near_copies_are_counted_beside_identical_clips(placed: Store) -> None:
    found = audit_store(placed, ["split"], SelectionConfig(kind="none"))
    assert (found.copies.examples, found.near_copies.examples) == (("d",), ("b", "c"))
    assert (found.disagreeing_copies.count, found.disagreeing_near_copies.count) == (0, 2)
    own = found.protocols["split"]
    none = {
        "within_train": 0,
        "within_selection": 0,
        "within_test": 0,
        "train_selection": 0,
        "train_test": 0,
        "selection_test": 0,
    }
    assert own.duplicates.counts() == none | {"train_test": 1}
    assert own.near_duplicates.counts() == none | {
        "train_test": 1,
        "within_train": 1,
        "within_test": 1,
    }
    assert own.near_duplicates.train_test.examples == ("b",)
    assert found.record()["near_duplicates"] == own.near_duplicates.counts()
    assert found.damage() == [
        "split: 1 clips have an identical clip in another part",
        "split: 1 clips have a near copy in another part",
    ]
    assert own.clean_test == 2  # identical clips only


def test_the_tolerance_is_in_millimetres_or_pixels(tmp_path: Path) -> None:
    joints = clip("x").joints
    noise = np.random.default_rng(0).normal(size=joints.shape).astype(np.float32)
    noise *= 0.003 / np.sqrt((noise**2).sum(-1).mean())  # 3 mm, root mean square
    made = [
        Clip("a", 0, joints, extra={"split": "train"}),
        Clip("b", 0, joints + noise, extra={"split": "test"}),
    ]
    space = store(tmp_path / "space", made)
    for near, count in ((2.7, 0), (3.3, 1)):  # aligning takes away some of the difference
        assert audit_store(space, ["split"], near=near).near_copies.count == count
    write_store(tmp_path / "image", made, description().model_copy(update={"channels": "xy"}))
    image = Store.open(tmp_path / "image")
    assert [
        audit_store(image, ["split"], near=near).near_copies.count for near in (0.0027, 0.0033)
    ] == [1, 1]
    assert audit_store(image, ["split"], near=0.001).unit == "px"
    for near in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(UserError, match="near must be a positive number"):
            audit_store(space, ["split"], near=near)


def test_subjects_of_several_parts_are_named_and_are_no_damage(placed: Store) -> None:
    found = audit_store(placed, ["split"], SelectionConfig(kind="none"))
    shared = found.protocols["split"].shared_subjects
    assert {pair: finding.examples for pair, finding in shared.items()} == {
        "train_selection": (),
        "train_test": ("1", "2"),
        "selection_test": (),
    }
    record = found.record()
    assert record["protocols"]["split"]["shared_subjects"]["train_test"] == 2
    assert not any("subject" in reason for reason in found.damage())


def test_unknown_subjects_are_not_counted(leaky: Store) -> None:
    assert audit_store(leaky, ["split"], OWN).protocols["split"].shared_subjects == {}


def test_a_part_of_a_data_set_is_audited_without_the_protocols_it_cannot_fill(tmp_path):
    rules = {
        "split": ProtocolRule(column="split", train=("train",), test=("test",)),
        "far": ProtocolRule(column="label", train=(0,), test=(7,)),
    }
    part = store(tmp_path / "s", [clip("a", 0), clip("b", 1, split="test")], protocols=rules)
    found = audit_store(part)
    assert list(found.protocols) == ["split"]
    assert found.unusable == {"far": "test must match at least one clip, but no label is one of 7"}
    with pytest.raises(UserError, match="protocol 'far': test must match"):
        audit_store(part, ["far"])
    nothing = audit_store(
        store(tmp_path / "n", [clip("a", 0), clip("b", 1)], protocols={"far": rules["far"]})
    )
    assert nothing.record()["duplicates"]["train_test"] == 0


def test_joints_that_were_not_found(tmp_path):
    """In space at (0, 0, 0), but for the joint that centred clips have there; in images at (0, 0),
    whatever their confidence.
    """
    joints = np.ones((1, 2, 17, 3), np.float32)
    centred, lost, unseen = joints.copy(), joints.copy(), joints.copy()
    centred[0, 0, 0] = lost[0, 1, 5] = 0  # coco17's origin is joint 0
    unseen[0, 1, 0, :2] = 0
    clips = [
        Clip(name, 0, each, extra={"split": part})
        for name, each, part in (("a", centred, "train"), ("b", lost, "test"), ("c", unseen, None))
    ]
    for channels, expected in (("xyz", ("b",)), ("xyc", ("a", "b", "c"))):
        write_store(
            tmp_path / channels, clips, description().model_copy(update={"channels": channels})
        )
        assert audit_store(Store.open(tmp_path / channels)).zero_joints.examples == expected
