import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from trainables.training.evaluate import cross_entropy, log_mean_softmax, score, top_k


def naive_top_k(logits, labels, k):
    hits = 0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        hits += label in sorted(range(len(row)), key=row.__getitem__)[-k:]
    return hits / len(labels)


@pytest.mark.parametrize("k", [1, 3, 5, 9])
def test_top_k_matches_naive(k):
    generator = torch.Generator().manual_seed(k)
    logits, labels = (
        torch.randn(50, 7, generator=generator),
        torch.randint(0, 7, (50,), generator=generator),
    )
    assert top_k(logits, labels, k) == pytest.approx(naive_top_k(logits, labels, min(k, 7)))


def test_cross_entropy_of_uniform_logits_is_log_k():
    assert cross_entropy(torch.zeros(3, 8), torch.tensor([0, 1, 2])) == pytest.approx(
        2.0794415, abs=1e-7
    )


def test_score_runs_in_eval_mode_keeps_order_and_restores_the_mode():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(2, 3)).train()
    batches = [
        SimpleNamespace(
            persons=None, x=torch.ones(2, 2) * i, y=None, index=torch.tensor([2 * i, 2 * i + 1])
        )
        for i in range(3)
    ]
    index, logits = score(model, batches)
    assert index.tolist() == [0, 1, 2, 3, 4, 5]
    assert torch.equal(logits[4], model[2](torch.full((2,), 2.0)).detach())
    assert model.training


class Limited(nn.Module):
    """Takes no more than so many clips at once."""

    def __init__(self, fits):
        super().__init__()
        self.fits, self.sizes = fits, []

    def forward(self, x):
        self.sizes.append(len(x))
        if len(x) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return x


def test_batches_that_do_not_fit_into_memory_are_scored_in_parts():
    x = torch.randn(3, 11, 4, generator=torch.Generator().manual_seed(0))
    batches = [
        SimpleNamespace(persons=None, x=part, y=None, index=torch.arange(11) + 11 * number)
        for number, part in enumerate(x)
    ]
    model = Limited(fits=3)
    index, logits = score(model, batches)
    assert index.tolist() == list(range(33))
    assert torch.equal(logits, x.flatten(0, 1))
    assert model.sizes == [11, 6, 3, 3, 3, 2] + [3, 3, 3, 2] * 2  # what fits is remembered
    with pytest.raises(torch.OutOfMemoryError):
        score(Limited(fits=0), batches)


def naive_mean_of_softmax(rows):
    """Mean over rows of exp(x) / sum exp(x), in float64."""
    mean = [0.0] * len(rows[0])
    for row in rows:
        total = sum(math.exp(x) for x in row)
        mean = [m + math.exp(x) / total / len(rows) for m, x in zip(mean, row, strict=True)]
    return mean


def test_softmax_of_averaged_views_is_the_mean_of_their_softmax():
    logits = torch.randn(6, 4, 5, generator=torch.Generator().manual_seed(0)) * 8
    got = log_mean_softmax(logits).softmax(dim=1)
    expected = [naive_mean_of_softmax(clip) for clip in logits.tolist()]
    # float32
    torch.testing.assert_close(
        got.double(), torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0
    )
    far = torch.tensor([[[0.0, -300.0, -400.0], [0.0, -200.0, -400.0]]])
    # a probability that float32 cannot hold
    assert log_mean_softmax(far)[0, 1].item() == pytest.approx(-200 - math.log(2))


def test_views_of_a_clip_become_one_row_wherever_batches_end():
    rows = torch.randn(9, 4, generator=torch.Generator().manual_seed(1))
    index = torch.tensor([3, 3, 3, 5, 5, 5, 8, 8, 8])
    batches = [
        SimpleNamespace(persons=None, x=rows[part], y=None, index=index[part])
        for part in (slice(0, 4), slice(4, 8), slice(8, 9))
    ]
    clips, logits = score(nn.Identity(), batches)
    assert clips.tolist() == [3, 5, 8]
    assert torch.equal(logits, log_mean_softmax(rows.view(3, 3, 4)))
    single, untouched = score(
        nn.Identity(), [SimpleNamespace(persons=None, x=rows[::3], y=None, index=index[::3])]
    )
    assert single.tolist() == [3, 5, 8]
    assert torch.equal(untouched, rows[::3])


def test_of_equal_logits_the_first_class_wins_and_nan_never_does():
    rows = torch.tensor([[1.0, 0.0, 1.0], [0.0, 2.0, 2.0], [0.0, 0.0, 0.0], [torch.nan] * 3])
    for label in range(3):
        right = [float(top_k(row[None], torch.tensor([label]), 1)) for row in rows]
        assert right == [*(rows[:3].argmax(dim=1) == label).double().tolist(), 0.0]


def test_scoring_leaves_every_module_in_the_mode_that_it_had():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Linear(2, 3)))
    model[1][0].eval()
    modes = []
    model[1].register_forward_pre_hook(
        lambda *_: modes.append([module.training for module in model.modules()])
    )
    before = [module.training for module in model.modules()]
    score(model, [SimpleNamespace(x=torch.ones(4, 2), index=torch.arange(4))])
    assert modes == [[False] * 5]
    assert [module.training for module in model.modules()] == before
