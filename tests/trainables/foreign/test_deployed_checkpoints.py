"""Deploy-form checkpoints of HPI-GCN: the released training form, converted tensor by tensor as its
own script does, keeps its logits.
"""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from tests import naive_networks
from trainables.foreign.checkpoint import Imported, import_tensors
from trainables.layouts import load_layout

State = dict[str, Tensor]
EPS = 1e-5  # of BatchNorm
TOLERANCE = 1e-9  # of the largest logit
WITH_LOGITS = {
    ("rp", "emm", 5): "hpi_gcn_rp_pa5_k5_joint",
    ("rp", "bone", 5): "hpi_gcn_rp_pa5_k5_bone",
    ("op", "emm", 5): "hpi_gcn_op_g8_k5_joint",
    ("op", "emm", 9): "hpi_gcn_op_g8_k9_joint",
}
"""The others are put together from these and compared with their own training form."""


def training_form(kind: str, stem: str, size: int) -> State:
    """The graph convolutions of RP or OP, the input block and the temporal kernel of networks with
    vectors.
    """
    found = {
        key: tensor
        for key, tensor in checkpoint((kind, "emm", 5)).items()
        if ".tcn1." not in key and not is_stem(key)
    }
    found |= {
        key: tensor for key, tensor in checkpoint(("op", "emm", size)).items() if ".tcn1." in key
    }
    return found | {
        key: tensor for key, tensor in checkpoint(("rp", stem, 5)).items() if is_stem(key)
    }


def checkpoint(which: tuple[str, str, int]) -> State:
    return naive_networks.checkpoint(WITH_LOGITS[which])


def is_stem(key: str) -> bool:
    return key.startswith(("l1.", "input_map.", "diff_map"))


def affine(state: State, bn: str) -> tuple[Tensor, Tensor]:
    """BatchNorm as scale and shift."""
    scale = state[f"{bn}.weight"] / torch.sqrt(state[f"{bn}.running_var"] + EPS)
    return scale, state[f"{bn}.bias"] - scale * state[f"{bn}.running_mean"]


def fused(state: State, conv: str, bn: str) -> tuple[Tensor, Tensor]:
    scale, shift = affine(state, bn)
    return scale[:, None, None, None] * state[f"{conv}.weight"], shift


def two_steps(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """A 1x1 convolution, then one over time, where time is padded with the image of zero."""
    (inner, inner_bias), (outer, outer_bias) = first, second
    return torch.einsum("omkz,miyx->oikz", outer, inner), outer_bias + torch.einsum(
        "omkz,m->o", outer, inner_bias
    )


def temporal(state: State, tcn: str) -> tuple[Tensor, Tensor]:
    """Rep-TCN's branches as one kernel."""
    kernel, bias = fused(state, f"{tcn}.TCN_origin.conv", f"{tcn}.TCN_origin.bn")
    branches = [fused(state, f"{tcn}.TCN_1x1.conv", f"{tcn}.TCN_1x1.bn")]
    scale, shift = affine(state, f"{tcn}.TCN_avg.avgbn")
    mean = torch.diag(scale / 3)[:, :, None, None].expand(-1, -1, 3, 1)
    branches.append(
        two_steps(fused(state, f"{tcn}.TCN_avg.conv", f"{tcn}.TCN_avg.bn.bn"), (mean, shift))
    )
    for branch in [f"{tcn}.TCN_1x1_kxk", f"{tcn}.TCN_1x1_7x7"]:
        if f"{branch}.conv1.weight" in state:
            branches.append(
                two_steps(
                    fused(state, f"{branch}.conv1", f"{branch}.bn1.bn"),
                    fused(state, f"{branch}.conv2", f"{branch}.bn2"),
                )
            )
    for narrow, more in branches:
        edge = (kernel.shape[2] - narrow.shape[2]) // 2
        kernel[:, :, edge : kernel.shape[2] - edge] += narrow
        bias = bias + more
    return kernel, bias


def converted(state: State) -> State:
    """The names that the released `switch_to_deploy` leaves; modules that it does not know are
    kept.
    """
    found: State = {}
    for key, tensor in state.items():
        module = key.rpartition(".")[0]
        if ".tcn1." in key:
            tcn = key.partition(".tcn1.")[0] + ".tcn1"
            if f"{tcn}.TCN_reparam.weight" not in found:
                found[f"{tcn}.TCN_reparam.weight"], found[f"{tcn}.TCN_reparam.bias"] = temporal(
                    state, tcn
                )
        elif key.endswith(".TCN_origin.conv.weight"):
            pair = module.removesuffix(".TCN_origin.conv")
            weight, bias = fused(state, module, f"{pair}.TCN_origin.bn")
            found |= {f"{pair}.conv_bn.weight": weight, f"{pair}.conv_bn.bias": bias}
        elif key.endswith(".PA") and f"{module}.to_v.weight" not in state:
            found[f"{module}.A"] = tensor.sum(dim=0)
        elif ".TCN_origin." not in key:
            found[key] = tensor
    return found


def imported(kind: str, theirs: State) -> Imported:
    return import_tensors(theirs, f"hpi_gcn_{kind}", load_layout("ntu25"))


PAIRWISE = {("rp", "emm", 5), ("rp", "bone", 9), ("op", "emm", 9), ("op", "bone", 5)}
"""Every two settings meet; the rest is in `make test-full`."""


@pytest.mark.parametrize(
    ("kind", "stem", "size"),
    [
        pytest.param(*case, marks=[] if case in PAIRWISE else pytest.mark.full)
        for case in product(("rp", "op"), ("emm", "bone"), (5, 9))
    ],
)
def test_logits_of_converted_checkpoints(kind, stem, size):
    which = (kind, stem, size)
    trained = checkpoint(which) if which in WITH_LOGITS else training_form(*which)
    clips = naive_networks.clips(WITH_LOGITS.get(which, WITH_LOGITS[kind, "emm", 5]))
    theirs = converted(trained)
    assert not any("TCN_origin" in key for key in theirs)
    found = imported(kind, theirs)
    model = found.network.spec.model
    assert (model.kernel_size, model.input_block) == (size, {"emm": "emm", "bone": "conv"}[stem])
    assert (model.groups if kind == "op" else model.adjacencies) == (8 if kind == "op" else 1)
    assert found.matched + len(found.unused) == len(theirs)
    with torch.no_grad():
        logits = found.network.eval()(clips)
        expected = (
            naive_networks.logits(WITH_LOGITS[which])
            if which in WITH_LOGITS
            else imported(kind, trained).network.eval()(clips)
        )
    assert (logits - expected).abs().max() <= TOLERANCE * expected.abs().max()


def test_an_op_checkpoint_without_its_normalisation():
    theirs = converted(checkpoint(("op", "emm", 5)))
    del theirs["l3.gcn.norm.weight"]
    with pytest.raises(
        ValueError, match=r"^l3\.gcn\.norm\.weight: must be in the checkpoint, but is missing$"
    ):
        imported("op", theirs)
