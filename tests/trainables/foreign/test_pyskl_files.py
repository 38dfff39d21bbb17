"""What PYSKL's and Sparse-ST-GCN's checkpoints do not show: concluded and said, or asked for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.trainables.foreign.test_strictness import tensors as whole
from trainables.contract.errors import UserError
from trainables.foreign.checkpoint import Imported, import_tensors
from trainables.foreign.family import Masking, Said
from trainables.foreign.sparse_scores import masked, threshold
from trainables.graphs import stgcn_spatial
from trainables.layouts import load_layout

NTU = load_layout("ntu25")
GRAPH = torch.tensor(stgcn_spatial(NTU.graph_parents or ()), dtype=torch.float32)
CLIPS = torch.randn(2, 3, 8, 25, 2, generator=torch.Generator().manual_seed(3))
ST, AA, CTR, DG = "st_gcn_pyskl", "aa_gcn_attention_off", "ctr_gcn_pyskl", "dg_stgcn_k8"
NAMES = {ST: "st_gcn", AA: "aa_gcn", CTR: "ctr_gcn", DG: "dg_stgcn"}


def tensors(name: str) -> dict[str, Tensor]:
    """A checkpoint; of the networks whose widths are all multiples of 8, an eighth as wide."""
    theirs = whole(name)
    if name in (ST, AA):
        for key, tensor in theirs.items():
            for axis, size in enumerate(tensor.shape):
                if size in (16, 32, 64, 128, 192, 256, 384, 768):
                    theirs[key] = theirs[key].narrow(axis, 0, size // 8)
    return theirs


def imported(name: str, theirs: dict[str, Tensor], **said) -> Imported:
    return import_tensors(theirs, NAMES[name], NTU, **said)


def logits(found: Imported) -> Tensor:
    with torch.no_grad():
        return found.network.eval()(CLIPS)


def refused(name: str, theirs: dict[str, Tensor], **said) -> str:
    with pytest.raises(UserError) as caught:
        imported(name, theirs, **said)
    return str(caught.value)


# gcn_adaptive


def with_graph(part) -> dict[str, Tensor]:
    """ST-GCN whose A is the skeleton's graph, as PYSKL stores it; part: block -> PA."""
    theirs = tensors(ST)
    for block in range(10):
        theirs[f"backbone.gcn.{block}.gcn.A"] = GRAPH.clone()
        theirs[f"backbone.gcn.{block}.gcn.PA"] = part(block)
    return theirs


def factors(block: int) -> Tensor:
    """As training leaves them: no gradient reaches them where the graph is 0, only decay."""
    drawn = torch.rand(GRAPH.shape, generator=torch.Generator().manual_seed(block))
    return torch.where(GRAPH == 0, 0.91, drawn)


def offsets(block: int) -> Tensor:
    return 0.1 * torch.randn(GRAPH.shape, generator=torch.Generator().manual_seed(block))


def test_factors_are_told_from_offsets() -> None:
    found = imported(ST, with_graph(factors), persons=2)
    assert found.network.spec.model.adjacency == "scaled"
    assert found.assumed == ()


def test_offsets_are_added() -> None:
    theirs = with_graph(offsets)
    found = imported(ST, theirs, persons=2)
    assert found.network.spec.model.adjacency == "learned"
    (text,) = found.assumed
    assert text.startswith("gcn_adaptive='offset': PA, which differs where A is 0, is added to A")
    assert found.matched + len(found.unused) == len(theirs)
    assert found.unused["backbone.gcn.3.gcn.PA"] == "is added to A"
    added = {
        name: tensor + theirs[name[:-1] + "PA"] if name.endswith(".gcn.A") else tensor
        for name, tensor in theirs.items()
        if not name.endswith(".PA")
    }
    assert torch.equal(logits(found), logits(imported(ST, added)))
    said = imported(ST, theirs, options={"adjacency": "scaled"})
    assert said.network.spec.model.adjacency == "scaled"
    assert not torch.allclose(logits(said), logits(found))


def test_a_graph_without_zeros_does_not_show_it() -> None:
    assert (
        "PA: is a factor of A (gcn_adaptive='importance') or added to it ('offset'), and the file"
        " does not show which: say --set model.adjacency=scaled or --set model.adjacency=learned"
    ) in refused(ST, tensors(ST))
    assert imported(ST, tensors(ST), options={"adjacency": "learned"}).assumed[:1] == (
        "persons=2: not in the file, --persons",
    )


def test_matrices_that_no_block_trained_are_fixed() -> None:
    theirs = {name: value for name, value in with_graph(factors).items() if ".PA" not in name}
    found = imported(ST, theirs, persons=2)
    assert found.network.spec.model.adjacency == "fixed"
    assert found.assumed == ("gcn_adaptive=None: A is the same in every block",)
    learned = imported(ST, theirs, persons=2, options={"adjacency": "learned"})
    assert learned.network.spec.model.adjacency == "learned"
    assert torch.equal(logits(found), logits(learned))
    assert "the file shows learned, got scaled" in refused(
        ST, theirs, options={"adjacency": "scaled"}
    )


# data_bn_type


def shared(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """With the data normalisation of type 'VC'."""
    return {
        name: tensor[:75] if "data_bn" in name and tensor.dim() else tensor
        for name, tensor in theirs.items()
    }


@pytest.mark.parametrize("name", [AA, CTR])
def test_one_persons_statistics_are_asked_for(name) -> None:
    theirs = shared(tensors(name))
    assert refused(name, theirs).endswith("the file does not show which: say --persons")
    alone = imported(name, theirs, persons=1)
    assert alone.network.spec.persons == 1
    assert alone.assumed == ()
    found = imported(name, theirs, persons=2)
    (text,) = found.assumed
    assert text.startswith("data_bn_type='VC': the statistics that 2 persons share")
    # both persons alike: as the mean of two networks for one person
    halves = [alone.network.eval()(CLIPS[..., [person]]) for person in (0, 1)]
    assert torch.allclose(logits(found), (halves[0] + halves[1]).detach() / 2, atol=1e-4)


@pytest.mark.parametrize("name", [ST, DG])
def test_statistics_for_each_person_apart(name) -> None:
    theirs = {
        key: tensor.repeat(2) if "data_bn" in key and tensor.dim() else tensor
        for key, tensor in tensors(name).items()
    }
    assert "normalises 2 persons apart (data_bn_type='MVC')" in refused(name, theirs)


# gcn_subset_wise


@pytest.mark.parametrize("factor", ["alpha", "beta"])
def test_factors_of_every_subset_are_refused(factor) -> None:
    theirs = tensors(DG)
    assert [text.split(":")[0] for text in imported(DG, theirs).assumed] == [
        "persons=2",
        "gcn_ctr='T', gcn_ada='T' with tanh and softmax, as in all released networks",
    ]
    theirs[f"backbone.gcn.4.gcn.{factor}"][3] = 1e-8
    assert (
        f"backbone.gcn.4.gcn.{factor}: must be 0 after the first element, got a factor for each"
        " subset (gcn_subset_wise=True)"
    ) in refused(DG, theirs)


# Sparse-ST-GCN


def scored(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """With scores beside the convolutions of all blocks, as the sparse code saves them."""
    found = dict(theirs)
    for seed, (name, tensor) in enumerate(theirs.items()):
        if name.endswith(".weight") and tensor.dim() == 4:
            drawn = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(seed))
            found[f"{name}_score"] = drawn
    return found


def naive_masked(theirs: dict[str, Tensor], level: float, masking: Masking) -> dict[str, Tensor]:
    """Weight by weight: zero where its score is below the k-th smallest of its group."""
    groups: dict[str, list[Tensor]] = {}
    for name, tensor in theirs.items():
        if name.endswith("_score"):
            block = name.split(".")[2] if masking.scope == "block" else "all"
            groups.setdefault(block, []).append(tensor.flatten())
    found = {}
    for name, tensor in theirs.items():
        if name.endswith("_score"):
            continue
        found[name] = tensor
        if f"{name}_score" in theirs:
            group = groups[name.split(".")[2] if masking.scope == "block" else "all"]
            ordered = torch.cat(group).sort().values
            least = float(ordered[round(level * (len(ordered) - 1))])
            if masking.residuals_at_zero and ".residual." in name:
                least = 0.0
            found[name] = torch.where(theirs[f"{name}_score"] < least, 0.0, tensor)
    return found


@pytest.mark.parametrize(
    ("name", "masking"),
    [
        (ST, Masking("network", residuals_at_zero=True)),
        (AA, Masking("block", residuals_at_zero=True)),
        (DG, Masking("block")),
    ],
)
def test_scores_become_masks(name, masking) -> None:
    said = {"persons": 2, "options": {"adjacency": "scaled"} if name == ST else {}}
    theirs = scored(tensors(name))
    found = imported(name, theirs, level=0.8, **said)
    expected = imported(name, naive_masked(theirs, 0.8, masking), **said)
    assert all(
        torch.equal(ours, other)
        for ours, other in zip(
            found.network.state_dict().values(), expected.network.state_dict().values(), strict=True
        )
    )
    assert found.assumed[0].startswith("masks at level 0.8, one threshold for")
    assert found.matched + len(found.unused) == len(theirs)


SMALL = {
    "backbone.gcn.0.gcn.conv.weight": torch.ones(4, 1, 1, 1),
    "backbone.gcn.0.gcn.conv.weight_score": torch.tensor([3.0, 1, 2, 4]).view(4, 1, 1, 1),
    "backbone.gcn.0.gcn.conv.zeros": torch.zeros(4, 1, 1, 1),
}


def test_the_constants_of_masks_are_left_out() -> None:
    found = masked(SMALL, Said(level=0.5), Masking("block"), "PYSKL")
    assert found.tensors.keys() == {"backbone.gcn.0.gcn.conv.weight"}
    # k = 1 + round(0.5 * 3) = 3, halves to even: the threshold is 3
    assert found.tensors["backbone.gcn.0.gcn.conv.weight"].flatten().tolist() == [1, 0, 0, 1]
    assert len(found.unused) == 2


@pytest.mark.parametrize(
    ("level", "expected"), [(0.0, 1.0), (0.5, 3.0), (0.25, 2.0), (0.99, 5.0), (1.0, 5.0)]
)
def test_the_threshold_is_the_kth_smallest(level, expected) -> None:
    assert threshold(torch.tensor([5.0, 3.0, 1.0, 2.0, 4.0]), level) == expected


def test_scores_that_cannot_become_masks() -> None:
    masking = Masking("block")
    for theirs, said, source, rule in (
        (SMALL, Said(), masking, "not the sparsity level of the masks: --level 0.8, say"),
        (SMALL, Said(level=0.8), None, "cannot be read for PYSKL's CTR-GCN"),
        ({"a": torch.ones(1)}, Said(level=0.8), masking, "--level: has no effect"),
        (
            SMALL | {"backbone.gcn.0.gcn.conv.weight": torch.ones(3)},
            Said(level=0.8),
            masking,
            r"conv.weight_score: must have a weight of its shape (4, 1, 1, 1) beside it",
        ),
        (
            SMALL
            | {"backbone.gcn.0.gcn.conv.weight_score": torch.full((4, 1, 1, 1), float("nan"))},
            Said(level=0.8),
            masking,
            "must hold numbers, got nan",
        ),
    ):
        with pytest.raises(UserError) as caught:
            masked(theirs, said, source, "PYSKL's CTR-GCN")
        assert rule in str(caught.value)


def test_a_wide_tensor_asks_for_a_network_that_is_refused() -> None:
    theirs = tensors(AA)
    theirs["backbone.gcn.0.tcn.conv.weight"] = torch.zeros(40_000, 1, 9, 1)
    assert "channels: Input should be less than or equal to 4096, got 40000" in refused(AA, theirs)
    theirs["backbone.gcn.0.tcn.conv.weight"] = torch.zeros(4_000, 1, 9, 1)
    assert "the checkpoint must hold the weights of its network, which has" in refused(AA, theirs)
