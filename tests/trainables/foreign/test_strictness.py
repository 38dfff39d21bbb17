"""Checkpoints that are odd, broken or ambiguous: one clear error each, and a count of tensors that
is true.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests import naive_networks
from trainables.contract.errors import UserError
from trainables.foreign.checkpoint import NO_COUNTER, Imported, import_tensors
from trainables.foreign.family import OTHER_COUNT, Said
from trainables.foreign.importing import import_checkpoint
from trainables.foreign.state_file import read_tensors
from trainables.layouts import load_layout

BACKBONES = {
    "hpi_gcn_rp_pa5_k5_joint": "hpi_gcn_rp",
    "hpi_gcn_op_g8_k5_joint": "hpi_gcn_op",
    "st_gcn_pyskl": "st_gcn",
    "st_gcn_pp": "st_gcn_pp",
    "aa_gcn_attention_on": "aa_gcn",
    "dg_stgcn_k8": "dg_stgcn",
    "ctr_gcn_official": "ctr_gcn",
    "ctr_gcn_pyskl": "ctr_gcn",
    "ctr_baseline_st_gcn_k5": "st_gcn_k5",
    "info_gcn_k_1": "info_gcn",
    "hd_gcn_com21": "hd_gcn",
}
# what the tensors, all of them drawn, do not show
SAID = {"hd_gcn_com21": {"centre": 21}, "st_gcn_pyskl": {"adjacency": "scaled"}}
RP, CTR, HD = "hpi_gcn_rp_pa5_k5_joint", "ctr_gcn_official", "hd_gcn_com21"


def tensors(name: str, steps: int = 0) -> dict[str, Tensor]:
    """A checkpoint whose counters are whole numbers, as torch saves them."""
    found = naive_networks.checkpoint(name)
    return {
        key: torch.tensor(steps) if key.endswith("num_batches_tracked") else tensor.float()
        for key, tensor in found.items()
    }


def imported(name: str, theirs: dict[str, Tensor], **options) -> Imported:
    return import_tensors(
        theirs, BACKBONES[name], load_layout("ntu25"), options=SAID.get(name, {}) | options
    )


def refused(name: str, theirs: dict[str, Tensor], **options) -> tuple[str, ...]:
    with pytest.raises(UserError) as caught:
        imported(name, theirs, **options)
    return caught.value.problems


def unread(path: Path, content) -> tuple[str, ...]:
    torch.save(content, path)
    with pytest.raises(UserError) as caught:
        read_tensors(path)
    assert all(problem.startswith(f"{path}: ") for problem in caught.value.problems)
    return tuple(problem.removeprefix(f"{path}: ") for problem in caught.value.problems)


# Files


@pytest.mark.parametrize("keys", [("state_dict", "state_dict"), ("model", "net")])
def test_wrappers_that_hold_themselves(tmp_path, keys):
    first: dict = {}
    first[keys[0]] = first if keys[0] == keys[1] else {keys[1]: first}
    (problem,) = unread(tmp_path / "c.pt", first)
    assert (
        problem
        == "must wrap its state dict at most 8 times, got more, or a dictionary that holds itself"
    )


def test_wrappers_around_the_only_state_dict(tmp_path):
    weights = {"fc.weight": torch.ones(2)}
    content: dict = weights
    for _ in range(8):
        content = {"state_dict": content}
    for held in (
        content,
        {"model": {"depth": 3}, "state_dict": weights},
        {"model": weights, "state_dict": weights},
    ):
        torch.save(held, tmp_path / "c.pt")
        assert read_tensors(tmp_path / "c.pt").keys() == weights.keys()


def test_two_state_dicts(tmp_path):
    (problem,) = unread(
        tmp_path / "c.pt",
        {"net": {"fc.weight": torch.ones(1)}, "model": {"fc.weight": torch.zeros(1)}},
    )
    assert problem == "must hold one state dict, got model beside net"


def test_one_name_for_two_tensors(tmp_path):
    problems = unread(
        tmp_path / "c.pt",
        {
            "module.fc.weight": torch.ones(1),
            "fc.weight": torch.zeros(1),
            1: torch.ones(1),
            "1": torch.ones(1),
        },
    )
    assert problems == (
        "fc.weight: must be stored once, got module.fc.weight beside fc.weight",
        "1: must be stored once, got 1 beside 1",
    )


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        (lambda: torch.ones(2).to_sparse(), "one of layout sparse_coo"),
        (lambda: torch.ones(2, device="meta"), "one without data (meta)"),
        (lambda: torch.ones(2, dtype=torch.complex64), "one of complex64"),
        (lambda: torch.ones(2).to(torch.float8_e4m3fn), "one of float8_e4m3fn"),
        (
            lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
            "a quantised one, qint8",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_tensors_of_no_plain_numbers(tmp_path, tensor, kind):
    problems = unread(
        tmp_path / "c.pt",
        {"fc.weight": tensor(), "fc.bias": torch.ones(2), "l2.bn.weight": tensor()},
    )
    rule = (
        "must be a dense tensor of integers or of float16, bfloat16, float32 or float64, got"
        f" {kind}"
    )
    assert problems == (f"fc.weight: {rule}", f"l2.bn.weight: {rule}")


# Numbers


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite(value):
    theirs = tensors(RP)
    theirs["fc.weight"][3, 4] = value
    theirs["diff_map2.1.running_var"][0] = value
    joint = " and ".join(
        f"{branch}.1.running_var"
        for branch in ("input_map", "diff_map1", "diff_map2", "diff_map3", "diff_map4")
    )
    assert set(refused(RP, theirs)) == {
        f"fc.weight: must be finite, got {value}",
        f"{joint}: must be finite, got {value}",
    }


def test_what_is_not_taken_over_may_be_anything():
    theirs = tensors("hpi_gcn_op_g8_k5_joint")
    theirs["l2.gcn.space_att.SA"][:] = torch.nan
    assert (
        imported("hpi_gcn_op_g8_k5_joint", theirs).unused["l2.gcn.space_att.SA"]
        == "the frozen skeleton graph, which no layer reads"
    )


def test_whole_numbers_as_weights():
    theirs = tensors(RP)
    assert refused(RP, {key: tensor.long() for key, tensor in theirs.items()}) == (
        "the checkpoint must hold weights as floating-point numbers, got none",
    )
    theirs["fc.weight"] = theirs["fc.weight"].int()
    assert refused(RP, theirs) == ("fc.weight: must be floating-point numbers, got int32",)


def test_the_precision_is_that_of_all_weights():
    theirs = tensors(RP)
    theirs["data_bn.weight"] = theirs["data_bn.weight"].half()
    network = imported(RP, theirs).network
    assert torch.equal(network.state_dict()["head.fc.weight"], theirs["fc.weight"])


# Architectures


@pytest.mark.parametrize(
    ("name", "key", "tensor", "problem"),
    [
        (
            CTR,
            "l1.tcn1.branches.0.3.conv.weight",
            None,
            "l1.tcn1.conv.weight: must be in the checkpoint, but is missing",
        ),
        (
            CTR,
            "l1.gcn1.PA",
            torch.ones(25, 25),
            "l1.gcn1.PA: must have 3 axes, none empty, got shape (25, 25)",
        ),
        (
            CTR,
            "fc.weight",
            torch.ones(0, 256),
            "fc.weight: must have 2 axes, none empty, got shape (0, 256)",
        ),
        (
            CTR,
            "data_bn.weight",
            torch.tensor(1.0),
            "data_bn.weight: must have 1 axis, not empty, got shape ()",
        ),
        (
            RP,
            "fc.weight",
            torch.ones(0, 256),
            "fc.weight: must have 2 axes, none empty, got shape (0, 256)",
        ),
        (
            RP,
            "l2.gcn.space_att.PA",
            torch.ones(5, 0, 0),
            "l2.gcn.space_att.PA: must have 3 axes, none empty, got shape (5, 0, 0)",
        ),
        (
            "st_gcn_pyskl",
            "backbone.gcn.0.gcn.A",
            torch.ones(25, 25),
            "must have 3 axes, none empty, got shape (25, 25)",
        ),
        (
            "st_gcn_pp",
            "backbone.gcn.0.gcn.A",
            torch.ones(25, 25),
            "must have 3 axes, none empty, got shape (25, 25)",
        ),
        (
            "aa_gcn_attention_on",
            "backbone.gcn.0.gcn.A",
            torch.ones(25, 25),
            "must have 3 axes, none empty, got shape (25, 25)",
        ),
        (
            "dg_stgcn_k8",
            "backbone.gcn.0.gcn.A",
            torch.ones(25, 25),
            "must have 3 axes, none empty, got shape (25, 25)",
        ),
        (
            "ctr_gcn_pyskl",
            "backbone.net.0.gcn1.A",
            torch.ones(25),
            "must have 3 axes, none empty, got shape (25,)",
        ),
        (
            "info_gcn_k_1",
            "pos_embedding",
            torch.ones(25, 64),
            "pos_embedding: must have 3 axes, none empty, got shape (25, 64)",
        ),
        (
            HD,
            "l1.gcn1.PA",
            torch.ones(3, 25, 25),
            "l1.gcn1.PA: must have 4 axes, none empty, got shape (3, 25, 25)",
        ),
    ],
)
def test_tensors_that_do_not_show_an_architecture(name, key, tensor, problem):
    theirs = tensors(name)
    del theirs[key]
    (found,) = refused(name, theirs if tensor is None else theirs | {key: tensor})
    assert found.startswith("the network cannot be read off the checkpoint (")
    assert problem in found


def test_an_architecture_that_cannot_be_built():
    theirs = tensors(RP)
    theirs["l2.tcn1.TCN_origin.conv.weight"] = torch.ones(60, 60, 4, 1)
    assert refused(RP, theirs) == (
        "the checkpoint's network cannot be built here: kernel_size: must be odd, got 4",
    )


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name == RP else pytest.mark.full) for name in BACKBONES],
)
def test_a_tensor_without_axes_is_refused(name):
    theirs = tensors(name)
    weights = [key for key in theirs if not key.endswith("num_batches_tracked")]
    for key in weights[:: len(weights) // 12]:
        refusal = refused_or_none(name, theirs | {key: torch.tensor(1.0)})
        assert refusal is None or "must" in refusal or "do not fit together" in refusal


def refused_or_none(name: str, theirs: dict[str, Tensor]) -> str | None:
    try:
        imported(name, theirs)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        (CTR, "l3.gcn1.PA", "l3.gcn1.A"),
        (RP, "l3.gcn.conv0.bias", "l3.gcn.space_att.to_v.bias"),
        (RP, "input_map.0.bias", "l1.TCN_origin.conv.bias"),
    ],
)
def test_two_tensors_for_one_place(name, first, second):
    theirs = tensors(name)
    theirs[second] = theirs[first] + 1.0
    (problem,) = refused(name, theirs)
    assert _is_doubled(problem, first, second)


def _is_doubled(problem: str, *names: str) -> bool:
    return any(
        problem
        == f"{name}: must not be stored beside another tensor for the same place in the network"
        for name in names
    )


# Counts


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_counts_of_training_steps_are_taken_over(name):
    theirs = tensors(name, steps=41)
    found = imported(name, theirs)
    ours = {
        key: tensor
        for key, tensor in found.network.state_dict().items()
        if key.endswith("num_batches_tracked")
    }
    assert ours
    assert all(tensor == 41 for tensor in ours.values())
    assert not any(key.endswith("num_batches_tracked") for key in found.constructed)
    assert found.matched + len(found.unused) == len(theirs)


def test_counts_that_the_network_does_not_keep_are_not_called_matched():
    theirs = tensors(RP)
    theirs["l4.gcn.conv0.num_batches_tracked"] = torch.tensor(3)
    theirs["diff_map1.1.num_batches_tracked"] = torch.tensor(9)
    found = imported(RP, theirs)
    assert found.unused == {
        "l4.gcn.conv0.num_batches_tracked": NO_COUNTER,
        "diff_map1.1.num_batches_tracked": OTHER_COUNT,
    }
    assert found.matched == len(theirs) - 2


def test_counts_that_are_not_there_stay_as_constructed():
    theirs = {
        key: tensor
        for key, tensor in tensors(RP).items()
        if not key.endswith("num_batches_tracked")
    }
    found = imported(RP, theirs)
    assert found.matched == len(theirs)
    assert set(found.constructed) == {
        key for key in found.network.state_dict() if key.endswith("num_batches_tracked")
    }


def test_the_second_name_of_a_layer_is_not_called_matched():
    theirs = tensors(HD)
    found = imported(HD, theirs)
    again = {key for key in theirs if ".gcn1.conv.5." in key}
    assert found.unused == dict.fromkeys(again, "conv_d holds the same layer")
    assert found.matched == len(theirs) - len(again)
    alone = imported(HD, {key: tensor for key, tensor in theirs.items() if key not in again})
    assert (alone.matched, alone.unused) == (found.matched, {})
    assert all(
        torch.equal(tensor, alone.network.state_dict()[key])
        for key, tensor in found.network.state_dict().items()
    )


# Options


def test_branches_are_for_one_temporal_module_only(tmp_path):
    torch.save(tensors(CTR), tmp_path / "c.pt")
    with pytest.raises(
        UserError,
        match=r"c\.pt: model\.branches: has no effect in ctr_gcn with the temporal module ms_tcn$",
    ):
        import_checkpoint(tmp_path / "c.pt", "ctr_gcn", Said(options={"branches": ["origin"]}))
    problem, *_ = refused(RP, tensors(RP), branches=["origin"], temporal="conv")
    assert problem == "model.branches: has no effect in hpi_gcn_rp with the temporal module conv"
    branches = ("origin", "pointwise", "average", 5)
    assert imported(RP, tensors(RP), branches=branches).network.spec.model.branches == branches
