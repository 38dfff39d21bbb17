"""Networks of several levels against slow twins, and against the single networks they are made
of.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tests import naive_multilevel as naive
from tests.naive_models import random_clips
from tests.naive_multilevel import narrow_levels
from tests.trainables.models.multilevel_cases import KINDS, LABELS, assert_same, clips_for, masked
from trainables.contract.backbones import BACKBONES
from trainables.contract.config import ModelConfig
from trainables.models.build import build_training_form
from trainables.models.build_levels import build_multi_level
from trainables.models.experts import batch_divergence
from trainables.models.mixture import BALANCE_WEIGHT, squared_variation
from trainables.models.nested import log_mean_probability
from trainables.seeding import derive


@torch.no_grad()
def undecided(network, clips):
    """The gate of a mixture such that the mean clip is worth the same to every expert: others are
    sent to different ones.
    """
    mean = network.gate.features(clips).mean(dim=0)
    weight = network.choice.weight
    weight -= (weight @ mean)[:, None] * mean / mean.square().sum()
    return network


class TestArithmetic:
    """What is not done by the single networks, against slow twins.

    Sums of a few float64 numbers: 1e-12 is rounding.
    """

    @pytest.mark.parametrize("fusion", ["mean", "weighted", "concat"])
    def test_experts_are_fused_as_the_twin_does(self, fusion):
        network = narrow_levels("experts", levels=(0.5, 0.8, 0.9), fusion=fusion).eval()
        if fusion == "weighted":
            network.fusion.alpha.data = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
        clips = clips_for(network)
        with torch.no_grad():
            features = [expert.features(clips) for expert in network.members]
            fused = {
                "mean": lambda: naive.mean_of_features(features),
                "weighted": lambda: naive.weighted_features(features, network.fusion.alpha),
                "concat": lambda: naive.concatenated_features(
                    features, network.fusion.linear.weight, network.fusion.linear.bias
                ),
            }[fusion]()
            assert_same(network(clips), network.head(fused), 1e-12)

    def test_fused_weights_start_as_the_mean(self):
        network = build_multi_level(narrow_levels("experts", fusion="weighted").spec, seed=0)
        features = torch.randn(2, 3, 16)
        assert torch.equal(network.fusion(features), features.mean(dim=0))

    def test_divergence_is_the_released_one(self):
        features = random_clips(3, 4, 5)
        assert batch_divergence(features).item() == pytest.approx(
            naive.batch_divergence(features.tolist()), rel=1e-12
        )

    def test_divergence_of_equal_experts_is_nothing_and_its_descent_brings_them_together(self):
        features = random_clips(2, 4, 5).requires_grad_()
        assert batch_divergence(features.detach()[:1].expand(3, -1, -1)).item() == pytest.approx(
            0.0, abs=1e-15
        )
        before = batch_divergence(features)
        before.backward()
        with torch.no_grad():
            assert batch_divergence(features - 0.1 * features.grad) < before

    def test_imbalance(self):
        values = [3.0, 0.5, 1.0, 4.0]
        expected = naive.squared_variation(values)
        assert squared_variation(torch.tensor(values, dtype=torch.float64)).item() == pytest.approx(
            expected, rel=1e-12
        )
        assert squared_variation(torch.ones(3)).item() == 0.0

    def test_probabilities_are_averaged(self):
        logits = random_clips(3, 4, 5)
        expected = torch.tensor(naive.log_mean_probability(logits.tolist()), dtype=torch.float64)
        assert_same(log_mean_probability(list(logits)), expected, 1e-12)

    @pytest.mark.parametrize("active", [1, 2, 3])
    def test_a_mixture_sends_clips_as_the_twin_does(self, active):
        network = narrow_levels("mixture", levels=(0.5, 0.8, 0.9), active=active).eval()
        clips = clips_for(network, count=9)
        undecided(network, clips)
        with torch.no_grad():
            _, chosen = network._gates(clips)
            assert_same(network(clips), naive.mixture(network, clips, active), 1e-12)
            assert [row.nonzero().flatten().tolist() for row in network.sent(clips)] == [
                sorted(row) for row in chosen.tolist()
            ]
        assert len(set(chosen.flatten().tolist())) > 1  # otherwise nothing was dispatched

    def test_only_the_chosen_experts_see_a_clip(self):
        network = narrow_levels("mixture", levels=(0.5, 0.8, 0.9), active=2).eval()
        clips = clips_for(network, count=7)
        undecided(network, clips)
        rows = [0, 0, 0]
        for number, expert in enumerate(network.members):

            def note(_module, args, number=number):
                rows[number] += len(args[0])

            expert.data_norm.register_forward_pre_hook(note)
        _, chosen = network._gates(clips)
        network(clips)
        assert rows == torch.bincount(chosen.flatten(), minlength=3).tolist()
        assert sum(rows) == 14

    def test_a_gate_that_has_learned_nothing_takes_the_first_experts_equally(self):
        network = build_multi_level(
            narrow_levels("mixture", levels=(0.5, 0.8, 0.9), active=2).spec, seed=0
        )
        weights, chosen = network._gates(clips_for(network).float())
        assert torch.equal(weights, torch.full((4, 2), 0.5))
        assert chosen.tolist() == [[0, 1]] * 4


class TestLoss:
    """The loss of a step, term by term. Cross entropy is taken in float32, hence 1e-6."""

    def test_experts(self):
        network = narrow_levels("experts", divergence=0.3).train()
        clips, twin = clips_for(network), copy.deepcopy(network)
        loss, logits = network.objective(clips, LABELS)
        features = torch.stack([expert.features(clips) for expert in twin.members])
        terms = [nn.functional.cross_entropy(twin.head(features.mean(dim=0)), LABELS)]
        terms += [
            nn.functional.cross_entropy(expert.head(own), LABELS)
            for expert, own in zip(twin.members, features, strict=True)
        ]
        assert loss.item() == pytest.approx(
            sum(terms).item() + 0.3 * batch_divergence(features.float()).item(), rel=1e-6
        )
        assert_same(logits, twin.head(features.mean(dim=0)), 1e-12)

    def test_experts_without_losses_of_their_own_have_no_classifier(self):
        network = narrow_levels("experts", expert_losses=False).train()
        clips = clips_for(network)
        loss, logits = network.objective(clips, LABELS)
        assert loss.item() == pytest.approx(
            nn.functional.cross_entropy(logits, LABELS).item(), rel=1e-6
        )
        assert all(isinstance(expert.head, nn.Identity) for expert in network.members)
        assert network.levels() == {}

    @pytest.mark.parametrize("level_losses", [True, False])
    def test_nested(self, level_losses):
        network = narrow_levels(
            "nested", levels=(0.5, 0.8, 0.9), expert_losses=level_losses
        ).train()
        network.trained = (0, 2)
        clips, twin = clips_for(network), copy.deepcopy(network)
        loss, fused = network.objective(clips, LABELS)
        logits = [twin.members[0](clips), twin.members[2](clips)]
        mean = sum(each.softmax(dim=1) for each in logits) / 2
        terms = [nn.functional.nll_loss(mean.log(), LABELS)]
        terms += (
            [nn.functional.cross_entropy(each, LABELS) for each in logits] if level_losses else []
        )
        assert loss.item() == pytest.approx(sum(terms).item(), rel=1e-6)
        assert_same(fused, mean.log(), 1e-12)

    def test_mixture(self):
        network = narrow_levels("mixture", levels=(0.5, 0.8, 0.9), active=2).train()
        clips, twin = clips_for(network), copy.deepcopy(network)
        loss, logits = network.objective(clips, LABELS)
        weights, chosen = twin._gates(clips)
        sums, counts = [0.0] * 3, [0.0] * 3
        for row, numbers in zip(weights.tolist(), chosen.tolist(), strict=True):
            for weight, number in zip(row, numbers, strict=True):
                sums[number] += weight
                counts[number] += 1
        balance = naive.squared_variation(sums) + naive.squared_variation(counts)
        assert loss.item() == pytest.approx(
            nn.functional.cross_entropy(logits, LABELS).item() + BALANCE_WEIGHT * balance, rel=1e-6
        )

    @pytest.mark.parametrize("kind", ["experts", "mixture"])
    def test_every_classifier_of_info_gcn_is_trained_as_info_gcn_trains_its_own(self, kind):
        network = narrow_levels(**KINDS[kind], backbone="info_gcn").train()
        calls = []
        for expert in network.members:

            def note(head, features, labels, own=expert.head_objective):
                calls.append(head)
                return own(head, features, labels)

            expert.head_objective = note
        loss, _ = network.objective(clips_for(network), LABELS)
        assert calls == [
            network.head,
            *([expert.head for expert in network.members] if kind == "experts" else []),
        ]
        loss.backward()
        assert network.head.logvar.weight.grad.any()  # the noise of the code is drawn and learned


class TestMembers:
    def test_experts_have_the_features_of_networks_built_apart(self):
        spec = narrow_levels("experts", "ctr_gcn", levels=(0.5, 0.8, 0.9)).spec
        network = build_multi_level(spec, seed=7).double().train()
        clips, apart = clips_for(network), []
        for number in range(3):
            torch.manual_seed(derive(7, "level", number))
            apart.append(build_training_form(spec.member).double().train())
        for mine, theirs in zip(network.members, apart, strict=True):
            assert torch.equal(mine.features(clips), theirs.features(clips))
        assert not torch.equal(apart[0].head.fc.weight, apart[1].head.fc.weight)

    @pytest.mark.parametrize("backbone", ["info_gcn", "hpi_gcn_rp"])
    def test_nested_levels_share_every_parameter_and_no_statistic(self, backbone):
        network = narrow_levels("nested", backbone, levels=(0.5, 0.8, 0.9))
        first, second = network.members[:2]
        assert all(
            mine is its for mine, its in zip(first.parameters(), second.parameters(), strict=True)
        )
        assert not {tensor.data_ptr() for tensor in first.buffers()} & {
            tensor.data_ptr() for tensor in second.buffers()
        }
        before = copy.deepcopy(second.state_dict())
        first.train()(clips_for(network))
        assert all(
            torch.equal(tensor, before[name]) for name, tensor in second.state_dict().items()
        )
        assert sum(p.numel() for p in network.parameters()) == sum(
            p.numel() for p in first.parameters()
        )

    @pytest.mark.parametrize(
        "move",
        [
            copy.deepcopy,
            lambda network: network.float(),
            lambda network: network.double().to("cpu"),
        ],
    )
    def test_what_is_shared_stays_shared(self, move):
        network = masked("nested")
        moved = move(network)
        originals = [
            level.blocks[0].temporal.conv.parametrizations.weight.original
            for level in moved.members
        ]
        assert originals[0] is originals[1]
        assert sum(p.numel() for p in moved.parameters()) == sum(
            p.numel() for p in network.parameters()
        )

    @pytest.mark.parametrize("kind", ["experts", "nested", "mixture"])
    def test_weights_depend_on_the_seed_alone(self, kind):
        spec = narrow_levels(**KINDS[kind]).spec
        torch.manual_seed(5)
        before = torch.random.get_rng_state()
        one = build_multi_level(spec, seed=1).state_dict()
        assert torch.equal(torch.random.get_rng_state(), before)
        torch.rand(3)
        same, other = (build_multi_level(spec, seed=seed).state_dict() for seed in (1, 2))
        assert all(torch.equal(one[name], same[name]) for name in one)
        head = "head.fc.weight" if kind == "mixture" else "members.0.head.fc.weight"
        assert not torch.equal(one[head], other[head])

    def test_a_gate_has_one_adjacency_where_its_backbone_has_several(self):
        gates = {name: ModelConfig(backbone=name, channels=8).gate for name in BACKBONES.own}
        assert {
            name for name, gate in gates.items() if gate == ModelConfig(backbone=name, channels=8)
        } == {
            "hd_gcn",
            "hpi_gcn_baseline",
            "hpi_gcn_op",
        }
        assert (
            gates["ctr_gcn"].subsets,
            gates["ctr_gcn"].graph,
            gates["hpi_gcn_rp"].adjacencies,
        ) == (1, "random", 1)
        assert ModelConfig(backbone="st_gcn", adjacency="fixed").gate.adjacency == "learned"
