"""`train.fast` auto trains as off does: the same losses, step by step, whatever the backbone."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainables.contract import fast as rules
from trainables.contract.backbones import BACKBONES
from trainables.contract.config import TrainConfig
from trainables.contract.errors import Interrupted
from trainables.laws.narrow import clips_for, narrow_backbone
from trainables.network import train_merged
from trainables.training.loop import Fit, Outside

STEPS, CLIPS = 20, 4
PERSONS = torch.tensor([1, 2, 1, 1])


@pytest.fixture(autouse=True)
def _networks_of_this_size_pay(monkeypatch):
    monkeypatch.setitem(rules.LEAST_VALUES, "cpu", 0)
    monkeypatch.setattr(rules, "LEAST_POSITIONS_PER_ROW", 0)
    monkeypatch.setattr(rules, "LEAST_GRAPH_VALUES", 0)


def losses(backbone: str, fast: str) -> torch.Tensor:
    """Of every step, of clips that change from step to step."""
    network = narrow_backbone(backbone, layout="coco17", persons=2).train()
    config = TrainConfig(epochs=1, warmup_epochs=0, milestones=(), lr=1e-3, fast=fast)
    persons = None
    if fast == "auto":
        train_merged(network)
        persons = PERSONS
    fit = Fit(network, config, seed=1, objective=network.objective)
    clips = clips_for(network, count=STEPS + CLIPS - 1)
    found = []
    for step in range(STEPS):
        x = clips[step : step + CLIPS].clone()
        x[PERSONS == 1, ..., 1] = 0
        y = torch.arange(step, step + CLIPS) % 5
        batch = SimpleNamespace(x=x, y=y, index=y, persons=persons)
        found.append(fit._step(batch, 0, step)[0])
    return torch.stack(found)


@pytest.mark.parametrize("backbone", BACKBONES.own)
def test_both_ways_have_the_same_losses(backbone):
    fast, plain = losses(backbone, "auto"), losses(backbone, "off")
    assert not torch.equal(plain[0], plain[-1])
    torch.testing.assert_close(fast, plain, rtol=1e-8, atol=0)


class Batches:
    """Two steps per epoch, of clips of which most have one person."""

    def __init__(self, clips: torch.Tensor) -> None:
        self.clips = clips

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Any]:
        for step in range(first_step, 2):
            x = self.clips[epoch + step : epoch + step + CLIPS].clone()
            x[PERSONS == 1, ..., 1] = 0
            y = torch.arange(CLIPS) % 5
            yield SimpleNamespace(x=x, y=y, index=y, persons=PERSONS)


def trained(folder: Path, attempts: list[tuple[str, int]]) -> dict[str, torch.Tensor]:
    """What three epochs make of a network, in attempts (`train.fast`, steps until it is stopped)
    that each go on from the one before.
    """
    for fast, steps in attempts:
        network = narrow_backbone("hpi_gcn_rp", layout="coco17", persons=2, dropout=0.0).train()
        config = TrainConfig(epochs=3, warmup_epochs=0, milestones=(), lr=1e-3, fast=fast)
        objective = network.objective
        if fast == "auto":
            train_merged(network)
        else:
            objective = lambda x, y, persons, net=network: net.objective(x, y)  # noqa: E731
        left = iter(range(steps - 1, -1, -1))
        outside = Outside(
            folder / "checkpoint.pt",
            folder / "best.pt",
            lambda _metrics: None,
            lambda left=left: next(left) == 0,
        )
        fit = Fit(network, config, seed=1, objective=objective)
        batches = Batches(clips_for(network, count=8))
        if (fast, steps) == attempts[-1]:
            fit.run(batches, None, outside)
        else:
            with pytest.raises(Interrupted):
                fit.run(batches, None, outside)
    return network.state_dict()


@pytest.mark.parametrize("stop_after", [1, 4])
def test_a_run_that_goes_on_with_fast_steps_equals_itself(tmp_path, stop_after):
    """To the last bit; and but for rounding where it began in plain ones, or goes on in such."""
    runs = {}
    for first, second in (("auto", "auto"), ("off", "auto"), ("auto", "off")):
        folder = tmp_path / f"{first} {second}"
        runs[first, second] = trained(folder, [(first, stop_after), (second, 100)])
    whole = trained(tmp_path / "whole", [("auto", 100)])
    for name, value in whole.items():
        assert torch.equal(runs["auto", "auto"][name], value), name
        for changed in (("off", "auto"), ("auto", "off")):
            torch.testing.assert_close(runs[changed][name], value, rtol=1e-8, atol=1e-9)
    assert any(not torch.equal(runs["off", "auto"][name], value) for name, value in whole.items())
