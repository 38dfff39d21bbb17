"""Archives: what they hold comes back; damage, and far more content than bytes, is one message."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.contract import archives
from trainables.contract.archives import ArrayArchive, ZipArchive, tar_members
from trainables.contract.errors import UserError


def zipped(file: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def packed(file: Path, members: dict[str, bytes], mode: Any = "w:gz") -> Path:
    with tarfile.open(file, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file


ROWS = np.arange(60.0).reshape(5, 3, 4)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_whole_and_in_blocks(tmp_path: Path, save: Any) -> None:
    save(tmp_path / "x.npz", rows=ROWS, columns=np.asfortranarray(ROWS), none=np.zeros((0, 2)))
    with ArrayArchive(tmp_path / "x.npz") as archive:
        assert archive.names == ("rows", "columns", "none")
        assert archive.head("rows").shape == (5, 3, 4)
        for name in ("rows", "columns"):
            np.testing.assert_array_equal(archive.array(name), ROWS)
        assert archive.array("none").shape == (0, 2)
        assert list(archive.blocks("none", 100)) == []
        blocks = list(archive.blocks("rows", 2 * 96))
        assert [len(block) for block in blocks] == [2, 2, 1]
        np.testing.assert_array_equal(np.concatenate(blocks), ROWS)
        with pytest.raises(UserError, match="must be rows of numbers in C order"):
            list(archive.blocks("columns", 100))
        with pytest.raises(UserError, match=r"x\.npz\[gone\]: must be a whole member"):
            archive.array("gone")


def test_an_array_that_its_member_does_not_hold(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<f8", "fortran_order": False, "shape": (5_000_000_000_000,)}
    )
    file = zipped(tmp_path / "x.npz", {"a.npy": stream.getvalue()})
    with (
        ArrayArchive(file) as archive,
        pytest.raises(UserError, match=r"x\.npz\[a\]: .*40000000000000 bytes, and 0 follow"),
    ):
        archive.array("a")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_array_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        for name in ("x.npy", "y.npy", "x.npy"):
            archive.writestr(name, b"")
    with pytest.raises(UserError, match=r"a\.npz: names of arrays must be unique, got 'x' twice"):
        ArrayArchive(tmp_path / "a.npz")


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_much_out_of_little_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: int
) -> None:
    """A smaller limit keeps the test quick; what is refused is refused before it is unpacked."""
    monkeypatch.setattr(archives, "SMALL", 1 << 16)
    content = b"\0" * (1 << 20)
    file = zipped(tmp_path / "x.zip", {"a": content, "b": content[: 1 << 16]}, compression)
    with ZipArchive(file) as archive:
        assert archive.read("b") == content[: 1 << 16]
        with pytest.raises(UserError, match=r"x\.zip\[a\]: must unpack to at most 200 times"):
            archive.read("a")
    tar = packed(tmp_path / "x.tar.gz", {"b": content[: 1 << 15], "a": content})
    with pytest.raises(UserError, match=r"x\.tar\.gz: must unpack to at most 200 times its size"):
        list(tar_members(tar, lambda name: True))


def test_no_more_is_unpacked_than_is_declared(tmp_path: Path) -> None:
    """The sizes in the table of contents are what the limits look at; they are changed here."""
    content = b"\0" * 1000
    file = zipped(tmp_path / "x.zip", {"a": content})
    raw = file.read_bytes()
    file.write_bytes(raw.replace((1000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with ZipArchive(file) as archive, pytest.raises(UserError, match="damaged, cut short"):
        archive.read("a")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.99])
def test_cut_archives(tmp_path: Path, share: float) -> None:
    content = np.random.default_rng(0).bytes(3000)
    for file in (
        zipped(tmp_path / "x.zip", {"a": content}),
        packed(tmp_path / "x.tar.gz", {"a": content}),
        packed(tmp_path / "x.tar", {"a": content}, "w:"),
    ):
        raw = file.read_bytes()
        file.write_bytes(raw[: int(share * len(raw))] if file.suffix != ".tar" else raw[:2000])
        with pytest.raises(UserError, match=rf"^{file}: must be an? .*archive, but"):  # noqa: PT012
            if file.suffix == ".zip":
                ZipArchive(file).read("a")
            else:
                list(tar_members(file, lambda name: True))


def test_damaged_members_are_named(tmp_path: Path) -> None:
    file = zipped(tmp_path / "x.zip", {"a": b"abcdefgh" * 100}, zipfile.ZIP_STORED)
    raw = bytearray(file.read_bytes())
    raw[100] ^= 1
    file.write_bytes(raw)
    with ZipArchive(file) as archive, pytest.raises(UserError, match=r"x\.zip\[a\]: .*Bad CRC-32"):
        archive.read("a")


def test_what_is_no_archive(tmp_path: Path) -> None:
    for read in (ZipArchive, ArrayArchive, lambda file: list(tar_members(file, bool))):
        with pytest.raises(UserError, match="but it is not there"):
            read(tmp_path / "gone.zip")
        with pytest.raises(UserError, match="but it is a folder"):
            read(tmp_path)


def test_wanted_members_of_a_tar(tmp_path: Path) -> None:
    for name, mode in (("x.tar.gz", "w:gz"), ("x.tar", "w:")):
        file = packed(tmp_path / name, {"d/a.json": b"1", "b.txt": b"2", "../c.json": b"3"}, mode)
        found = dict(tar_members(file, lambda member: member.endswith(".json")))
        assert found == {"d/a.json": b"1", "../c.json": b"3"}
