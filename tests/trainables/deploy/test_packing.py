"""Files of sparse deploy forms: as small as their non-zero numbers, the same numbers again, damage
found.
"""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from tests import naive_models, naive_sparsity
from trainables.contract.config import SparsityConfig
from trainables.contract.errors import UserError
from trainables.deploy.form import (
    FORMAT,
    SPARSE_FORMAT,
    deploy,
    load_deploy,
    nonzero_params,
    save_deploy,
)
from trainables.deploy.packing import pack, unpack
from trainables.deploy.rewrite import pack_deploy, round_to_half
from trainables.sparsity.generator import SparseGenerator
from trainables.sparsity.masks import attach


def sparse(size: int, kept: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(size + kept)
    tensor = torch.zeros(size, dtype=dtype)
    tensor[torch.randperm(size, generator=generator)[:kept]] = torch.randn(
        kept, generator=generator
    ).to(dtype)
    return tensor


def sparse_form(level: float, channels: int = 64):
    """A network of which random weights are gone, deployed without fusing what would fill the
    holes.
    """
    network = naive_models.narrow_backbone(
        "hpi_gcn_op", temporal="conv", channels=channels, groups=8
    ).float()
    generator = torch.Generator().manual_seed(2)
    for conv in [part for part in network.blocks.modules() if isinstance(part, nn.Conv2d)]:
        attach(
            conv, (torch.rand(conv.weight.shape, generator=generator) > level).float()
        ).active = True
    return deploy(network, frames=8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("size", "kept"),
    [
        (7, 0),
        (5000, 0),
        (5000, 1),
        (5001, 250),
        (5001, 1200),
        (5000, 5000),
        (100_000, 40),
        (40_000, 3),
    ],
)
def test_numbers_come_back_bit_for_bit(size, kept, dtype):
    tensor = sparse(size, kept, dtype)
    packed = pack(tensor)
    found = unpack(packed, tensor.shape)
    assert found.dtype == dtype
    assert torch.equal(found, tensor)
    if isinstance(packed, dict):
        expected = naive_sparsity.unpacked(
            {
                name: part.tolist() if isinstance(part, torch.Tensor) else part
                for name, part in packed.items()
            },
            size,
        )
        assert found.tolist() == expected


def test_each_way_is_taken_where_it_is_the_smallest():
    kinds = {
        (size, kept): pack(sparse(size, kept))
        for size, kept in ((20_000, 9_000), (20_000, 1000), (20_000, 19_999), (60, 5))
    }
    assert [
        packed["kind"] if isinstance(packed, dict) else "dense" for packed in kinds.values()
    ] == ["bits", "gaps", "dense", "dense"]
    assert pack(sparse(20_000, 1000))["where"].dtype == torch.uint8
    assert pack(sparse(100_000, 40))["where"].dtype == torch.int16


def test_special_numbers_and_negative_zeros():
    tensor = torch.zeros(5000)
    tensor[:4] = torch.tensor([float("inf"), -float("inf"), 1e-45, -0.0])
    tensor[10] = float("nan")
    found = unpack(pack(tensor), tensor.shape)
    assert torch.equal(found.nan_to_num(7.0), tensor.nan_to_num(7.0))
    assert not np.signbit(found[3].numpy())


def test_numbers_of_half_precision_are_stored_in_it():
    tensor = torch.randn(3000).half().float()
    packed = pack(tensor)
    assert packed["values"].dtype == torch.float16
    assert torch.equal(unpack(packed, tensor.shape), tensor)
    assert pack(torch.full((3000,), 1e5)).dtype == torch.float32  # too large for it


@pytest.mark.parametrize(("level", "share"), [(0.8, 0.35), (0.95, 0.13)])
def test_a_file_is_as_small_as_its_non_zero_numbers(tmp_path, level, share):
    """Five bytes for a non-zero weight at these levels (its number and the gap before it), four for
    the others, and the archive around them.
    """
    form = sparse_form(level)
    written = save_deploy(form, tmp_path / "deploy.pt")
    assert written == (tmp_path / "deploy.pt").stat().st_size
    dense = sum(tensor.numel() * tensor.element_size() for tensor in form.state_dict().values())
    assert written < share * dense
    assert written < 5 * nonzero_params(form) + 25_000  # archive, names, specification
    loaded = load_deploy(tmp_path / "deploy.pt")
    state = loaded.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in form.state_dict().items())
    clips = naive_models.random_clips(2, 3, 8, 25, 1).float()
    with torch.no_grad():
        assert torch.equal(loaded(clips), form(clips))


@pytest.mark.parametrize("half", [False, True])
def test_the_size_of_a_file_is_proportional_to_its_non_zero_numbers(tmp_path, half):
    """Beyond what a file without any weight of a convolution takes: a number, and a bit per place
    (level 0.5) or one or two bytes of gap.
    """

    def written(level: float) -> tuple[int, int]:
        form, path = sparse_form(level), tmp_path / f"{level}.pt"
        if half:
            round_to_half(form)
        size, loaded = save_deploy(form, path), load_deploy(path).state_dict()
        assert size == path.stat().st_size
        assert all(torch.equal(loaded[name], tensor) for name, tensor in form.state_dict().items())
        return size, nonzero_params(form)

    (none, others), number = written(1.0), 2 if half else 4
    each = [(size - none) / (kept - others) for size, kept in map(written, (0.5, 0.8, 0.95, 0.99))]
    assert all(number < bytes_each < number + 1.5 for bytes_each in each[:3])
    assert number < each[3] < number + 3  # of few numbers the records of their tensors count


def test_a_dense_form_is_written_as_ever(tmp_path):
    save_deploy(deploy(naive_models.narrow_backbone().float()), tmp_path / "dense.pt")
    save_deploy(sparse_form(0.9), tmp_path / "sparse.pt")
    formats = [
        torch.load(tmp_path / name, weights_only=True)["format"]
        for name in ("dense.pt", "sparse.pt")
    ]
    assert formats == [FORMAT, SPARSE_FORMAT]


def test_no_negative_zeros_are_shipped():
    form = sparse_form(0.9, channels=16)
    assert not any(
        np.signbit(parameter[parameter == 0].numpy()).any() for parameter in form.parameters()
    )


def test_half_precision_halves_the_file_and_loads_as_rounded(tmp_path):
    form = sparse_form(0.9)
    before = {name: parameter.clone() for name, parameter in form.named_parameters()}
    full = save_deploy(form, tmp_path / "full.pt")
    change = round_to_half(form)
    assert 0 < change <= 2**-11  # half of the last of float16's 11 digits
    assert save_deploy(form, tmp_path / "half.pt") < 0.75 * full  # gaps and small tensors stay
    loaded = load_deploy(tmp_path / "half.pt")
    for name, parameter in loaded.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, before[name].half().float())
    clips = naive_models.random_clips(2, 3, 8, 25, 1).float()
    clips[1] = 0  # what an absent person gives is computed with the rounded weights
    with torch.no_grad():
        assert torch.equal(loaded(clips), form(clips))


def test_weights_that_half_precision_cannot_hold_are_refused(tmp_path):
    form = sparse_form(0.9, channels=16)
    form.head.fc.weight[0, 0] = 1e6
    before = [parameter.clone() for parameter in form.parameters()]
    with pytest.raises(ValueError, match=r"head\.fc\.weight must be at most 65504"):
        round_to_half(form)
    assert all(torch.equal(a, b) for a, b in zip(before, form.parameters(), strict=True))
    save_deploy(form, tmp_path / "deploy.pt")
    with pytest.raises(UserError, match=r"deploy\.pt: head\.fc\.weight must be"):
        pack_deploy(tmp_path / "deploy.pt", tmp_path / "half.pt", half=True, force=False)
    assert not (tmp_path / "half.pt").exists()


def _entry(content):
    return next(entry for entry in content["state"].values() if isinstance(entry, dict))


def _fewer_values(entry):
    entry["values"] = entry["values"][:-1]


def _beyond_the_end(entry):
    entry["where"] = torch.full_like(entry["where"], 200)


def _negative_gap(entry):
    entry["where"] = entry["where"].to(torch.int16) - 300


def _other_shape(entry):
    entry["shape"] = [10**9, 10**9]


def _other_kind(entry):
    entry["kind"] = "runs"


def _other_type(entry):
    entry["dtype"] = "int64"


def _whole_numbers(entry):
    entry["values"] = entry["values"].long()


def _nothing_where(entry):
    del entry["where"]


def _a_list(entry):
    entry["where"] = [1, 2]


DAMAGES = [
    _fewer_values,
    _beyond_the_end,
    _negative_gap,
    _other_shape,
    _other_kind,
    _other_type,
    _whole_numbers,
    _nothing_where,
    _a_list,
]


@pytest.fixture(scope="module")
def sparse_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "deploy.pt"
    save_deploy(sparse_form(0.95, channels=32), path)
    return path


@pytest.mark.parametrize("damage", DAMAGES)
def test_records_that_do_not_fit_are_refused(sparse_file, tmp_path, damage):
    content = torch.load(sparse_file, weights_only=True)
    damage(_entry(content))
    torch.save(content, tmp_path / "deploy.pt")
    with pytest.raises(
        UserError,
        match=(
            r"deploy\.pt: must hold a deploy form whose tensors fit its specification, got:"
            r" blocks\."
        ),
    ):
        load_deploy(tmp_path / "deploy.pt")


def test_bits_that_do_not_fit_are_refused():
    tensor = sparse(20_000, 9_000)
    packed = pack(tensor)
    packed["where"] = packed["where"][:-1]
    with pytest.raises(ValueError, match="a bit for each of 20000 numbers"):
        unpack(packed, tensor.shape)


def test_a_single_wrong_bit_is_found(sparse_file, tmp_path):
    """torch itself reads over it."""
    content = bytearray(sparse_file.read_bytes())
    with zipfile.ZipFile(sparse_file) as archive:
        largest = max(archive.infolist(), key=lambda each: each.file_size)
    content[largest.header_offset + 1000] ^= 1
    (tmp_path / "deploy.pt").write_bytes(content)
    with pytest.raises(
        UserError,
        match=r"deploy\.pt: must be a readable deploy form, but .* does not match its checksum",
    ):
        load_deploy(tmp_path / "deploy.pt")


def test_packing_says_where_channels_are_useless(tmp_path):
    network = naive_models.narrow_backbone("hpi_gcn_op", channels=16, stages=(2,)).float()
    generator = SparseGenerator(
        list(network.blocks), SparsityConfig(level=0.75, sharing="channels"), 0, seed=1
    )
    generator.begin_epoch(0, torch.optim.SGD(network.parameters(), lr=0.1))
    save_deploy(deploy(network), tmp_path / "deploy.pt")
    assert pack_deploy(
        tmp_path / "deploy.pt", tmp_path / "packed.pt", half=False, force=False
    ).compact


def test_packing_a_file_anew(sparse_file, tmp_path):
    out = tmp_path / "half.pt"
    found = pack_deploy(sparse_file, out, half=True, force=False)
    assert (found.bytes_before, found.bytes_after) == (
        sparse_file.stat().st_size,
        out.stat().st_size,
    )
    assert found.bytes_after < found.bytes_before
    assert found.params > found.nonzero_params
    assert not found.compact  # single zeros
    with pytest.raises(UserError, match=r"half\.pt: must not exist yet \(--force replaces it\)"):
        pack_deploy(sparse_file, out, half=False, force=False)
    again = pack_deploy(sparse_file, out, half=False, force=True)
    assert (again.bytes_after, again.largest_change) == (found.bytes_before, 0.0)
    with pytest.raises(UserError, match="must be a deploy form, got no such file"):
        pack_deploy(tmp_path, tmp_path / "other.pt", half=False, force=False)
