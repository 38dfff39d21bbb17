"""Pickles of arrays come back as they were, whoever wrote them; whatever could run code, or corrupt
memory, is refused before it does.
"""

from __future__ import annotations

import builtins
import io
import os
import pickle
import subprocess
import sys
import tracemalloc
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.contract.pickles import load_pickle

CONTENT = {
    "float16": np.arange(6, dtype=np.float16).reshape(1, 2, 3),
    "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "axes moved": np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2),
    "every second": np.arange(6)[::2],
    "big-endian": np.arange(3, dtype=">i4"),
    "empty": np.zeros((0, 3), np.float32),
    "no axes": np.array(5.0),
    "text": np.array(["ab", "c"]),
    "bytes": np.array([b"ab"]),
    "booleans": np.array([True, False]),
    "scalars": [
        np.float32(0.1),
        np.int64(3),
        np.bool_(True),
        np.str_("é"),
        np.str_(""),
        np.float16(0.5),
    ],
    "containers": (
        {1: [2.5, None]},
        OrderedDict(a=1),
        {1, 2},
        frozenset([3]),
        b"\x00\xff",
        b"",
        "text",
        -(2**62),
    ),
}


def dump(file: Path, value: Any, protocol: int = 4) -> Path:
    file.write_bytes(pickle.dumps(value, protocol=protocol))
    return file


def same(found: Any, written: Any) -> bool:
    """Equal, and of the same type; numpy itself turns some big-endian arrays into native ones when
    it loads them.
    """
    if isinstance(written, np.ndarray):
        found = np.asarray(found)
        native = found.dtype.newbyteorder("=") == written.dtype.newbyteorder("=")
        return native and found.shape == written.shape and np.array_equal(found, written)
    return bool(found == written) and (
        not isinstance(written, np.generic) or found.dtype == written.dtype
    )


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("numpy", [1, 2])
def test_plain_content_comes_back(tmp_path: Path, protocol: int, numpy: int) -> None:
    file = dump(tmp_path / "x.pkl", CONTENT, protocol)
    # its modules had other names; in text protocols a name ends with its line, in binary ones its
    # length stands before it
    if numpy == 1:
        old = file.read_bytes().replace(b"cnumpy._core.", b"cnumpy.core.")
        for module in (b"numpy._core.multiarray", b"numpy._core.numeric"):
            written = module.replace(b"_core", b"core")
            old = old.replace(
                b"\x8c" + bytes([len(module)]) + module, b"\x8c" + bytes([len(written)]) + written
            )
        # without the frame's length, which is optional
        file.write_bytes(old if protocol < 4 else old.replace(old[2:11], b"", 1))
        assert b"numpy._core" not in file.read_bytes()
    found = load_pickle(file)
    assert found.keys() == CONTENT.keys()
    for name, written in CONTENT.items():
        if name == "scalars":
            assert all(map(same, found[name], written))
        else:
            assert same(found[name], written), name
    assert type(found["containers"][1]) is dict


def test_arrays_of_python_2(tmp_path: Path) -> None:
    """Python 2 wrote bytes as a text of its own kind, opcode U: here an array of two float32 as
    protocol 2 had it.
    """
    values = np.array([1.5, -2.0], np.float32)
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    none = b"J\xff\xff\xff\xff"
    kind = b"cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNN" + 2 * none + b"K\x00tb"
    state = b"(K\x01K\x02\x85" + kind + b"\x89U\x08" + values.tobytes() + b"tb."
    (tmp_path / "x.pkl").write_bytes(b"\x80\x02" + array + state)
    assert same(load_pickle(tmp_path / "x.pkl"), values)


class Call:
    """Pickled as a call of `function`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.reduced


MARK = "should-not-exist"
HOSTILE = {
    "a command": Call(os.system, f"touch {MARK}"),
    "a process": Call(subprocess.Popen, ("touch", MARK)),
    "eval": Call(builtins.eval, f"open('{MARK}', 'w')"),
    "exec": Call(builtins.exec, f"open('{MARK}', 'w')"),
    "open": Call(builtins.open, MARK, "w"),
    "getattr": Call(builtins.getattr, b"", "join"),
    "an import": Call(builtins.__import__, "os"),
    "a function of numpy": Call(np.savetxt, MARK, [1.0]),
    "a file through numpy": Call(np.fromfile, "/etc/hostname"),
    "a memory map": Call(np.memmap, MARK, "f4", "w+", 0, (1,)),
    "a class of numpy": Call(np.dtype, Call(os.system, f"touch {MARK}")),
    "inside": {
        "annotations": [{"keypoint": np.zeros(2), "label": Call(os.system, f"touch {MARK}")}]
    },
    "as a key": {Call(os.system, f"touch {MARK}"): 1},
    "a bound method": Call(io.StringIO("").read),
    "a buffered file": Call(io.open, MARK, "w"),
    "an array made directly": Call(np.ndarray, (3,), "f8"),
    "an array of objects": np.array([{"a": 1}], dtype=object),
    "a record array": np.zeros(2, dtype=[("a", "i4"), ("b", "f4")]),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_else_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, protocol: int
) -> None:
    monkeypatch.chdir(tmp_path)
    file = dump(tmp_path / "x.pkl", HOSTILE[name], protocol)
    with pytest.raises(pickle.UnpicklingError):
        load_pickle(file)
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.pkl"]


def test_what_is_refused_is_named(tmp_path: Path) -> None:
    with pytest.raises(pickle.UnpicklingError, match=r"it asks for posix\.system"):
        load_pickle(dump(tmp_path / "x.pkl", HOSTILE["a command"]))
    with pytest.raises(
        pickle.UnpicklingError,
        match="it holds an array of type O8: only those of numbers and text are loaded",
    ):
        load_pickle(dump(tmp_path / "x.pkl", HOSTILE["an array of objects"]))


def test_dotted_names_lead_nowhere(tmp_path: Path) -> None:
    """From protocol 4 on a name may be a path through attributes: numpy, `dtype.type.__init__`."""
    for module, name in (
        ("numpy", "ndarray.tofile"),
        ("collections", "OrderedDict.__class__"),
        ("builtins", "set.__class__"),
    ):
        names = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name))
        (tmp_path / "x.pkl").write_bytes(b"\x80\x04" + names + b"\x93.")
        with pytest.raises(pickle.UnpicklingError, match=f"it asks for {module}.{name}"):
            load_pickle(tmp_path / "x.pkl")


class Forged:
    """An array whose type is called `kind` and whose state says, with flags 0, that it holds no
    references.
    """

    def __init__(self, kind: str, fields: Any) -> None:
        self.kind, self.fields = kind, fields

    def __reduce__(self) -> tuple[Any, ...]:
        class Type:
            def __reduce__(inner) -> tuple[Any, ...]:
                names = None if self.fields is None else tuple(self.fields)
                return (
                    np.dtype,
                    (self.kind, False, True),
                    (3, "|", None, names, self.fields, 8, 1, 0),
                )

        reconstruct = np.zeros(1).__reduce__()[0]
        return reconstruct, (np.ndarray, (0,), b"b"), (1, (1,), Type(), False, b"\x41" * 8)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("O8", None), ("V8", {"a": (np.dtype("O"), 0)}), ("S8", {"a": (np.dtype("O"), 0)})],
)
def test_forged_types_cannot_turn_bytes_into_pointers(
    tmp_path: Path, kind: str, fields: Any
) -> None:
    """With numpy's own dtype these end the process (or worse) as soon as the array is looked at; so
    it is tried in another one.
    """
    file = dump(tmp_path / "x.pkl", Forged(kind, fields))
    code = """
import pathlib, pickle, sys
from trainables.contract.pickles import load_pickle
try:
    print(repr(load_pickle(pathlib.Path(sys.argv[1]))[0]))
except pickle.UnpicklingError:
    print("refused")
"""
    found = subprocess.run(
        [sys.executable, "-c", code, str(file)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "refused"


def test_the_type_of_an_array_is_a_dtype(tmp_path: Path) -> None:
    class Untyped:
        def __reduce__(self) -> tuple[Any, ...]:
            return (
                np.zeros(1).__reduce__()[0],
                (np.ndarray, (0,), b"b"),
                (1, (1,), "i1", False, b"\x41"),
            )

    with pytest.raises(
        pickle.UnpicklingError, match="the type of its arrays must be a dtype, got a str"
    ):
        load_pickle(dump(tmp_path / "x.pkl", Untyped()))


def test_the_loader_itself_cannot_be_changed(tmp_path: Path) -> None:
    """A pickle may set attributes of whatever it got hold of; the guards must not be among what it
    can replace.
    """
    attack = (
        b"\x80\x02cnumpy\ndtype\nN}X\x0c\x00\x00\x00__setstate__ccollections\nOrderedDict\ns\x86b."
    )
    (tmp_path / "x.pkl").write_bytes(attack)
    with pytest.raises(pickle.UnpicklingError):
        load_pickle(tmp_path / "x.pkl")
    assert same(load_pickle(dump(tmp_path / "y.pkl", CONTENT["big-endian"])), CONTENT["big-endian"])


FUNCTION = b"cnumpy.core.multiarray\n_reconstruct\n"
CHANGES = {
    "defaults": FUNCTION + b"N}X\x0c\x00\x00\x00__defaults__)s\x86b.",
    "attributes": FUNCTION + b"}X\x04\x00\x00\x00nameK\x01sb.",
    "a class": b"cnumpy\ndtype\n}X\x04\x00\x00\x00nameK\x01sb.",
    "an ordered dict": b"ccollections\nOrderedDict\n)R}X\x05\x00\x00\x00itemsK\x01sb.",
    "the function itself": FUNCTION + b".",
    "the function as a key": b"}" + FUNCTION + b"K\x01s.",
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_pickle_changes_nothing_that_reads_it(tmp_path: Path, name: str) -> None:
    """Opcode BUILD sets attributes of whatever is on the stack."""
    (tmp_path / "x.pkl").write_bytes(b"\x80\x02" + CHANGES[name])
    with pytest.raises(pickle.UnpicklingError):
        load_pickle(tmp_path / "x.pkl")
    assert same(load_pickle(dump(tmp_path / "y.pkl", CONTENT["float16"])), CONTENT["float16"])


def doubled(times: int) -> list[Any]:
    """A list that holds 2**times references to one list, in a few bytes."""
    value: list[Any] = [1.0]
    for _ in range(times):
        value = [value, value]
    return value


def nested(times: int) -> bytes:
    return b"\x80\x02" + b"]" * times + b"a" * (times - 1) + b"."


def holds_itself() -> list[Any]:
    value: list[Any] = []
    value.append([value])
    return value


def called(name: bytes, shared: bytes, times: int) -> bytes:
    """Calls a function on one shared value again and again and keeps what it gives."""
    store = b"\x80\x02" + shared + b"\x85q\x01" + name + b"q\x02]("
    return store + b"h\x02h\x01R" * times + b"e."


class OfText:
    """Pickled as an array whose bytes are text, as Python 2 wrote them."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __reduce__(self) -> tuple[Any, ...]:
        make, *_ = np.zeros(0).__reduce__()
        state = (1, (len(self.text),), np.dtype("u1"), False, self.text)
        return make, (np.ndarray, (0,), b"b"), state


BOMBS = {
    "arrays of shared text": pickle.dumps([*map(OfText, ["x" * (1 << 20)] * 200)]),
    "shared lists": pickle.dumps(doubled(40)),
    "a shared array": pickle.dumps([np.zeros(10_000)] * 10_000),
    "shared text": pickle.dumps(["x" * 100_000] * 10_000),
    "deep lists": nested(100_000),
    "itself": pickle.dumps(holds_itself()),
    "a place in the memo": b"\x80\x02Nr\xff\xff\xff\xff.",
    "bytes that are not there": b"\x80\x04\x8e" + (1 << 45).to_bytes(8, "little") + b"x.",
    "text made again and again": called(
        b"c_codecs\nencode\n", b"X" + (1 << 20).to_bytes(4, "little") + b"x" * (1 << 20), 100
    ),
    "sets made again and again": called(
        b"c__builtin__\nset\n", b"](" + b"K\x01" * 100_000 + b"e", 1000
    ),
    "a number of 600 digits": b"\x80\x02\x8a\xff" + b"\x7f" * 255 + b".",
    "a number of 5000 digits as text": b"I" + b"1" * 5000 + b"\n.",
}


@pytest.mark.parametrize("name", BOMBS)
def test_little_stays_little(tmp_path: Path, name: str) -> None:
    """A small file cannot take much memory, neither when it is read nor when its reader walks
    through it.
    """
    (tmp_path / "x.pkl").write_bytes(BOMBS[name])
    tracemalloc.start()
    try:
        with pytest.raises(pickle.UnpicklingError):
            load_pickle(tmp_path / "x.pkl")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 150e6


def test_what_is_shared_within_reason_is_read(tmp_path: Path) -> None:
    array = np.arange(6.0)
    found = load_pickle(dump(tmp_path / "x.pkl", [{"keypoint": array, "frame_dir": "a"}] * 100))
    assert len(found) == 100
    assert same(found[99]["keypoint"], array)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_cut_pickles_are_one_kind_of_error(tmp_path: Path, share: float) -> None:
    file = dump(tmp_path / "x.pkl", CONTENT)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(pickle.UnpicklingError):
        load_pickle(file)


def test_damaged_pickles_are_one_kind_of_error(tmp_path: Path) -> None:
    """Any byte may be wrong: the content may then be another, but nothing else happens."""
    file = dump(tmp_path / "x.pkl", CONTENT, 3)
    content = bytearray(file.read_bytes())
    rng, refused = np.random.default_rng(0), 0
    for place in rng.integers(0, len(content), 300):
        changed = content.copy()
        changed[place] ^= int(rng.integers(1, 256))
        file.write_bytes(changed)
        try:
            load_pickle(file)
        except pickle.UnpicklingError:
            refused += 1
    assert 0 < refused < 300


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_pickle(tmp_path / "absent.pkl")


def test_bytes_of_another_code_are_refused(tmp_path: Path) -> None:
    text = b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00xX\x05\x00\x00\x00utf-8\x86R."
    (tmp_path / "x.pkl").write_bytes(text)
    with pytest.raises(pickle.UnpicklingError, match="must be written as latin1, got utf-8"):
        load_pickle(tmp_path / "x.pkl")
