"""Whole networks trained with merged convolutions against the same in plain steps."""

from __future__ import annotations

import copy
from unittest import mock

import pytest
import torch

from tests import naive_models
from trainables.contract import fast
from trainables.contract.backbones import BACKBONES
from trainables.laws.narrow import clips_for, narrow_backbone
from trainables.models.backbones import hpi_gcn
from trainables.network import train_merged
from trainables.reparam import merged
from trainables.sparsity.masks import attach


@pytest.fixture(autouse=True)
def _networks_of_this_size_pay(monkeypatch):
    monkeypatch.setitem(fast.LEAST_VALUES, "cpu", 0)
    monkeypatch.setattr(fast, "LEAST_GRAPH_VALUES", 0)


NETWORKS = {
    "RP": {"name": "hpi_gcn_rp", "kernel_size": 5},
    "RP, masked": {"name": "hpi_gcn_rp", "kernel_size": 5},
    "OP, kernel of 9": {"name": "hpi_gcn_op", "kernel_size": 9, "groups": 2},
    "baseline as released": {"name": "hpi_gcn_baseline", "normalised": False},
    "baseline": {"name": "hpi_gcn_baseline"},
}


@pytest.mark.parametrize("case", sorted(NETWORKS))
def test_twenty_steps_have_the_loss_curve_of_plain_training(case):
    plain = naive_models.narrow_backbone(layout="ucla20", **NETWORKS[case]).train()
    plain.head.dropout.p = 0.0
    if "masked" in case:
        for number, layer in enumerate(
            layer for layer in plain.blocks.modules() if isinstance(layer, torch.nn.Conv2d)
        ):
            draw = naive_models.random_clips(*layer.weight.shape, seed=number)
            attach(layer, (draw > -0.5).double())
    merging = copy.deepcopy(plain)
    train_merged(merging)
    assert merging.state_dict().keys() == plain.state_dict().keys()
    curves = []
    for network in (plain, merging):
        optimizer = torch.optim.SGD(
            network.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=4e-4
        )
        losses = []
        for step in range(20):
            clips = naive_models.random_clips(8, 3, 9, 20, 1, seed=step)
            labels = torch.arange(8) % 5
            optimizer.zero_grad()
            loss, _ = network.objective(clips, labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        curves.append(torch.stack(losses))
    assert curves[0][-1] != curves[0][0]
    torch.testing.assert_close(curves[1], curves[0], rtol=1e-9, atol=0.0)
    for ours, theirs in zip(
        merging.state_dict().values(), plain.state_dict().values(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["hpi_gcn_rp", "hpi_gcn_op"])
def test_absent_persons_count_in_merged_statistics_too(name):
    plain = naive_models.narrow_backbone(name, layout="ucla20", persons=2, groups=2).train()
    plain.head.dropout.p = 0.0
    merging = copy.deepcopy(plain)
    train_merged(merging)
    # draws differ by 5e-14 to 6e-13: rows of smaller batches are rounded in another order
    clips = naive_models.random_clips(6, 3, 9, 20, 2, seed=3)
    persons = torch.tensor([1, 2, 1, 1, 2, 1])
    clips[persons == 1, ..., 1] = 0
    labels = torch.arange(6) % 5
    losses = [
        plain.objective(clips, labels)[0],
        merging.objective(clips, labels, persons)[0],
    ]
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-12, atol=0.0)
    ours, theirs = (
        torch.cat([each.grad.flatten() for each in network.parameters()])
        for network in (merging, plain)
    )
    assert (ours - theirs).norm() < 1e-12 * theirs.norm()
    for ours, theirs in zip(merging.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("counted", [False, True], ids=["every person", "absent ones once"])
@pytest.mark.parametrize(
    ("name", "size"), [("hpi_gcn_rp", 5), ("hpi_gcn_rp", 9), ("hpi_gcn_op", 9)]
)
def test_single_precision_rounds_no_more_than_twice_as_much_in_a_whole_network(name, size, counted):
    """Kernel gradients that are summed up as oneDNN sums them lose 2.5 to 3 times as much."""
    exact = narrow_backbone(name, persons=2, dropout=0.0, kernel_size=size).train()
    clips, persons = clips_for(exact, count=16, frames=9), torch.tensor([1] * 15 + [2])
    clips[persons == 1, ..., 1] = 0
    labels, gradients = torch.arange(16) % 5, []
    for dtype, merging in ((torch.float64, False), (torch.float32, False), (torch.float32, True)):
        network = copy.deepcopy(exact).to(dtype)
        if merging:
            train_merged(network)
        there = persons if merging and counted else None
        loss, _ = network.objective(clips.to(dtype), labels, there)
        loss.backward()
        gradients.append(torch.cat([each.grad.double().flatten() for each in network.parameters()]))
    plain, branches, merged_ones = gradients
    assert (merged_ones - plain).norm() <= 2 * (branches - plain).norm()


@pytest.mark.parametrize("name", BACKBONES.own)
def test_cards_say_whose_graph_convolutions_are_trained_as_one(name):
    network = naive_models.narrow_backbone(name).train()
    clips = naive_models.random_clips(2, 3, 9, 25, 1)
    train_merged(network)
    with mock.patch.object(
        hpi_gcn.GraphConv, "_product", autospec=True, side_effect=hpi_gcn.GraphConv._product
    ) as spatial:
        network(clips)
    expected = BACKBONES.find(name).trains_graph_convolutions_as_one * len(network.blocks)
    assert spatial.call_count == expected


def test_networks_told_to_take_the_merged_ways():
    network = naive_models.narrow_backbone("hpi_gcn_rp", layout="ucla20").train()
    clips = naive_models.random_clips(8, 3, 9, 20, 1)

    def taken() -> list[int]:
        with (
            mock.patch.object(merged, "merged_forward", wraps=merged.merged_forward) as temporal,
            mock.patch.object(
                hpi_gcn.GraphConv, "_product", autospec=True, side_effect=hpi_gcn.GraphConv._product
            ) as spatial,
        ):
            network(clips)
        return [temporal.call_count, spatial.call_count]

    assert taken() == [0, 0]
    train_merged(network)
    assert taken() == [len(network.blocks)] * 2
    network.eval()
    assert taken() == [0, 0]
