"""Which persons of a batch are run, and what networks of several levels make of them."""

import copy
from pathlib import Path

import pytest
import torch

from tests.naive_multilevel import narrow_levels
from tests.trainables.models.multilevel_cases import KINDS
from trainables.contract.config import TrialConfig
from trainables.laws.narrow import clips_for
from trainables.models.persons import collapse

OUTSIDE = Path(__file__).parents[2] / "outside"


@pytest.mark.parametrize(
    ("persons", "places", "kept", "counts", "rows"),
    [
        ([1, 1, 2, 1], 2, [0, 1, 2, 4, 5, 6], [1, 3, 1, 1, 1, 1], [0, 1, 2, 1, 3, 4, 5, 1]),
        ([3, 1, 1], 3, [0, 1, 2, 3, 4, 5, 6], [1, 1, 1, 1, 2, 2, 1], [0, 1, 2, 3, 4, 5, 6, 4, 5]),
        ([0, 0, 1], 1, [0, 2], [2, 1], [0, 0, 1]),
    ],
)
def test_one_absent_person_of_each_place_stands_for_all(persons, places, kept, counts, rows):
    equal = collapse(torch.tensor(persons), places)
    assert (equal.kept.tolist(), equal.counts.tolist(), equal.rows.tolist()) == (kept, counts, rows)


@pytest.mark.parametrize("persons", [[2, 2], [1, 2], [1], [2, 2, 2, 1, 2, 2, 2, 1]])
def test_nothing_collapses_where_little_is_spared(persons):
    assert collapse(torch.tensor(persons), 2) is None


def step(network, *, told):
    """Loss, gradients and statistics of one training step of clips with 1, 2, 1 and 1 persons."""
    network = copy.deepcopy(network).train()
    clips = clips_for(network, count=4)
    clips[[0, 2, 3], ..., 1] = 0
    torch.manual_seed(0)
    persons = torch.tensor([1, 2, 1, 1]) if told else None
    loss, logits = network.objective(clips, torch.tensor([0, 3, 1, 4]), persons)
    loss.backward()
    gradients = [each.grad for each in network.parameters() if each.grad is not None]
    return [loss.detach(), logits.detach(), *gradients, *network.buffers()]


@pytest.mark.parametrize("kind", KINDS)
def test_networks_of_several_levels_run_absent_persons_once(kind):
    network = narrow_levels(backbone="st_gcn", persons=2, **KINDS[kind])
    rows = []
    network.backbones[0].blocks[0].register_forward_pre_hook(
        lambda _module, args: rows.append(len(args[0]))
    )
    everyone, once = step(network, told=False), step(network, told=True)
    assert all(few < many for many, few in zip(*torch.tensor(rows).view(2, -1), strict=True))
    for mine, expected in zip(once, everyone, strict=True):
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(mine / scale, expected / scale, rtol=0, atol=1e-12)


def test_a_network_from_outside_runs_absent_persons_like_the_others(monkeypatch):
    monkeypatch.syspath_prepend(OUTSIDE)
    config = TrialConfig.model_validate(
        {
            "data": {"store": "s", "protocol": "xsub"},
            "model": {"backbone": "hop_mixer.card:CARD"},
        }
    )
    assert not config.collapses_persons(2)
