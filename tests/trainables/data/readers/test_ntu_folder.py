"""NTU RGB+D from whole folders and archives."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.naive_ntu import Part, made, prepared, skeleton_text, written
from tests.naive_stores import bytes_of
from tests.trainables.data.readers.ntu_cases import CASES, flat
from trainables.contract.config import SelectionConfig
from trainables.contract.errors import UserError
from trainables.data.readers.ntu import read_ntu
from trainables.data.readers.ntu_names import (
    CLIPS,
    actions,
    parse_name,
    protocols,
    saved_order,
    without_skeletons,
)
from trainables.data.store.reading import Store, write_store


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
