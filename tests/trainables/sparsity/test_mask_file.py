"""Files of masks: written and read again, and everything that can be wrong with one."""

import re

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from tests.trainables.sparsity.small import attached, network
from trainables.contract.config import SparsityConfig
from trainables.contract.errors import UserError
from trainables.sparsity.mask_file import load_masks, masks_of, save_masks


def blocks():
    return [
        nn.Sequential(nn.Conv2d(4, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, (3, 1))),
        nn.Conv2d(8, 2, 1),
    ]


def masks():
    generator = torch.Generator().manual_seed(0)
    return {
        name: (torch.rand(mask.shape, generator=generator) > 0.5).byte()
        for name, mask in masks_of(blocks()).items()
    }


def level_of(found):
    return 1 - float(sum(mask.sum() for mask in found.values())) / sum(
        mask.numel() for mask in found.values()
    )


@pytest.mark.parametrize("kind", ["npz", "pt"])
def test_a_file_comes_back(tmp_path, kind):
    path, written = tmp_path / f"masks.{kind}", masks()
    assert list(written) == ["blocks.0.0.weight", "blocks.0.2.weight", "blocks.1.weight"]
    save_masks(written, path)
    read = load_masks(path, blocks(), level_of(written))
    assert all(
        torch.equal(a, b.double())
        for a, b in zip([mask for block in read for mask in block], written.values(), strict=True)
    )
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("kind", [bool, np.int64, np.float32])
def test_any_kind_of_numbers_will_do(tmp_path, kind):
    np.savez(
        tmp_path / "masks.npz",
        **{name: mask.numpy().astype(kind) for name, mask in masks().items()},
    )
    assert len(load_masks(tmp_path / "masks.npz", blocks(), level_of(masks()))) == 2


def test_all_problems_at_once(tmp_path):
    path, wrong = tmp_path / "masks.pt", masks()
    wrong["blocks.7.weight"] = wrong.pop("blocks.1.weight")
    wrong["blocks.0.0.weight"] = wrong["blocks.0.0.weight"][:3]
    wrong["blocks.0.2.weight"] = wrong["blocks.0.2.weight"] * 0.5
    torch.save(wrong, path)
    with pytest.raises(UserError) as caught:
        load_masks(path, blocks(), 0.5)
    assert [problem.removeprefix(f"{path}: ") for problem in caught.value.problems] == [
        "blocks.0.0.weight: must have the weight's shape (8, 4, 1, 1), got (3, 4, 1, 1)",
        "blocks.0.2.weight: must hold nothing but 0 and 1",
        "blocks.1.weight: must have a mask of shape (2, 8, 1, 1), got none",
        "blocks.7.weight: no maskable weight of the network has this name",
    ]


def test_a_level_that_is_not_the_file_s(tmp_path):
    save_masks(masks(), tmp_path / "masks.npz")
    share = level_of(masks())
    with pytest.raises(
        UserError,
        match=(
            rf"sparsity.level must be what .*masks.npz removes, {share:.3f} \(\d+ of 240 weights\),"
            r" got 0.9"
        ),
    ):
        load_masks(tmp_path / "masks.npz", blocks(), 0.9)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.npz", None, "must be a file of masks, .npz or .pt, got no such file"),
        ("masks.csv", b"1,0", "must be a file of masks, .npz or .pt, got another kind of file"),
        (
            "cut.npz",
            b"PK\x03\x04 cut short",
            "must be a file with one array per weight by name, but",
        ),
        ("text.pt", b"hello", "must be a file with one array per weight by name, but"),
        ("text.npz", b"hello", "must be a file with one array per weight by name, but"),
        ("empty.pt", b"", "must be a file with one array per weight by name, but"),
    ],
)
def test_files_that_are_none(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=re.escape(said)):
        load_masks(tmp_path / name, blocks(), 0.5)


@pytest.mark.parametrize("content", [torch.ones(2), [torch.ones(2)], {"a": 1}])
def test_other_things_torch_saves(tmp_path, content):
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(UserError, match="must be a file with one array per weight by name"):
        load_masks(tmp_path / "other.pt", blocks(), 0.5)


def test_an_ending_that_is_not_known(tmp_path):
    with pytest.raises(UserError, match=r"must end with .npz or .pt"):
        save_masks(masks(), tmp_path / "masks.txt")


def test_masks_of_a_network_are_those_attached_or_its_zeros():
    model = network()
    schedule = attached(model)
    found = masks_of([model[0], model[4]])
    assert all(
        torch.equal(mask, kept.byte())
        for mask, kept in zip(found.values(), schedule.masks, strict=True)
    )
    plain = nn.Conv2d(2, 2, 1)
    plain.weight.data = torch.tensor([[0.0, 1.0], [-1.0, 0.0]]).view(2, 2, 1, 1)
    assert masks_of([plain])["blocks.0.weight"].flatten().tolist() == [0, 1, 1, 0]


def test_a_file_is_for_one_generator_and_that_one_needs_it():
    with pytest.raises(
        ValidationError, match="generator predefined needs mask, a file with one mask per weight"
    ):
        SparsityConfig(level=0.5, generator="predefined")
    with pytest.raises(
        ValidationError, match=r"mask is for generator predefined alone, got mask=m\.npz and"
    ):
        SparsityConfig(level=0.5, mask="m.npz")
