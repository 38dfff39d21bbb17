from types import SimpleNamespace

import pytest
import torch
from torch import nn

from trainables.training.evaluate import cross_entropy, score, top_k


def naive_top_k(logits, labels, k):
    hits = 0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        hits += label in sorted(range(len(row)), key=row.__getitem__)[-k:]
    return hits / len(labels)


@pytest.mark.parametrize("k", [1, 3, 5, 9])
def test_top_k_matches_naive(k):
    generator = torch.Generator().manual_seed(k)
    logits, labels = torch.randn(50, 7, generator=generator), torch.randint(0, 7, (50,), generator=generator)
    assert top_k(logits, labels, k) == pytest.approx(naive_top_k(logits, labels, min(k, 7)))


def test_cross_entropy_of_uniform_logits_is_log_k():
    assert cross_entropy(torch.zeros(3, 8), torch.tensor([0, 1, 2])) == pytest.approx(2.0794415, abs=1e-7)


def test_score_runs_in_eval_mode_keeps_order_and_restores_the_mode():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(2, 3)).train()
    batches = [SimpleNamespace(x=torch.ones(2, 2) * i, y=None, index=torch.tensor([2 * i, 2 * i + 1])) for i in range(3)]
    index, logits = score(model, batches)
    assert index.tolist() == [0, 1, 2, 3, 4, 5]
    assert torch.equal(logits[4], model[2](torch.full((2,), 2.0)).detach())
    assert model.training
