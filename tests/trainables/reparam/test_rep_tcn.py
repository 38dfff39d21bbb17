"""Rep-TCN: the released code's numbers, a naive twin, exact fusing, and padding as it is in
training.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests import naive_models
from trainables.contract.model import default_branches
from trainables.reparam.fusible import FULL
from trainables.reparam.rep_tcn import PaddedBatchNorm, RepTCN, average_of_three

CASES = naive_models.load_golden("rep_tcn.json")["cases"]
CASE_IDS = [f"k{case['K']}-s{case['stride']}-g{case['groups']}" for case in CASES]
PRINTED = {"rtol": 0.0, "atol": 2e-9}  # the vectors are printed to 9 decimals
# the released code rounds the average kernel's 1/3 to float32
FLOAT32_THIRD = {"rtol": 0.0, "atol": 1e-7}

NAMES = {
    "avg.conv1x1": "average.pointwise.weight",
    "k5.conv1x1": "5.pointwise.weight",
    "k5.conv5": "5.conv.weight",
    "k7.conv1x1": "7.pointwise.weight",
    "k7.conv7": "7.conv.weight",
    "origin.conv": "origin.conv.weight",
    "pointwise.conv": "pointwise.conv.weight",
}
BRANCHES = {"avg": "average", "k5": "5", "k7": "7"}
NORMS = {"bn_pad": "pad_bn", "bn_out": "bn"}


def ours(name: str) -> str:
    """The released code's tensor name as ours."""
    if name in NAMES:
        return NAMES[name]
    branch, norm, tensor = name.split(".")
    return f"{BRANCHES.get(branch, branch)}.{NORMS.get(norm, norm)}.{tensor}"


def filled(rule: dict) -> Tensor:
    count = torch.Size(rule["shape"]).numel()
    flat = rule["off"] + rule["scale"] * torch.sin(
        1.0 + rule["seed"] + 1.7 * torch.arange(count, dtype=torch.float64)
    )
    return flat.reshape(rule["shape"])


def golden(case: dict) -> tuple[RepTCN, Tensor]:
    module = RepTCN(
        case["channels"],
        case["K"],
        default_branches(case["K"]),
        stride=case["stride"],
        groups=case["groups"],
    ).double()
    state = {f"branches.{ours(name)}": filled(rule) for name, rule in case["params"].items()}
    expected = {name for name in module.state_dict() if not name.endswith("num_batches_tracked")}
    assert set(state) == expected
    module.load_state_dict(state, strict=False)
    return module, filled(case["x"])


def vector(numbers: list[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


@pytest.mark.parametrize("case", CASES, ids=CASE_IDS)
def test_released_outputs_in_evaluation_mode(case):
    module, x = golden(case)
    y = module.eval()(x)
    assert list(y.shape) == case["y_eval_shape"]
    torch.testing.assert_close(y.flatten(), vector(case["y_eval"]), **PRINTED)


@pytest.mark.parametrize("case", CASES, ids=CASE_IDS)
def test_released_outputs_and_statistics_in_training_mode(case):
    module, x = golden(case)
    y = module.train()(x)
    torch.testing.assert_close(y.flatten(), vector(case["y_train_mode"]), **PRINTED)
    torch.testing.assert_close(
        module.branches["average"].pad_bn.running_mean,
        vector(case["running_mean_after_train_avg.bn_pad"]),
        **PRINTED,
    )


@pytest.mark.parametrize("case", CASES, ids=CASE_IDS)
def test_released_fused_kernel_and_bias(case):
    kernel, bias = golden(case)[0].fuse()
    assert list(kernel.shape) == case["fused_kernel_shape"]
    torch.testing.assert_close(kernel.flatten(), vector(case["fused_kernel"]), **FLOAT32_THIRD)
    torch.testing.assert_close(bias, vector(case["fused_bias"]), **FLOAT32_THIRD)


def random_module(kernel_size: int, stride: int, groups: int, branches: tuple = ()) -> RepTCN:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        module = RepTCN(
            4, kernel_size, branches or default_branches(kernel_size), stride=stride, groups=groups
        ).double()
    naive_models.randomise_batch_norm(module, torch.Generator().manual_seed(4))
    return module.eval()


@pytest.mark.parametrize("frames", [6, 9])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel_size", [3, 5, 7, 9, 11])
def test_branches_naive_twin_and_fused_kernel_agree(kernel_size, stride, groups, frames):
    module, x = (
        random_module(kernel_size, stride, groups),
        naive_models.random_clips(2, 4, frames, 3),
    )
    with torch.no_grad():
        y = module(x)
        torch.testing.assert_close(
            y, naive_models.rep_tcn(module, x, stride, groups), rtol=0.0, atol=1e-12
        )
        kernel, bias = module.fuse()
        fused = F.conv2d(
            x, kernel, bias, stride=(stride, 1), padding=(kernel_size // 2, 0), groups=groups
        )
    assert kernel.shape == (4, 4 // groups, kernel_size, 1)
    torch.testing.assert_close(fused, y, rtol=0.0, atol=1e-12)


@pytest.mark.parametrize(
    "branches", [("origin",), (3, "pointwise"), ("average", 9, 5), ("origin", 9)]
)
def test_any_list_of_branches_fuses(branches):
    module, x = random_module(9, 2, 2, branches), naive_models.random_clips(2, 4, 9, 3)
    assert list(module.branches) == [str(branch) for branch in branches]
    with torch.no_grad():
        torch.testing.assert_close(module.deployed(FULL)(x), module(x), rtol=0.0, atol=1e-12)


def test_default_branches_are_the_published_ones():
    assert default_branches(5) == ("origin", "pointwise", "average", 5)
    assert default_branches(9) == ("origin", "pointwise", "average", 5, 7)
    assert default_branches(3) == ("origin", "pointwise", "average")
    assert default_branches(11)[3:] == (5, 7, 9)


def test_padding_rows_are_the_image_of_zero_after_the_update_and_carry_no_gradient():
    norm = PaddedBatchNorm(2, rows=2).double()
    naive_models.randomise_batch_norm(norm, torch.Generator().manual_seed(1))
    x = naive_models.random_clips(3, 2, 5, 4)
    before = norm.running_mean.clone()
    y = norm.train()(x)
    assert not torch.equal(norm.running_mean, before)
    zero = nn.functional.batch_norm(
        torch.zeros(1, 2, 1, 1, dtype=torch.float64),
        norm.running_mean,
        norm.running_var,
        norm.weight,
        norm.bias,
        training=False,
    )
    rows = torch.cat([y[:, :, :2], y[:, :, -2:]], dim=2)
    torch.testing.assert_close(rows, zero.expand_as(rows), rtol=0.0, atol=1e-12)
    (gradient,) = torch.autograd.grad(y.sum(), norm.bias)
    # the 5 inner frames alone
    torch.testing.assert_close(gradient, torch.full((2,), 3 * 5 * 4, dtype=torch.float64))


def test_padding_keeps_a_narrow_dtype():
    norm = PaddedBatchNorm(2, rows=1).eval()
    assert norm(torch.zeros(1, 2, 3, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("frames", [7, 8])
@pytest.mark.parametrize("stride", [1, 2])
def test_mean_of_three_frames_equals_pooling_forward_and_backward(stride, frames):
    x = naive_models.random_clips(2, 3, frames, 4).requires_grad_()
    pooled = F.avg_pool2d(x, (3, 1), (stride, 1))
    torch.testing.assert_close(average_of_three(x, stride), pooled, rtol=0.0, atol=1e-14)
    upstream = naive_models.random_clips(*pooled.shape, seed=6)
    (expected,) = torch.autograd.grad(pooled, x, upstream)
    (gradient,) = torch.autograd.grad(average_of_three(x, stride), x, upstream)
    torch.testing.assert_close(gradient, expected, rtol=0.0, atol=1e-14)
