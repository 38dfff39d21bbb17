"""NTU RGB+D from raw files: every branch of the preparation against its slow twin, every way a file
can be wrong, whole folders and archives.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.naive_ntu import FIRST_ID, Frames, Part, made, pose, prepared, skeleton_text, written
from tests.naive_stores import bytes_of
from trainables.contract.config import SelectionConfig
from trainables.contract.errors import UserError
from trainables.data.readers.ntu import read_ntu
from trainables.data.readers.ntu_bodies import ntu_clip
from trainables.data.readers.ntu_names import (
    CLIPS,
    actions,
    parse_name,
    protocols,
    saved_order,
    without_skeletons,
)
from trainables.data.readers.skeleton_file import parse_skeleton
from trainables.data.store.reading import Store, write_store

ALL = range(40)

# What is in the file -> (frames, actors left, frames left); one actor means that the second place
# is zero or a copy.
CASES: dict[str, tuple[Frames, int, int]] = {
    "one body": (made(40, Part(0, ALL)), 1, 40),
    "one body in few frames": (made(5, Part(0, range(5))), 1, 5),
    "frames without a body": (made(40, Part(0, range(3, 30))), 1, 27),
    "one body that comes back": (made(40, Part(0, [*range(10), *range(25, 40)])), 1, 25),
    "two bodies, the second moves more": (made(40, Part(0, ALL), Part(1, ALL, size=2)), 2, 40),
    "two bodies, the first moves more": (made(40, Part(0, ALL, size=2), Part(1, ALL)), 2, 40),
    "a body of 11 frames": (made(40, Part(0, ALL), Part(1, range(11), size=2)), 1, 40),
    "a body of 12 frames": (made(40, Part(0, ALL), Part(1, range(12), size=2)), 2, 40),
    "frames of a dropped body alone": (made(40, Part(0, range(8, 40)), Part(1, range(9))), 1, 32),
    "a body that comes back beside another": (
        made(40, Part(0, ALL, size=2), Part(1, [*range(5, 15), *range(30, 40)])),
        2,
        40,
    ),
    "a body that comes back when nobody else is left": (
        made(40, Part(0, [*range(12), *range(25, 40)], size=2), Part(1, range(25))),
        2,
        27,
    ),
    "too wide in 14 of 20 frames": (
        made(20, Part(0, range(20)), Part(1, range(20), size=2, wide=14)),
        1,
        20,
    ),
    "too wide in 13 of 20 frames": (
        made(20, Part(0, range(20)), Part(1, range(20), size=2, wide=13)),
        2,
        20,
    ),
    "moves most only where too wide": (
        made(20, Part(0, range(20), size=1.3), Part(1, range(20), wide=13)),
        2,
        20,
    ),
    "all too wide: the last stays": (
        made(20, Part(0, range(20), size=2, wide=20), Part(1, range(20), wide=20)),
        1,
        20,
    ),
    "a second body after the first joins it": (
        made(40, Part(0, range(20), size=2), Part(1, range(20, 40))),
        2,
        40,
    ),
    "one frame shared is no overlap": (
        made(40, Part(0, range(21), size=2), Part(1, range(20, 40))),
        2,
        40,
    ),
    "two frames shared are": (made(40, Part(0, range(22), size=2), Part(1, range(20, 40))), 2, 40),
    "a third joins the second": (
        made(40, Part(0, ALL, size=3), Part(1, range(18), size=2), Part(2, range(20, 40))),
        2,
        40,
    ),
    "a third before the second": (
        made(40, Part(0, ALL, size=3), Part(1, range(20, 40), size=2), Part(2, range(3, 18))),
        2,
        40,
    ),
    "a third overlaps what joined the first": (
        made(40, Part(0, range(20, 40), size=3), Part(1, range(18), size=2), Part(2, range(3, 16))),
        2,
        38,
    ),
    "a third overlaps both": (
        made(40, Part(0, ALL, size=3), Part(1, ALL, size=2), Part(2, ALL)),
        2,
        40,
    ),
    "four, two after the others": (
        made(
            40,
            Part(0, range(20), size=4),
            Part(1, range(20), size=3),
            Part(2, range(20, 40), size=2),
            Part(3, range(20, 40)),
        ),
        2,
        40,
    ),
    "the first appears late": (made(40, Part(0, range(15, 40), size=2), Part(1, range(18))), 2, 40),
}


def clip(frames: Frames, end: str = "\r\n") -> np.ndarray:
    return ntu_clip(parse_skeleton(skeleton_text(frames, end).encode()))


def flat(joints: np.ndarray, *, duplicate: bool) -> np.ndarray:
    """(M, T, 25, 3) as the (T, 150) of the pipeline."""
    second = joints[0] if duplicate else np.zeros_like(joints[0])
    both = joints if len(joints) == 2 else np.stack([joints[0], second])
    return both.transpose(1, 0, 2, 3).reshape(-1, 150)


@pytest.mark.parametrize("name", CASES)
def test_actors_equal_those_of_the_twin(name: str) -> None:
    frames, persons, length = CASES[name]
    joints = clip(frames)
    assert joints.shape == (persons, length, 25, 3)
    for duplicate in (False, True):
        np.testing.assert_array_equal(
            flat(joints, duplicate=duplicate), prepared(frames, duplicate=duplicate)
        )
    np.testing.assert_array_equal(clip(frames, "\n"), joints)


def test_cases_do_what_their_names_say() -> None:
    """The twin could be wrong in the same way: a few outcomes by hand."""

    def first(name: str) -> np.ndarray:
        return clip(CASES[name][0])

    def moved(body: int, frame: int, size: float = 1.0, *, wide: bool = False) -> np.ndarray:
        return pose(1000 * body + frame, size=size, wide=wide).astype(np.float32)

    late = first("two bodies, the second moves more")
    np.testing.assert_array_equal(late[0, 0], moved(1, 0, 2) - moved(1, 0, 2)[1])
    np.testing.assert_array_equal(late[1, 5], moved(0, 5) - moved(1, 0, 2)[1])
    back = first("a body that comes back beside another")
    # fifteen frames too early, as the scripts count
    np.testing.assert_array_equal(back[1, 15], moved(1, 30) - moved(0, 0, 2)[1])
    assert not back[1, :5].any()
    assert not back[1, 25:].any()
    calm = first("moves most only where too wide")
    np.testing.assert_array_equal(calm[0, 0], moved(0, 0, 1.3) - moved(0, 0, 1.3)[1])
    last = first("all too wide: the last stays")
    np.testing.assert_array_equal(last[0, 3], moved(1, 3, wide=True) - moved(1, 0, wide=True)[1])
    joined = first("a second body after the first joins it")
    assert not joined[1].any()
    np.testing.assert_array_equal(joined[0, 20], moved(1, 20) - moved(0, 0, 2)[1])
    shared = first("one frame shared is no overlap")
    # the later one covers
    np.testing.assert_array_equal(shared[0, 20], moved(1, 20) - moved(0, 0, 2)[1])
    assert first("two frames shared are")[1, 22:].all(axis=(1, 2)).all()
    assert first("a third joins the second")[1, 20:].any(axis=(1, 2)).all()
    assert not first("a third before the second")[1, :20].any()
    absent = first("the first appears late")
    assert not absent[0, :15].any()
    np.testing.assert_array_equal(absent[1, 0], moved(1, 0) - moved(0, 15, 2)[1])


def test_random_files_equal_the_twin() -> None:
    rng = np.random.default_rng(7)
    outcomes = set()
    for _ in range(80):
        total = int(rng.integers(14, 36))
        parts = []
        for body in range(int(rng.integers(1, 5))):
            start = int(rng.integers(0, total))
            frames = [
                t for t in range(start, int(rng.integers(start, total)) + 1) if rng.random() < 0.95
            ]
            parts.append(
                Part(
                    body,
                    frames,
                    size=float(rng.uniform(0.5, 3)),
                    wide=int(len(frames) * rng.choice([0, 0.3, 0.69, 0.72])),
                )
            )
        frames = made(total, *parts)
        wanted = prepared(frames, duplicate=False)
        try:
            joints = clip(frames)
        except UserError:
            assert wanted is None
            outcomes.add("nobody")
            continue
        outcomes.add(f"{len(joints)} actors")
        np.testing.assert_array_equal(flat(joints, duplicate=False), wanted)
    assert outcomes == {"nobody", "1 actors", "2 actors"}


def test_width_is_compared_in_double_precision() -> None:
    """0.8 in single precision is a little more than 0.8: a body 0.8 wide and 1 high is too wide."""
    corner = np.zeros((25, 3))
    corner[0], corner[1] = (0.8, 0, 3), (0, 1, 3)
    frames = [[(FIRST_ID, corner), (FIRST_ID + 1, pose(t))] for t in range(12)]
    assert len(clip(frames)) == 1
    np.testing.assert_array_equal(
        flat(clip(frames), duplicate=False), prepared(frames, duplicate=False)
    )


def test_ids_that_double_precision_cannot_tell_apart_are_two_bodies() -> None:
    assert float(FIRST_ID) == float(FIRST_ID + 1)
    assert len(clip(made(20, Part(0, range(20)), Part(1, range(20))))) == 2


def test_zero_body_of_a_file_with_one_body_is_moved_like_the_others() -> None:
    """The released scripts reset absent actors only where there are two."""
    frames = [[(FIRST_ID, pose(0))], [(FIRST_ID, np.zeros((25, 3)))], [(FIRST_ID, pose(2))]]
    joints = clip(frames)
    np.testing.assert_array_equal(flat(joints, duplicate=False), prepared(frames, duplicate=False))
    np.testing.assert_array_equal(joints[0, 1], np.tile(-pose(0).astype(np.float32)[1], (25, 1)))


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "must show a body, but there is none in any frame"),
        ([[], []], "must show a body, but there is none in any frame"),
        (
            made(40, Part(0, range(11)), Part(1, range(20, 31))),
            "for more than 11 frames, but none of its 2 is there for longer",
        ),
        (
            [[(FIRST_ID, np.zeros((25, 3)))]] * 3,
            "must show the first actor, but it is zero in every frame",
        ),
        (
            [[(FIRST_ID, pose(0)), (FIRST_ID, pose(1))]],
            "seen once per frame, but one is seen 2 times in 1 frames",
        ),
    ],
)
def test_files_without_an_answer(frames: Frames, message: str) -> None:
    assert prepared(frames, duplicate=False) is None
    with pytest.raises(UserError, match=message):
        clip(frames)


GOOD = skeleton_text(made(3, Part(0, range(3))))


def changed(line: int, text: str) -> str:
    lines = GOOD.splitlines()
    return "\n".join([*lines[: line - 1], text, *lines[line:]])


def without(line: int) -> str:
    lines = GOOD.splitlines()
    return "\n".join(lines[: line - 1] + lines[line:])


VALUES = "0.1 0.2 0.3 4 5 6 7 8 9 10 11 2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            (
                "line 1: must be the number of frames, but the file ends after 0 lines; it was cut"
                " short"
            ),
        ),
        ("skeleton", "line 1: must be the number of frames, but it is 'skeleton'"),
        (changed(1, "-3"), "line 1: must be the number of frames, but it is '-3'"),
        (changed(1, "9" * 5000), "line 1: must be the number of frames, but it is '999"),
        (
            changed(1, "4"),
            (
                "line 86: must be the number of bodies in frame 4 of 4, but the file ends after 85"
                " lines; it was cut short"
            ),
        ),
        (
            changed(1, "2"),
            "line 58: the file must have 57 lines, got 85; it goes on after its 2 frames",
        ),
        (changed(2, "2"), "line 31: must be the number of joints, but it is"),
        (changed(2, "0"), "line 3: must be the number of bodies in frame 2 of 3, but it is '7205"),
        (changed(3, " "), "line 3: must be a body of frame 1 of 3, but it is ' '"),
        (changed(4, "24"), "line 4: a body must have 25 joints, got 24"),
        (changed(4, "2.5"), "line 4: must be the number of joints, but it is '2.5'"),
        (
            changed(5, VALUES.replace("0.2", "x")),
            "line 5: a joint must have 12 values, got '0.1 x 0.3",
        ),
        (changed(5, VALUES[:-2]), "line 5: a joint must have 12 values, got '0.1 0.2"),
        (changed(5, ""), "line 5: a joint must have 12 values, got ''"),
        (changed(6, ""), "line 6: a joint must have 12 values, got ''"),
        (
            changed(36, VALUES.replace("0.3", "nan")),
            "line 36: coordinates must be finite, got '0.1 0.2 nan",
        ),
        (
            changed(85, VALUES.replace("0.3", "1e39")),
            "line 85: coordinates must be finite, got '0.1 0.2 1e39",
        ),
        (without(20), "line 30: must be the number of bodies in frame 2 of 3, but it is '7205"),
        (GOOD[: len(GOOD) // 2], "it was cut short|a joint must have 12 values"),
        (
            "\n".join(GOOD.splitlines()[:60]),
            "line 61: the file must have 85 lines, got 60; it was cut short",
        ),
        (GOOD[:-3], "line 85: a joint must have 12 values"),
        (
            GOOD + "1\n",
            "line 86: the file must have 85 lines, got 86; it goes on after its 3 frames",
        ),
        (GOOD.replace("2", "é", 1), "must be text, it is damaged or of another kind"),
    ],
)
def test_wrong_grammar_is_named(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_skeleton(text.encode())


def test_whatever_happens_to_a_file_it_is_read_or_refused() -> None:
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(300):
        content = bytearray(GOOD.encode())
        for _ in range(int(rng.integers(1, 4))):
            content[rng.integers(len(content))] = rng.choice(
                list(b"0123456789 .-+e\r\n\x00\xffnaif_")
            )
        try:
            joints = ntu_clip(
                parse_skeleton(
                    bytes(content[: rng.integers(len(content))] if rng.random() < 0.2 else content)
                )
            )
            assert np.isfinite(joints).all()
        except UserError:
            refused += 1
    assert 0 < refused < 300


def imported(src: Path, out: Path, **options: Any) -> tuple[Store, list[str]]:
    recordings = read_ntu(src, **options)
    write_store(out, recordings.clips, recordings.description)
    return Store.open(out), recordings.notes


def names_60() -> list[str]:
    return [
        f"S001C{1 + i % 3:03}P{1 + i % 7:03}R{1 + i % 2:03}A{1 + i:03}" for i in range(len(CASES))
    ]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All cases as samples of NTU RGB+D 60, in two folders."""
    src = tmp_path_factory.mktemp("ntu") / "src"
    for part, end in ((0, "\r\n"), (1, "\n")):
        clips = {
            name: CASES[case][0]
            for i, (name, case) in enumerate(zip(names_60(), CASES, strict=True))
            if i % 2 == part
        }
        written(src / f"part {part}", clips, end)
    return src


def test_a_folder_as_ntu_60(source: Path, tmp_path: Path) -> None:
    store, notes = imported(source, tmp_path / "store")
    assert notes == [f"{len(CASES)} of the 56578 usable samples of NTU RGB+D 60 are in {source}"]
    gap = "protocol xset cannot be used: no sample is of a setup of its training part"
    assert imported(source, tmp_path / "120", release=120)[1][1:] == [gap]
    names = [parse_name(text) for text in sorted(names_60())]
    assert store.column("id").tolist() == sorted(names_60())
    for column in ("label", "subject", "camera", "take", "setup"):
        assert store.column(column).tolist() == [getattr(name, column) for name in names]
    assert (store.info.name, store.layout.name, store.info.pipeline, store.info.persons) == (
        "ntu60",
        "ntu25",
        "ctr",
        2,
    )
    assert (len(store.info.classes), store.info.classes[1], sorted(store.info.protocols)) == (
        60,
        "eat meal/snack",
        ["xsub", "xview"],
    )
    assert {key: store.info.provenance[key] for key in ("kind", "single_actor", "skipped")} == {
        "kind": "ntu",
        "single_actor": "zero",
        "skipped": [],
    }
    for text, case in zip(names_60(), CASES, strict=True):
        joints = store.clip(store.column("id").tolist().index(text))
        np.testing.assert_array_equal(
            flat(joints, duplicate=False), prepared(CASES[case][0], duplicate=False)
        )
    split = store.split("xview", SelectionConfig(kind="none"))
    assert set(store.column("camera")[split.train]) == {2, 3}
    assert set(store.column("camera")[split.test]) == {1}
    subject = store.split("xsub", SelectionConfig(kind="subject"))
    assert set(store.column("subject")[subject.test]) == {3, 6, 7}


def test_single_actors_of_120_are_there_twice(source: Path, tmp_path: Path) -> None:
    store, _ = imported(source, tmp_path / "store", release=120)
    assert (store.info.name, len(store.info.classes), sorted(store.info.protocols)) == (
        "ntu120",
        120,
        ["xset", "xsub"],
    )
    persons = []
    for text, case in zip(names_60(), CASES, strict=True):
        joints = store.clip(store.column("id").tolist().index(text))
        persons.append(len(joints))
        np.testing.assert_array_equal(
            flat(joints, duplicate=False), prepared(CASES[case][0], duplicate=True)
        )
    # two bodies that became one actor: the second place is empty, in 120 too
    assert persons.count(1) == 2
    zero, _ = imported(source, tmp_path / "zero", release=120, single_actor="zero")
    assert zero.info.rows < store.info.rows
    twice, _ = imported(source, tmp_path / "twice", single_actor="duplicate")
    assert twice.info.rows == store.info.rows


def test_the_same_bytes_from_processes_and_archives(source: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(source.rglob("*.skeleton"), reverse=True):
            archive.write(file, f"nturgb+d_skeletons/{file.name}")
    imported(source, tmp_path / "one")
    imported(tmp_path / "all.zip", tmp_path / "packed", jobs=2)
    imported(tmp_path / "all.zip", tmp_path / "again")
    assert (
        bytes_of(tmp_path / "one") == bytes_of(tmp_path / "packed") == bytes_of(tmp_path / "again")
    )


SOME = made(3, Part(0, range(3)))


def test_release_follows_the_files_unless_it_is_said(tmp_path: Path) -> None:
    old, late, missing = (
        "S017C001P001R001A060",
        "S018C001P041R001A061",
        sorted(without_skeletons())[0],
    )
    src = written(tmp_path / "src", dict.fromkeys((old, late, missing), SOME))
    store, notes = imported(src, tmp_path / "120")
    assert (store.info.name, store.column("id").tolist()) == ("ntu120", [old, late])
    assert (
        notes[0]
        == "samples that the authors list as having missing or incomplete skeletons, left out: 1"
    )
    store, notes = imported(src, tmp_path / "60", release=60)
    assert (store.info.name, store.column("id").tolist()) == ("ntu60", [old])
    assert notes[0] == "samples of NTU RGB+D 120 that are not part of 60, left out: 1"
    (src / f"{old}.skeleton").unlink()
    with pytest.raises(
        UserError,
        match=r"usable samples of NTU RGB\+D 60, but there are none: samples of NTU RGB\+D 120",
    ):
        read_ntu(src, release=60)


def test_damaged_files_are_skipped_and_named_or_refused(tmp_path: Path) -> None:
    names = [f"S001C001P001R001A{1 + i:03}" for i in range(9)]
    src = written(tmp_path / "src", dict.fromkeys(names, SOME))
    for name in names[1:8]:
        (src / f"{name}.skeleton").write_bytes((src / f"{name}.skeleton").read_bytes()[:-60])
    (src / "S1.skeleton").write_bytes(b"")
    store, notes = imported(src, tmp_path / "store")
    assert store.column("id").tolist() == [names[0], names[8]]
    assert (
        notes[0] == ".skeleton files that are not named like S001C001P001R001A001, left out: 1"
        " ('S1.skeleton')"
    )
    reason = f"{names[1]}: line 85: a joint must have 12 values"
    said = notes[-1].splitlines()
    assert said[0] == "damaged files, left out (--strict refuses them): 7"
    assert said[1].startswith(f"  {reason}")
    assert len(said) == 8
    assert len(store.info.provenance["skipped"]) == 7
    assert store.info.provenance["skipped"][0].startswith(reason)
    with pytest.raises(
        UserError, match=rf"{names[1]}\.skeleton: line 85: a joint must have 12 values"
    ) as caught:
        imported(src, tmp_path / "strict", strict=True)
    assert len(caught.value.problems) == 7
    assert not (tmp_path / "strict").exists()
    for name in (names[0], names[8]):
        (src / f"{name}.skeleton").write_text("")
    with pytest.raises(UserError, match="line 1: must be the number of frames"):
        imported(src, tmp_path / "nothing")


def test_damaged_members_of_an_archive_are_named(tmp_path: Path) -> None:
    names = ["S001C001P001R001A001", "S001C001P001R001A002"]
    with zipfile.ZipFile(tmp_path / "src.zip", "w") as archive:
        for name in names:
            archive.writestr(f"{name}.skeleton", skeleton_text(SOME))
    content = (tmp_path / "src.zip").read_bytes()
    (tmp_path / "src.zip").write_bytes(content.replace(b"0.9692109", b"0.9692108", 1))
    store, notes = imported(tmp_path / "src.zip", tmp_path / "store")
    assert store.column("id").tolist() == names[1:]
    assert (
        f"damaged files, left out (--strict refuses them): 1\n  {names[0]}: cannot be read: it is"
        " damaged, cut short or of another kind: Bad CRC-32" in notes[-1]
    )
    (tmp_path / "src.zip").write_bytes(content[:-40])
    with pytest.raises(
        UserError,
        match=(
            r"src\.zip: must be a folder or a \.zip of \.skeleton files, but it is damaged, cut"
            r" short or of another kind"
        ),
    ):
        read_ntu(tmp_path / "src.zip")


def test_wrong_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"nowhere: must be a folder or a \.zip of \.skeleton files, but it is not there",
    ):
        read_ntu(tmp_path / "nowhere")
    with pytest.raises(
        UserError,
        match=r"must hold files named like S001C001P001R001A001\.skeleton, but there are none$",
    ):
        read_ntu(tmp_path)
    for folder in ("a", "b"):
        written(tmp_path / folder, {"S001C001P001R001A001": SOME})
    with pytest.raises(
        UserError, match=r"sample S001C001P001R001A001 must be there once, got a/S001\S+ and b/S001"
    ):
        read_ntu(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "S001C001P001R001A000",
        "S033C001P001R001A001",
        "S001C004P001R001A001",
        "S001C001P107R001A001",
    ],
)
def test_names_that_no_sample_has(text: str) -> None:
    assert parse_name(text) is None
    assert parse_name("S001C001P001R001A001 ") is None
    assert parse_name("S001C002P003R002A060").label == 59


def test_lists_of_the_data_set() -> None:
    missing = [parse_name(text) for text in without_skeletons()]
    assert len(missing) == 535
    assert sum(name.in_60 for name in missing) == 302
    assert CLIPS == {60: 56_880 - 302, 120: 114_480 - 535}
    assert len(set(actions())) == 120
    assert (actions()[0], actions()[59], actions()[119][:8]) == (
        "drink water",
        "walking apart from each other",
        "finger-g",
    )


def counts(release: Any, protocol: str) -> tuple[int, int]:
    rule = protocols(release)[protocol]
    return len(rule.train), len(rule.test)


def test_protocols_cover_everybody_once() -> None:
    assert (counts(60, "xsub"), counts(60, "xview")) == ((20, 20), (2, 1))
    assert (counts(120, "xsub"), counts(120, "xset")) == ((53, 53), (16, 16))
    for release, subjects in ((60, 40), (120, 106)):
        rule = protocols(release)["xsub"]
        assert sorted(rule.train + rule.test) == list(range(1, subjects + 1))
    assert set(protocols(60)["xsub"].train) == set(protocols(120)["xsub"].train) & set(range(1, 41))
    assert all(setup % 2 == 0 for setup in protocols(120)["xset"].train)


def in_order(texts: Sequence[str], release: Any, protocol: str) -> dict[str, list[str]]:
    order = saved_order([parse_name(text) for text in texts], protocols(release)[protocol])
    return {part: [texts[place] for place in places] for part, places in order.items()}


def test_saved_order_goes_by_value_and_then_as_listed() -> None:
    texts = [
        "S001C003P002R001A002",
        "S001C002P002R001A001",
        "S001C002P001R001A009",
        "S001C001P003R001A001",
        "S001C001P001R001A001",
    ]
    assert in_order(texts, 60, "xsub") == {
        "train": [texts[2], texts[4], texts[0], texts[1]],
        "test": [texts[3]],
    }
    assert in_order(texts, 60, "xview") == {
        "train": [texts[1], texts[2], texts[0]],
        "test": [texts[3], texts[4]],
    }
