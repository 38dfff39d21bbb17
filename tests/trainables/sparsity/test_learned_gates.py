"""Gates of a learned level: where they start, what moves them, and what they leave."""

import copy

import pytest
import torch
from torch import nn

from tests import naive_models, naive_sparsity
from tests.trainables.sparsity.learned_cases import (
    WARMUP,
    Clips,
    config_of,
    fit_of,
    learned,
    network,
    outside,
)
from trainables.contract.backbones import BACKBONES
from trainables.contract.errors import Interrupted
from trainables.deploy.form import deploy
from trainables.reparam.fusible import ConvBN
from trainables.sparsity.gates import GATES, Gate
from trainables.sparsity.learned import LearnedLevel
from trainables.sparsity.masks import maskable, raw_weight, removed_count


@pytest.mark.parametrize("gate", GATES)
def test_the_cut_is_that_of_the_naive_twin(gate):
    model = network()
    schedule = learned(model, config_of(gate, target=0.6))
    gates = [module for module in model.modules() if isinstance(module, Gate)]
    for i, module in enumerate(gates):
        generator = torch.Generator().manual_seed(i)
        module.gate.copy_(
            torch.tensor([-0.2, -1.4][i])
            if gate == "threshold"
            else torch.randn(module.gate.shape, generator=generator)
        )
    layers = [model[0], model[4]]
    scores = [
        module.margins(raw_weight(layer)).flatten().tolist()
        for module, layer in zip(gates, layers, strict=True)
    ]
    schedule.end_epoch(WARMUP - 1, torch.optim.SGD(model.parameters(), lr=0.1))
    expected = naive_sparsity.most_kept(scores, removed_count(72 + 144, 0.6))
    assert [module.mask.flatten().int().tolist() for module in gates] == expected
    assert [(layer.weight != 0).flatten().int().tolist() for layer in layers] == expected


def test_thresholds_start_from_the_dense_network():
    dense, sparse = network().eval(), network().eval()
    schedule, x = learned(sparse, config_of(target=0.5)), Clips().x[0]
    schedule.begin_epoch(0, torch.optim.SGD(sparse.parameters(), lr=0.1))
    schedule.begin_step(0, 0)
    assert torch.equal(sparse(x), dense(x))


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("steps", [6, 400])
def test_gates_move_by_nothing_but_their_own_rule(gate, steps):
    """Neither rate nor decay nor momentum of the network; as far as they can if all gradients are
    alike, unless they meet their bounds.
    """
    model = network()
    schedule = learned(model, config_of(gate, price=1.0), warmup=2, steps=steps // 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.7, momentum=0.9, weight_decay=0.5)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(
        list(network().parameters())
    )
    for epoch in range(2):
        schedule.begin_epoch(epoch, optimizer)
        for step in range(steps // 2):
            schedule.begin_step(epoch, step)
            schedule._live.grad = torch.full_like(schedule._live, 3e-7)
            schedule.after_update(epoch, step, optimizer)
    for layer in (model[0], model[4]):
        module = layer.parametrizations.weight[0]
        free = (
            module.START
            - 0.99 * min(module.WANDER * (3 / steps) ** 0.5, module.FASTEST) * steps / 2
        )
        expected = torch.full_like(
            module.gate, max(free, float(module.lowest([raw_weight(layer).detach()])))
        )
        # damping takes a hundredth; of bounds nothing
        torch.testing.assert_close(module.gate, expected, rtol=0.01, atol=0)


@pytest.mark.parametrize("gate", GATES)
def test_a_network_copies_and_changes_its_precision_while_it_learns(gate, tmp_path):
    model = network()
    with pytest.raises(Interrupted):
        fit_of(model, config_of(gate, target=0.7)).run(
            Clips(), None, outside(tmp_path, stop_after=6)
        )
    x, twin = Clips().x[0], copy.deepcopy(model)
    assert torch.equal(twin.eval()(x), model.eval()(x))
    # single precision on one side
    torch.testing.assert_close(twin.double()(x.double()).float(), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("name", sorted(BACKBONES.own))
def test_every_backbone_learns_a_level_and_ships_it(name, gate):
    model = naive_models.narrow_backbone(name, layout="coco17", classes=3)
    sparsity, blocks = config_of(gate, target=0.8), list(model.blocks)
    schedule = LearnedLevel(
        model,
        blocks,
        sparsity,
        warmup_epochs=1,
        steps=3,
        clips=naive_models.random_clips(1, 3, 8, 17, 1),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-3)
    clips = naive_models.random_clips(2, 3, 8, 17, 1)
    for epoch, steps in ((0, 3), (1, 1)):
        schedule.begin_epoch(epoch, optimizer)
        for step in range(steps):
            schedule.begin_step(epoch, step)
            loss, _ = model.train().objective(clips, torch.tensor([0, 2]))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.after_update(epoch, step, optimizer)
        schedule.end_epoch(epoch, optimizer)
    weights = [layer.weight for block in maskable(blocks) for layer in block]
    assert sum(int((weight == 0).sum()) for weight in weights) == removed_count(
        sum(weight.numel() for weight in weights), 0.8
    )
    assert all(weight.any() for weight in weights)
    with torch.no_grad():
        expected = model.eval()(clips)
        shipped = deploy(model, frames=8)(clips)
    # rounding of folded kernels in float64
    assert (shipped - expected).abs().max() <= 1e-9 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("gate", GATES)
def test_a_channel_of_which_nothing_is_left_is_a_constant_in_training_and_in_evaluation(gate):
    """As with masks that were given: running statistics that lag behind would be enlarged three
    hundred times in evaluation.
    """

    def fresh():
        model = naive_models.narrow_backbone("hpi_gcn_rp", layout="coco17", classes=3)
        clip = naive_models.random_clips(1, 3, 8, 17, 1)
        return model, LearnedLevel(
            model,
            list(model.blocks),
            config_of(gate, target=0.97),
            warmup_epochs=1,
            steps=2,
            clips=clip,
        )

    model, schedule = fresh()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-3)
    clips = naive_models.random_clips(2, 3, 8, 17, 1)
    for epoch in range(2):
        schedule.begin_epoch(epoch, optimizer)
        assert not epoch or any(scale.active for _, scale in schedule._scales)
        for step in range(2):
            schedule.begin_step(epoch, step)
            loss, _ = model.train().objective(clips, torch.tensor([0, 2]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.after_update(epoch, step, optimizer)
        assert epoch or not any(scale.active for _, scale in schedule._scales)
        schedule.end_epoch(epoch, optimizer)
    for part in (part for part in model.blocks.modules() if isinstance(part, ConvBN)):
        scale = part.bn.parametrizations.weight[0]
        assert not scale.mask[(part.conv.weight == 0).flatten(1).all(dim=1)].any()
    silent = 0
    for norm, scale in schedule._scales:
        gone, raw = scale.mask == 0, raw_weight(norm)
        silent += int(gone.sum())
        for tensor in (raw, raw.grad, optimizer.state[raw]["momentum_buffer"]):
            assert not tensor[gone].any()
        for mode in (True, False):
            out = norm.train(mode)(naive_models.random_clips(4, len(raw), 8, 17))[:, gone]
            assert torch.equal(out, norm.bias[gone][:, None, None].expand_as(out))
    assert silent > 0
    again, other = fresh()
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        expected = model.eval()(clips)
        assert torch.equal(again.eval()(clips), expected)  # scored without being trained further
        other.begin_epoch(1, torch.optim.SGD(again.parameters(), lr=0.1))
        assert torch.equal(again(clips), expected)
        assert (deploy(model, frames=8)(clips) - expected).abs().max() <= 1e-9 * max(
            1.0, float(expected.abs().max())
        )
