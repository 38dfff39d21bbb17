"""Peak memory against sums made by hand, and how long latency is measured."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from trainables.cost import measured
from trainables.cost.timed import seconds_of_timing
from trainables.models.onednn import add_conv
from trainables.reparam.fusible import frozen_conv


class Timed(nn.Module):
    """A call takes `seconds` of a clock that is made up."""

    def __init__(self, clock: list[float], seconds: float) -> None:
        super().__init__()
        self.clock, self.seconds = clock, seconds
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.clock[0] += self.seconds
        return x


def test_peak_counts_what_is_alive_together():
    layers = nn.Sequential(nn.Linear(10, 1000), nn.ReLU(), nn.Linear(1000, 10))
    # the output of the first dies with the second's
    assert measured.peak_activation_bytes(layers, torch.ones(1, 10)) == 4 * (1000 + 1000)
    assert measured.peak_activation_bytes(layers, torch.ones(8, 10)) == 4 * 8 * (1000 + 1000)


def test_peak_counts_neither_views_nor_what_happens_in_place():
    class Views(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x.view(5, 2).T + 1
            return y.relu_().reshape(2, 5)

    assert measured.peak_activation_bytes(Views(), torch.ones(1, 10)) == 4 * 10


def test_slow_networks_are_timed_less_often(monkeypatch):
    monkeypatch.setattr(measured, "WARMUP_S", 0.0)
    monkeypatch.setattr(measured, "TIMED_S", 0.02)
    clock = [100.0]
    monkeypatch.setattr(measured, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    slow, fast = Timed(clock, 0.02), Timed(clock, 0.001)
    assert measured.latency_ms(slow, torch.ones(1)) == pytest.approx(20)
    assert slow.calls == 1 + measured.FEWEST_CALLS
    assert measured.latency_ms(fast, torch.ones(1)) == pytest.approx(1)
    assert 19 <= fast.calls - 1 <= 21


@pytest.mark.parametrize("seconds", [0.001, 0.02, 0.15, 3.0])
def test_how_long_timing_takes_is_known_beforehand(monkeypatch, seconds):
    calls = []
    monkeypatch.setattr(measured, "call_seconds", lambda *_: calls.append(seconds) or seconds)
    measured.latency_ms(nn.Identity(), torch.ones(1))
    assert seconds_of_timing(seconds) == pytest.approx(sum(calls))


class Packing(nn.Module):
    """A convolution of a deploy form, whose weight is packed at its first call."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = frozen_conv(torch.ones(32, 32, 5, 1), None)

    def forward(self, x: Tensor) -> Tensor:
        return add_conv(torch.zeros_like(x), self.conv, x)


def test_packed_weights_are_no_activations():
    rows = torch.ones(2, 32, 8, 5).to(memory_format=torch.channels_last)
    module = Packing()
    size = 4 * rows.numel()
    assert [measured.peak_activation_bytes(module, rows) for _ in range(2)] == [size, size]
