"""Whatever is wrong with a foreign file is one UserError that names the file, and costs little."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.contract.errors import UserError
from trainables.contract.foreign_files import (
    parse_json,
    read_array,
    read_bytes,
    read_json,
    read_pickle,
    read_table,
    read_text,
    read_yaml,
)

ADVICE = ("allow_pickle", "weights_only", "max_header_size", "set_int_max_str_digits")


def head(header: str, content: bytes = b"") -> bytes:
    """A .npy file with any header."""
    stream = io.BytesIO()
    text = header.encode()
    stream.write(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content)
    return stream.getvalue()


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


LAUGHS = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 8)}]\n" for i in range(12)
)
DAMAGED: dict[str, tuple[Callable[[Path], Any], bytes, str]] = {
    "cut json": (read_json, b'{"a": [1', "must be JSON, but it is damaged, cut short"),
    "no utf-8": (read_json, b'{"a": "\xff"}', "byte 7 is not text in utf-8"),
    "deep json": (read_json, b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
    "json number": (read_json, b"[" + b"1" * 5000 + b"]", "a number in it has too many digits"),
    "json name twice": (
        read_json,
        b'[{"a": 1, "b": 2, "a": 3}]',
        "'a' occurs 2 times in one record",
    ),
    "yaml name twice": (read_yaml, b"x: {a: 1, b: 2, a: 3}", "a name occurs twice in one record"),
    "text": (read_text, b"a\xffb", "byte 1 is not text in utf-8"),
    "cut yaml": (read_yaml, b"a: [1", "must be YAML"),
    "deep yaml": (read_yaml, b"[" * 20_000, "nested too deeply"),
    "laughs": (read_yaml, LAUGHS.encode(), "because it holds parts of itself many times"),
    "large yaml": (read_yaml, b"# " + b"x" * (1 << 20), "of at most 1048576 bytes, got more"),
    "yaml of itself": (read_yaml, b"&a [*a]", "recursive node"),
    "wide field": (read_table, b"id\n" + b"x" * 200_000, "field larger than field limit"),
    "many columns": (read_table, b"," * 2000 + b"\na\n" * 10, "at most 1000 columns, got 2001"),
    "short row": (read_table, b"id,label\na,1\nb\n", "row 3: must have 2 entries.*got 1"),
    "columns twice": (read_table, b"id,id\na,b\n", "column names must be unique, got 'id' twice"),
    "pickle": (read_pickle, b"cos\nsystem\n.", "but it asks for os.system"),
    "cut pickle": (read_pickle, b"\x80\x04]", "must be a whole pickle of plain arrays"),
    "pickled digits": (
        read_pickle,
        b"I" + b"9" * 5000 + b"\n.",
        "number in it has too many digits",
    ),
    "pickle frame": (
        read_pickle,
        b"\x80\x04\x95" + (1 << 50).to_bytes(8, "little"),
        "must be a whole pickle of plain arrays, but it is damaged or cut short: [a-z]",
    ),
    "no array": (read_array, b"hello", "must be a NumPy array"),
    "empty array": (read_array, b"", "must be a NumPy array"),
    "cut array": (read_array, npy(np.zeros(100))[:-8], "800 bytes, and 792 follow: it was cut"),
    "long array": (read_array, npy(np.zeros(3)) * 2, "24 bytes, and"),
    "huge array": (
        read_array,
        head("{'descr': '<f8', 'fortran_order': False, 'shape': (5000000000000,)}"),
        "40000000000000 bytes, and 0 follow",
    ),
    "array beyond 64 bits": (
        read_array,
        head(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**62}, {2**62})}}"),
        "and 0 follow",
    ),
    "negative": (
        read_array,
        head("{'descr': '<f8', 'fortran_order': False, 'shape': (-1, -1)}", b"x" * 8),
        "array of numbers or text, got '<f8'",
    ),
    "objects": (read_array, npy(np.array([{}], dtype=object)), "got Python objects"),
    "records": (read_array, npy(np.zeros(1, [("a", "i4")])), "numbers or text, got '.V4'"),
    "long head": (read_array, head("{" + " " * 20_000), "it is damaged, cut short"),
    "deep head": (read_array, head("(" * 5000), "it is damaged, cut short"),
    "odd head": (read_array, head("{'descr': [[]], 'fortran_order': 0, 'shape': ()}"), "damaged"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_one_message_that_names_the_file(tmp_path: Path, name: str) -> None:
    read, content, message = DAMAGED[name]
    file = tmp_path / "x"
    file.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=message) as error:
            read(file)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(error.value).startswith(f"{file}: ")
    assert "\n" not in str(error.value)
    assert not any(word in str(error.value) for word in ADVICE)
    assert most < 100e6


READERS = (read_bytes, read_text, read_json, read_yaml, read_table, read_pickle, read_array)


@pytest.mark.parametrize("read", READERS)
def test_what_is_no_file(tmp_path: Path, read: Callable[[Path], Any]) -> None:
    with pytest.raises(UserError, match=r"gone: must be .*, but it is not there"):
        read(tmp_path / "gone")
    with pytest.raises(UserError, match=r"must be .*, but it is a folder"):
        read(tmp_path)
    with pytest.raises(UserError, match=r"x{300}: must be .*, but it cannot be read: File name"):
        read(tmp_path / ("x" * 300))
    with pytest.raises(UserError, match=r"must be .*, but it is damaged"):
        read(tmp_path / "a\0b")


def test_permission_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may be allowed everything."""

    def denied(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(UserError, match="permission to read it is denied"):
        read_json(tmp_path / "x.json")


def test_large_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    with pytest.raises(UserError, match="must be a readable file of at most 4 bytes, got more"):
        read_bytes(tmp_path / "x", most=4)


def test_sound_files(tmp_path: Path) -> None:
    def file(content: bytes, name: str = "x") -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    assert read_text(file("\ufeffwä\n".encode())) == "wä\n"
    assert read_json(file(b'\xef\xbb\xbf{"a": [-1, 18446744073709551615, 2.5, null]}')) == {
        "a": [-1, 2**64 - 1, 2.5, None]
    }
    assert parse_json("place", "[]") == []
    assert read_yaml(file(b"a: [on, 1, 2.0]\nb: &x [y]\nc: *x\n")) == {
        "a": ["on", "1", "2.0"],
        "b": ["y"],
        "c": ["y"],
    }
    table = read_table(file(b'id,label\r\n"a,b",1\r\n\r\nc,2\n'))
    assert (table.header, table.rows) == (
        ("id", "label"),
        [{"id": "a,b", "label": "1"}, {"id": "c", "label": "2"}],
    )
    assert read_table(file(b"id\tlabel\na\t1\n", "x.tsv")).rows == [{"id": "a", "label": "1"}]


ARRAYS = {
    "numbers": np.arange(24.0).reshape(2, 3, 4),
    "columns first": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "other bytes": np.arange(3, dtype=">f4"),
    "text": np.array(["ab", "c"]),
    "empty": np.zeros((0, 3)),
    "no axes": np.array(2.5),
}


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_come_back(tmp_path: Path, name: str, mapped: bool) -> None:
    np.save(tmp_path / "x.npy", ARRAYS[name])
    found = read_array(tmp_path / "x.npy", mapped=mapped)
    np.testing.assert_array_equal(found, ARRAYS[name])
    assert found.dtype == ARRAYS[name].dtype
    assert isinstance(found, np.memmap) == (mapped and found.size > 0)
