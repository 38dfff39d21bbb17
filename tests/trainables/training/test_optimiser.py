import pytest
import torch

from trainables.contract.config import TrainConfig
from trainables.training.optimiser import build_optimizer, learning_rate, load_optimizer


def test_step_schedule_with_warm_up():
    config = TrainConfig(lr=0.1, epochs=110, warmup_epochs=5, milestones=(90, 100))
    rates = {epoch: learning_rate(config, epoch) for epoch in (0, 1, 4, 5, 89, 90, 99, 100, 109)}
    assert rates == pytest.approx(
        {0: 0.02, 1: 0.04, 4: 0.1, 5: 0.1, 89: 0.1, 90: 0.01, 99: 0.01, 100: 0.001, 109: 0.001}
    )


def test_cosine_schedule_without_warm_up():
    config = TrainConfig(lr=0.1, epochs=100, warmup_epochs=0, schedule="cosine")
    assert [learning_rate(config, epoch) for epoch in (0, 25, 50, 99)] == pytest.approx(
        [0.1, 0.0853553, 0.05, 2.467e-5], rel=1e-4
    )


@pytest.mark.parametrize("fast", ["auto", "off"])
def test_sgd_is_nesterov_with_weight_decay_written_out(fast):
    config = TrainConfig(lr=0.1, momentum=0.9, weight_decay=0.01, fast=fast)
    weight = torch.nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    optimizer = build_optimizer([weight], config)
    expected, velocity = 2.0, None
    for gradient in (1.0, -0.5, 0.25):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        total = gradient + 0.01 * expected
        velocity = total if velocity is None else 0.9 * velocity + total
        expected -= 0.1 * (total + 0.9 * velocity)
        assert weight.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_fused_steps_are_plain_steps_whichever_parameters_have_gradients(momentum):
    def run(fast):
        generator = torch.Generator().manual_seed(1)
        weights = [
            torch.nn.Parameter(torch.randn(size, generator=generator, dtype=torch.float64))
            for size in ((3, 4), (5,), (2, 3, 2))
        ]
        weights[2].data = weights[2].data.transpose(0, 2)  # rows are not the last dimension
        config = TrainConfig(
            lr=0.1, momentum=momentum, nesterov=momentum > 0, weight_decay=0.01, fast=fast
        )
        optimizer = build_optimizer(weights, config)
        for present in ((0,), (0, 1), (1, 2), (0, 1, 2)):  # the others have none yet, or none now
            optimizer.zero_grad()
            loss = sum(
                (weights[i] * torch.arange(weights[i].shape[-1])).sin().sum() for i in present
            )
            loss.backward()
            optimizer.step()
        return weights

    for fused, plain in zip(run("auto"), run("off"), strict=True):
        torch.testing.assert_close(fused, plain, rtol=0, atol=1e-15)


@pytest.mark.parametrize(("saved", "loaded"), [("auto", "off"), ("off", "auto")])
def test_a_loaded_state_does_not_change_how_steps_are_computed(saved, loaded):
    first, second = (
        build_optimizer([torch.nn.Parameter(torch.ones(2))], TrainConfig(fast=fast))
        for fast in (saved, loaded)
    )
    before = second.param_groups[0]["fused"]
    load_optimizer(second, first.state_dict())
    assert second.param_groups[0]["fused"] == before != first.param_groups[0]["fused"]
