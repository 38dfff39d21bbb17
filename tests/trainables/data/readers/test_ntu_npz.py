"""NTU RGB+D from the arrays that published pipelines train on: the clips of the raw files, in
little memory, nothing wrong accepted.
"""

from __future__ import annotations

import tracemalloc
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.naive_data import crop_evaluation, resize
from tests.naive_ntu import Part, made, one_hot, padded, prepared, written
from trainables.contract.config import DataConfig, SelectionConfig
from trainables.contract.errors import UserError
from trainables.data.batches.batches import Batches, Dealing
from trainables.data.readers import ntu_npz
from trainables.data.readers.ntu import read_ntu
from trainables.data.readers.ntu_npz import read_ntu_npz
from trainables.data.store.reading import Store, write_store

# Listed as a pipeline lists them: sorted. Subjects 1 and 2 train in xsub; cameras 2 and 3 in xview,
# in this order; even setups in xset.
NAMES = (
    "S001C001P002R001A003",
    "S001C001P003R001A001",
    "S001C002P001R001A002",
    "S001C003P001R001A001",
    "S002C002P003R002A004",
    "S002C003P002R001A002",
)
ROWS = {
    "xsub": ((2, 3, 0, 5), (1, 4)),
    "xview": ((2, 4, 3, 5), (0, 1)),
    "xset": ((4, 5), (0, 1, 2, 3)),
}


def frames_of(number: int) -> Any:
    second = [Part(1, range(4, 20), size=2)] if number % 2 else []
    return made(20 + number, Part(0, range(number, 20 + number)), *second)


def clips_of(names: Sequence[str], *, duplicate: bool = False) -> list[np.ndarray]:
    made_ready = [prepared(frames_of(number), duplicate=duplicate) for number in range(len(names))]
    return [clip for clip in made_ready if clip is not None]


def arrays(
    protocol: str = "xsub", classes: int = 60, dtype: str = "<f4", frames: int = 40
) -> dict[str, np.ndarray]:
    """What the pipeline saves of `NAMES`."""
    everything = padded(clips_of(NAMES, duplicate=classes == 120), frames).astype(dtype)
    labels = [int(name[-3:]) - 1 for name in NAMES]
    parts = zip(("train", "test"), ROWS[protocol], strict=True)
    return {
        f"{kind}_{part}": value
        for part, rows in parts
        for kind, value in (
            ("x", everything[list(rows)]),
            ("y", one_hot([labels[row] for row in rows], classes)),
        )
    }


def saved(file: Path, content: dict[str, np.ndarray], *, packed: bool = False) -> Path:
    (np.savez_compressed if packed else np.savez)(file, **content)
    return file


def listed(folder: Path, names: Sequence[str] = NAMES) -> Path:
    file = folder / "skes_available_name.txt"
    file.write_text("\n".join(names))
    return file


def imported(out: Path, src: Path, **options: Any) -> tuple[Store, list[str]]:
    recordings = read_ntu_npz(src, **options)
    write_store(out, recordings.clips, recordings.description)
    store = Store.open(out)
    assert store.info.clips == recordings.count
    return store, recordings.notes


def problems(make: Callable[[], Any]) -> str:
    with pytest.raises(UserError) as caught:
        list(make().clips)
    return str(caught.value)


@pytest.mark.parametrize(
    ("protocol", "classes", "packed", "dtype"),
    [
        ("xsub", 60, False, "<f4"),
        ("xview", 60, True, "<f4"),
        ("xsub", 120, True, "<f8"),
        ("xset", 120, False, ">f4"),
    ],
)
def test_rows_with_names_are_the_clips_of_the_raw_files(
    tmp_path: Path, protocol: Any, classes: Any, packed: bool, dtype: str
) -> None:
    src = written(tmp_path / "raw", {name: frames_of(number) for number, name in enumerate(NAMES)})
    raw = read_ntu(src, release=classes)
    write_store(tmp_path / "raw store", raw.clips, raw.description)
    wanted = Store.open(tmp_path / "raw store")
    archive = saved(tmp_path / "ntu.npz", arrays(protocol, classes, dtype), packed=packed)
    store, notes = imported(
        tmp_path / "npz store", archive, protocol=protocol, names=listed(tmp_path)
    )
    assert notes == []
    for column in (
        "id",
        "label",
        "subject",
        "camera",
        "take",
        "setup",
        "length",
        "persons",
        "hash",
    ):
        assert store.column(column).tolist() == wanted.column(column).tolist()
    for position in range(len(NAMES)):
        np.testing.assert_array_equal(store.clip(position), wanted.clip(position))
    assert (store.info.classes, store.info.protocols) == (
        wanted.info.classes,
        wanted.info.protocols,
    )
    assert store.info.persons == 2
    whole = SelectionConfig(kind="none")
    assert [
        store.split(protocol, whole).train.tolist(),
        store.split(protocol, whole).test.tolist(),
    ] == [sorted(rows) for rows in ROWS[protocol]]
    assert store.split(protocol, SelectionConfig(kind="subject")).selection.size


def test_rows_without_names_are_called_as_the_feeder_calls_them(tmp_path: Path) -> None:
    content = arrays()
    store, notes = imported(tmp_path / "store", saved(tmp_path / "NTU60_CS.npz", content))
    assert store.column("id").tolist() == [
        "test_0",
        "test_1",
        "train_0",
        "train_1",
        "train_2",
        "train_3",
    ]
    assert store.column("split").tolist() == ["test", "test", "train", "train", "train", "train"]
    assert store.column("label").tolist() == [0, 3, 1, 0, 2, 1]
    assert list(store.info.protocols) == ["xsub"]
    assert "subject does not" in notes[0]
    split = store.split("xsub", SelectionConfig(kind="clip"))
    assert split.test.tolist() == [0, 1]
    with pytest.raises(UserError, match="needs a subject for every training clip"):
        store.split("xsub", SelectionConfig(kind="subject"))
    for position, name in enumerate(store.column("id").tolist()):
        part, row = name.split("_")
        frames = content[f"x_{part}"][int(row)]
        length = int(store.column("length")[position])
        assert not frames[length:].any()
        joints = np.zeros((2, length, 25, 3), np.float32)
        joints[: store.column("persons")[position]] = store.clip(position)
        np.testing.assert_array_equal(
            joints.transpose(1, 0, 2, 3).reshape(length, 150), frames[:length]
        )


@pytest.mark.parametrize(
    ("name", "protocol"),
    [
        *[
            ("NTU60_CS", "xsub"),
            ("NTU60_CV", "xview"),
            ("NTU120_CSub", "xsub"),
            ("NTU120_CSet", "xset"),
            ("ntu_xview", "xview"),
        ],
        *[
            ("xsub", "xsub"),
            ("ntu-xset-joints", "xset"),
            ("NTU60", "split"),
            ("mocs", "split"),
            ("csx_1", "split"),
        ],
    ],
)
def test_protocol_is_what_the_file_is_called(tmp_path: Path, name: str, protocol: str) -> None:
    file = saved(tmp_path / f"{name}.npz", arrays())
    assert list(read_ntu_npz(file).description.protocols) == [protocol]
    assert list(read_ntu_npz(file, protocol="xset").description.protocols) == ["xset"]


def test_a_clip_is_what_the_feeder_takes_it_to_be(tmp_path: Path) -> None:
    """CTR-GCN counts the frames whose sum is not 0 and takes as many from the start; an empty frame
    in between costs one at the end.
    """
    content = arrays()
    clip = content["x_train"][1]
    clip[9] = 0
    clip[5, :75] = 0  # the other actor is still there
    store, _ = imported(tmp_path / "store", saved(tmp_path / "a.npz", content))
    row = store.column("id").tolist().index("train_1")
    valid = int(
        np.sum(clip.reshape(-1, 2, 25, 3).transpose(3, 0, 2, 1).sum(0).sum(-1).sum(-1) != 0)
    )
    assert valid == 19  # of 20 frames
    assert store.column("length")[row] == valid
    np.testing.assert_array_equal(
        store.clip(row).transpose(1, 0, 2, 3).reshape(valid, 150), clip[:valid]
    )


def test_batches_are_those_of_the_feeder(tmp_path: Path) -> None:
    """Evaluation: the middle 95 % of the valid frames, resized; rows of a store are already
    centred, so its pipeline moves nothing.

    Tolerance: float32 interpolation against float64, coordinates of a few metres.
    """
    content = arrays(classes=120)
    store, _ = imported(tmp_path / "store", saved(tmp_path / "NTU120_CSub.npz", content))
    data = DataConfig(store=str(store.path), protocol="xsub", frames=64)
    everything = np.arange(store.info.clips)
    dealt = Batches(store, everything, data, Dealing(8, labelled=True))
    (batch,) = dealt.epoch(0)
    for name, x in zip(store.column("id").tolist(), batch.x.numpy(), strict=True):
        part, row = name.split("_")
        frames = (
            content[f"x_{part}"][int(row)]
            .astype(np.float64)
            .reshape(-1, 2, 25, 3)
            .transpose(1, 0, 2, 3)
        )
        valid = int((frames.sum(axis=(0, 2, 3)) != 0).sum())
        wanted = resize(frames, *crop_evaluation(valid), 64)
        np.testing.assert_allclose(x, wanted.transpose(3, 1, 2, 0), rtol=0, atol=2e-6)


def test_classes_of_other_archives_are_numbers(tmp_path: Path) -> None:
    store, _ = imported(tmp_path / "store", saved(tmp_path / "a.npz", arrays(classes=5)))
    assert (store.info.name, store.info.classes) == ("ntu5", ("0", "1", "2", "3", "4"))


def test_other_members_are_said_to_be_left(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.npz", arrays() | {"frames": np.ones(3)})
    assert read_ntu_npz(file).notes[0] == "'frames' in the archive not read"


@pytest.mark.parametrize("packed", [False, True])
def test_memory_does_not_grow_with_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    rng = np.random.default_rng(0)
    x = np.zeros((50, 300, 150), np.float32)
    x[:, :20] = rng.normal(size=(50, 20, 150))
    content = {
        "x_train": x,
        "y_train": one_hot([0] * 50, 60),
        "x_test": x[:2],
        "y_test": one_hot([0] * 2, 60),
    }
    file = saved(tmp_path / "a.npz", content, packed=packed)
    monkeypatch.setattr(ntu_npz, "BLOCK", 1 << 18)
    tracemalloc.start()
    try:
        count = sum(1 for _ in read_ntu_npz(file).clips)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 52
    assert peak < 12 * (1 << 18) < x.nbytes / 2  # a few blocks: compressed, converted, of one clip


def test_wrong_members_are_named(tmp_path: Path) -> None:
    def said(content: dict[str, np.ndarray], **options: Any) -> str:
        return problems(lambda: read_ntu_npz(saved(tmp_path / "a.npz", content), **options))

    good = arrays()
    assert "must hold x_train, y_train, x_test, y_test, lacks y_train, has" in said(
        {k: v for k, v in good.items() if k != "y_train"}
    )
    assert (
        "x_test]: must be floating-point numbers (rows, frames, 150), got float32 (2, 40, 75)"
        in said(good | {"x_test": good["x_test"][..., :75]})
    )
    assert "got int64 (2, 40, 150)" in said(good | {"x_test": good["x_test"].astype(np.int64)})
    assert "got float32 (2, 6000)" in said(good | {"x_test": good["x_test"].reshape(2, -1)})
    assert "x_train and y_train must have the same number of rows, got 4 and 3" in said(
        good | {"y_train": good["y_train"][:3]}
    )
    assert "y_train and y_test must have the same number of classes, got 60 and 59" in said(
        good | {"y_test": good["y_test"][:, :59]}
    )
    assert "y_test]: must be one-hot numbers (rows, classes), got float64 (2,)" in said(
        good | {"y_test": good["y_test"].argmax(1) * 1.0}
    )
    assert (
        "x_train]: must be rows of numbers in C order, got (4, 40, 150) in Fortran order"
        in said(good | {"x_train": np.asfortranarray(good["x_train"])})
    )
    assert "y_test]: must be an array of numbers or text, got Python objects" in said(
        good | {"y_test": good["y_test"].astype(object)}
    )


@pytest.mark.parametrize(
    "row",
    [
        [0] * 60,
        [1, 1] + [0] * 58,
        [0.5] + [0] * 59,
        [2] + [0] * 59,
        [float("nan")] + [0] * 59,
        [-1, 1] + [0] * 58,
    ],
)
def test_labels_that_are_not_one_hot_are_named(tmp_path: Path, row: list[float]) -> None:
    content = arrays()
    content["y_train"][2] = row
    said = problems(lambda: read_ntu_npz(saved(tmp_path / "a.npz", content)))
    assert (
        "y_train]: every row must be zero but for a single 1, 1 are not, the first is row 2" in said
    )


def test_all_rows_that_are_worthless_are_named_at_once(tmp_path: Path) -> None:
    content = arrays(dtype="<f8")
    content["x_train"][1, 39, 7] = np.nan
    content["x_train"][3, 0, 0] = 1e39
    content["x_test"][0] = 0
    said = problems(lambda: read_ntu_npz(saved(tmp_path / "a.npz", content))).splitlines()
    assert [line.rpartition("a.npz")[2] for line in said] == [
        "[x_train][1]: every coordinate must be finite, got 1 that are NaN, infinite or too large",
        "[x_train][3]: every coordinate must be finite, got 1 that are NaN, infinite or too large",
        "[x_test][0]: must have a frame that is not zero, got none",
    ]


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.npz", arrays())
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert (
        "a.npz: must be an .npz archive, but it is damaged, cut short or of another kind"
        in problems(lambda: read_ntu_npz(file))
    )
    with zipfile.ZipFile(file.with_name("whole.npz"), "w") as archive:
        for name, values in arrays().items():
            np.save(tmp_path / f"{name}.npy", values)
            data = (tmp_path / f"{name}.npy").read_bytes()
            archive.writestr(
                f"{name}.npy",
                data[:-4] if name == "x_test" else data + b"1234" if name == "x_train" else data,
            )
    assert (
        "[x_train]: must be a whole array, but its head announces float32 (4, 40, 150), 96000"
        in problems(lambda: read_ntu_npz(file.with_name("whole.npz")))
    )
    place = content.index(arrays()["x_test"][1, 5].tobytes())
    file.write_bytes(content[:place] + b"\x01" + content[place + 1 :])
    assert "kind: Bad CRC-32 for file 'x_test.npy'" in problems(lambda: read_ntu_npz(file))
    file.write_bytes(content.replace(b"\x93NUMPY", b"\x93NIMPY"))
    assert "must be a whole member of an .npz archive, but it is damaged" in problems(
        lambda: read_ntu_npz(file)
    )
    assert "must be an .npz archive, but it is not there" in problems(
        lambda: read_ntu_npz(tmp_path / "none.npz")
    )
    assert not (tmp_path / "store").exists()


def test_names_must_be_those_of_the_rows(tmp_path: Path) -> None:
    file = saved(tmp_path / "NTU60_CS.npz", arrays())

    def said(names: Sequence[str], **options: Any) -> str:
        return problems(lambda: read_ntu_npz(file, names=listed(tmp_path, names), **options))

    assert "must name the 4 rows of x_train, but 3 names are of that part of xsub" in said(
        NAMES[1:]
    )
    other = [*NAMES[:4], "S002C002P003R002A005", NAMES[5]]
    assert (
        "must give every row of y_test its class, but 1 of 2 differ, first row 1:"
        " S002C002P003R002A005 is of class 4, y_test says 3" in said(other)
    )
    assert "differ" in said([NAMES[3], NAMES[2], *NAMES[:2], *NAMES[4:]])
    assert "name 2 must look like S001C001P001R001A001, got 'S001'" in said([NAMES[0], "S001"])
    assert "every name must be there once, got 1 again" in said([*NAMES, NAMES[0]])
    assert "must be a list of names such as S001C001P001R001A001, but it is not there" in problems(
        lambda: read_ntu_npz(file, names=tmp_path / "none.txt")
    )
    wanted = "needs 60 classes and --protocol xsub or xview, or 120 and xsub or xset; got"
    assert f"{wanted} 60 and 'xset'" in said(NAMES, protocol="xset")
    assert f"{wanted} 60 and 'split'" in said(NAMES, protocol="split")
    file = saved(tmp_path / "NTU60_CS.npz", arrays(classes=5))
    assert f"{wanted} 5 and 'xsub'" in said(NAMES)
