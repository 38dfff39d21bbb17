"""Checkpoint files that hold more than tensors, or less than they claim: read safely or refused."""

from __future__ import annotations

import contextlib
import os
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.contract.errors import UserError
from trainables.foreign import state_file
from trainables.foreign.state_file import read_tensors

WEIGHTS = {"fc.weight": torch.arange(6.0).reshape(2, 3)}


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_tensors(path)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}: ")
    assert "weights_only" not in problem
    assert "trust" not in problem
    return problem.removeprefix(f"{path}: ")


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize(
    "beside",
    [np.float64(0.91), np.float32(3), np.int64(7), np.bool_(True), np.arange(3), np.float64("nan")],
)
def test_numbers_of_numpy_beside_the_tensors_are_dropped(beside, new, tmp_path) -> None:
    content = {
        "meta": {"epoch": 16, "hook_msgs": {"best_score": beside}, "config": "model = dict()"},
        "state_dict": WEIGHTS,
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}},
    }
    torch.save(content, tmp_path / "c.pth", _use_new_zipfile_serialization=new)
    found = read_tensors(tmp_path / "c.pth")
    assert found.keys() == WEIGHTS.keys()
    assert torch.equal(found["fc.weight"], WEIGHTS["fc.weight"])


def test_the_names_of_numpy_1_are_known(tmp_path) -> None:
    torch.save({"meta": np.float64(1.0), "state_dict": WEIGHTS}, tmp_path / "new.pth")
    with (
        zipfile.ZipFile(tmp_path / "new.pth") as new,
        zipfile.ZipFile(tmp_path / "old.pth", "w") as old,
    ):
        for member in new.namelist():
            content = new.read(member)
            assert not member.endswith("data.pkl") or b"numpy._core" in content
            old.writestr(
                member, content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            )
    assert read_tensors(tmp_path / "old.pth").keys() == WEIGHTS.keys()


def test_numpy_never_sees_a_type_from_the_file(tmp_path, monkeypatch) -> None:
    """Its own `dtype` would take flags from the file, and pointers with them."""

    class Lying:
        def __reduce__(self):
            return np.dtype, ("O", False, True), (3, "|", None, None, None, -1, -1, 63)

    torch.save({"meta": Lying(), "state_dict": WEIGHTS}, tmp_path / "c.pth")
    assert read_tensors(tmp_path / "c.pth").keys() == WEIGHTS.keys()


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("new", [True, False])
def test_truncated_files(keep, new, tmp_path) -> None:
    torch.save(
        {"state_dict": {"w": torch.randn(200, 20)}, "meta": np.float64(1)},
        tmp_path / "c.pth",
        _use_new_zipfile_serialization=new,
    )
    content = (tmp_path / "c.pth").read_bytes()
    (tmp_path / "c.pth").write_bytes(content[: int(keep * len(content))])
    assert refusal(tmp_path / "c.pth").startswith("must be a checkpoint that can be read")


def test_every_single_byte_may_be_wrong(tmp_path) -> None:
    torch.save(WEIGHTS, tmp_path / "c.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "c.pth").read_bytes()
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 0xFF
        (tmp_path / "c.pth").write_bytes(changed)
        with contextlib.suppress(UserError):
            assert read_tensors(tmp_path / "c.pth")


def test_a_pickle_that_asks_for_an_unknown_name(tmp_path) -> None:
    torch.save({"state_dict": WEIGHTS, "path": Path("x")}, tmp_path / "c.pth")
    assert refusal(tmp_path / "c.pth").endswith("it asks for pathlib._local.PosixPath") or refusal(
        tmp_path / "c.pth"
    ).endswith("it asks for pathlib.PosixPath")


def test_a_program_is_named(tmp_path) -> None:
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "c.pt")
    assert refusal(tmp_path / "c.pt").endswith("it is a TorchScript program, not a state dict")


def test_a_small_file_that_unpacks_to_much(tmp_path) -> None:
    with zipfile.ZipFile(tmp_path / "c.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("c/data.pkl", pickle.dumps({}))
        archive.writestr("c/data/0", bytes(2**27))
    assert refusal(tmp_path / "c.pth").startswith("must unpack to at most 0.0625 GiB")


def test_a_huge_file(tmp_path, monkeypatch) -> None:
    (tmp_path / "c.pth").touch()
    os.truncate(tmp_path / "c.pth", 3 * 2**30)
    monkeypatch.setattr(state_file, "LARGEST_FILE", 2**31)
    assert refusal(tmp_path / "c.pth") == "must be at most 2 GiB, got 3 GiB"


def test_a_tensor_that_repeats_what_it_stores(tmp_path) -> None:
    torch.save({"w": torch.ones(3, 1).expand(3, 10**9)}, tmp_path / "c.pth")
    assert refusal(tmp_path / "c.pth") == (
        f"w: {state_file.DENSE}, got one of 3000000000 elements that repeats the 3 it stores"
    )


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("fc\x1b[2Jweight", r"names of tensors must be printable text, got 'fc\x1b[2Jweight'"),
        ("a" * 400, "names of tensors must have at most 300 characters, got 400: " + "a" * 60),
    ],
)
def test_names_that_a_terminal_should_not_see(name, rule, tmp_path) -> None:
    torch.save({name: torch.ones(1)}, tmp_path / "c.pth")
    assert refusal(tmp_path / "c.pth").startswith(rule)
