import pytest
import torch

from trainables.contract.config import TrainConfig
from trainables.training.optimiser import build_optimizer, learning_rate


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


def test_sgd_is_nesterov_with_weight_decay_written_out():
    config = TrainConfig(lr=0.1, momentum=0.9, weight_decay=0.01)
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
