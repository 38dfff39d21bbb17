"""Deploy forms whose useless channels are gone, and those that run on sparse tensor cores: the same
function.
"""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests import naive_models
from trainables.contract.config import SparsityConfig
from trainables.contract.errors import UserError
from trainables.deploy.compact import CompactBlock, compact
from trainables.deploy.form import deploy, save_deploy
from trainables.deploy.two_of_four import (
    COLUMNS,
    ROWS,
    _compressor,
    _with_products,
    run_two_of_four,
)
from trainables.models.layers import PointwiseProduct
from trainables.reparam.fusible import FULL
from trainables.sparsity.generator import SparseGenerator
from trainables.sparsity.masks import attach

CASES = (
    "hpi_gcn_rp",
    "hpi_gcn_op",
    "hpi_gcn_baseline",
    "st_gcn",
    "ctr_gcn",
    "aa_gcn",
    "dg_stgcn",
    "st_gcn_k5",
    "info_gcn",
    "hd_gcn",
)
TEMPORAL = {"hpi_gcn_baseline": "conv"}


def network_of(case: str, **changes):
    options = {
        "temporal": TEMPORAL.get(case, "rep_tcn"),
        "channels": 16,
        "stages": (2, 1),
        "layout": "coco17",
        "persons": 2,
    }
    network, generator = (
        naive_models.narrow_backbone(case, **(options | changes)).eval(),
        torch.Generator().manual_seed(6),
    )
    for name, parameter in network.named_parameters():
        # not alike in both directions, as they start
        if name.rpartition(".")[2] in ("matrices", "matrix", "adjacency"):
            parameter.data += 0.3 * torch.randn(
                parameter.shape, generator=generator, dtype=torch.float64
            )
    return network


def masked_by_channel(case: str, level: float = 0.75):
    network = network_of(case)
    config = SparsityConfig(level=level, sharing="channels")
    generator = SparseGenerator(list(network.blocks), config, 0, seed=2)
    generator.mask_constant_channels(network, clips_of(1))
    generator.begin_epoch(0, torch.optim.SGD(network.parameters(), lr=0.1))
    return network


def clips_of(count: int = 3, frames: int = 7, dtype=torch.float64):
    clips = naive_models.random_clips(count, 3, frames, 17, 2).to(dtype)
    clips[0, ..., 1] = 0
    return clips


def assert_same(found, expected) -> None:
    assert (found - expected).abs().max() <= 1e-9 * max(1.0, expected.abs().max())


def gmacs(form) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        form._features(form.data_norm(torch.ones(1, 3, 16, 17, 2, dtype=torch.float64)))
    return counter.get_total_flops() / 2e9


@pytest.mark.parametrize("case", CASES)
def test_without_useless_channels_it_gives_the_same_logits(case):
    form = deploy(masked_by_channel(case), frames=7)
    small = compact(form)
    # a first block without a residual stays
    assert sum(isinstance(block, CompactBlock) for block in small.blocks) >= 2
    with torch.no_grad():
        clips, before = clips_of(), clips_of()
        assert_same(small(clips), form(clips))
        assert torch.equal(clips, before)
        assert_same(small(clips_of(frames=8)), form(clips_of(frames=8)))
        assert torch.equal(pickle.loads(pickle.dumps(small))(clips), small(clips))
        assert torch.equal(copy.deepcopy(small)(clips), small(clips))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert small.float()(clips.float()).isfinite().all()
    assert not any(isinstance(block, CompactBlock) for block in form.blocks)


@pytest.mark.parametrize(("case", "share"), [("hpi_gcn_rp", 0.4), ("hpi_gcn_op", 0.5)])
def test_work_falls_with_the_channels(case, share):
    """A quarter of the products of convolutions is left, and half of those with adjacency matrices;
    what is before the blocks stays.
    """
    form = deploy(masked_by_channel(case), frames=7)
    small = compact(form)
    form.arrange(small.execution)
    assert gmacs(small) < share * gmacs(form)


PAIRWISE = {(seed, bool((seed + place) % 2), place) for seed in range(3) for place in range(2)}
"""Of a seed, whether branches are apart, and the network: every two meet in every run."""


@pytest.mark.parametrize(
    ("seed", "apart", "case"),
    [
        pytest.param(
            seed, apart, case, marks=[] if (seed, apart, place) in PAIRWISE else pytest.mark.full
        )
        for seed in range(3)
        for apart in (False, True)
        for place, case in enumerate(("hpi_gcn_rp", "hpi_gcn_op"))
    ],
)
def test_any_rows_and_columns_may_be_zero(case, apart, seed):
    """Also inner channels of which only the bias is left, and convolutions of which nothing is
    left.
    """
    network, generator = network_of(case, stages=(1, 1)), torch.Generator().manual_seed(seed)
    for conv in [part for part in network.blocks.modules() if isinstance(part, nn.Conv2d)]:
        rows, columns = (
            (torch.rand(size, generator=generator) > 0.5).double() for size in conv.weight.shape[:2]
        )
        mask = (rows[:, None] * columns)[:, :, None, None].expand(conv.weight.shape).clone()
        attach(conv, mask * (0 if seed == 2 and conv.kernel_size[0] > 1 else 1)).active = True
    # nothing is left of the first temporal module but biases
    for branch in network.blocks[0].temporal.body.branches.values():
        for conv in (
            [part for part in branch.modules() if isinstance(part, nn.Conv2d)] if seed == 1 else ()
        ):
            conv.parametrizations.weight[0].mask.zero_()
    form = deploy(network, FULL.model_copy(update={"merge": not apart}), frames=7)
    small = compact(form)
    with torch.no_grad():
        assert_same(small(clips_of()), form(clips_of()))


def test_where_it_is_not_worth_it_nothing_changes():
    network = network_of("hpi_gcn_rp")
    assert compact(deploy(network)) is None
    for block in network.blocks:
        conv = block.temporal.body.branches["origin"].conv
        attach(
            conv,
            (
                torch.rand(conv.weight.shape, generator=torch.Generator().manual_seed(1)) > 0.5
            ).double(),
        ).active = True
    assert compact(deploy(network)) is None  # single zeros


def test_a_compact_form_is_not_what_a_file_holds(tmp_path):
    small = compact(deploy(masked_by_channel("hpi_gcn_op")))
    with pytest.raises(ValueError, match="made anew from the form"):
        save_deploy(small, tmp_path / "deploy.pt")


def two_of_four_form(case: str, **changes):
    """Of every four inputs of a 1x1 convolution the two with the smaller weights go."""
    network = network_of(case, channels=64, stages=(1, 1), temporal="conv", groups=8, **changes)
    for conv in [
        part
        for part in network.blocks.modules()
        if isinstance(part, nn.Conv2d) and part.kernel_size == (1, 1)
    ]:
        if conv.in_channels % 4 == 0:
            grouped = conv.weight.detach().abs().view(len(conv.weight), -1, 4)
            mask = (
                torch.zeros_like(grouped)
                .scatter_(2, grouped.topk(2, dim=2).indices, 1.0)
                .view(conv.weight.shape)
            )
            attach(conv, mask).active = True
    return deploy(network, FULL.model_copy(update={"merge": False}), frames=7)


@pytest.mark.parametrize("case", ["hpi_gcn_rp", "hpi_gcn_op", "st_gcn_k5", "ctr_gcn"])
def test_products_of_rows_give_the_same_logits(case):
    """With a dense matrix in place of the compressed one, which only a GPU multiplies."""
    form = two_of_four_form(case)
    twin = _with_products(form, lambda matrix: matrix)
    products = [part for part in twin.modules() if isinstance(part, PointwiseProduct)]
    assert len(products) >= 2
    used = []
    for part in products:
        part.register_forward_hook(lambda *_: used.append(1))
    with torch.no_grad():
        assert_same(twin(clips_of()), form(clips_of()))
    assert twin.execution.rows
    assert not any(isinstance(part, PointwiseProduct) for part in form.modules())


def test_the_product_is_what_runs():
    form = two_of_four_form("hpi_gcn_op")
    zero = _with_products(form, torch.zeros_like)
    with torch.no_grad():
        assert not torch.allclose(zero(clips_of()), form(clips_of()))


def test_other_zeros_are_left_alone():
    with pytest.raises(UserError, match="two zeros in every four neighbouring inputs, got none"):
        _with_products(
            deploy(network_of("hpi_gcn_op", channels=64, temporal="conv")), lambda matrix: matrix
        )


def test_a_build_of_torch_that_has_no_such_products_is_refused():
    with pytest.raises(
        UserError,
        match=(
            r"2:4 products need kernels .* for cpu, got cuSPARSELt: .*device.*; CUTLASS: .*device"
        ),
    ):
        _compressor(torch.zeros(1, dtype=torch.float16))


def test_where_one_kind_of_kernel_is_not_built_in_the_other_one_runs(monkeypatch):
    def not_built_in(_matrix):
        raise RuntimeError("cuSPARSELt not supported on your machine.")

    monkeypatch.setattr(
        torch.sparse.SparseSemiStructuredTensorCUSPARSELT, "from_dense", not_built_in
    )
    monkeypatch.setattr(
        torch.sparse.SparseSemiStructuredTensorCUTLASS, "from_dense", lambda matrix: 2 * matrix
    )
    assert torch.equal(_compressor(torch.zeros(1))(torch.ones(2, 2)), 2 * torch.ones(2, 2))


def test_matrices_fit_every_kernel_of_torch():
    """What torch asks of shapes is its own; `_fits` must not promise more."""
    for kind in (
        torch.sparse.SparseSemiStructuredTensorCUTLASS,
        torch.sparse.SparseSemiStructuredTensorCUSPARSELT,
    ):
        for dtype in (torch.float16, torch.bfloat16):
            asked = kind._DTYPE_SHAPE_CONSTRAINTS[dtype]
            assert ROWS % asked.sparse_min_rows == COLUMNS % asked.sparse_min_cols == 0


def test_without_sparse_tensor_cores_it_is_refused():
    with pytest.raises(UserError, match=r"compute capability 8\.0 or more, got cpu"):
        run_two_of_four(two_of_four_form("hpi_gcn_op"))
