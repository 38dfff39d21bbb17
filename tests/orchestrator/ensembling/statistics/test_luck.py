"""What choosing adds to a figure; planted cases in which the true accuracies are known."""

import numpy as np
import pytest

from orchestrator.ensembling import whole_choice
from orchestrator.ensembling.statistics.intervals import interval
from orchestrator.ensembling.statistics.luck import Bags, first_best, luck, out_of_bag
from orchestrator.ensembling.whole_choice import Contest
from tests import naive_statistics as naive

REPLICATES = 200


def planted_hits(rng, accuracies, clips, shared):
    """(T, N): contenders of these true accuracies; a share of the clips is as hard for all."""
    ease = rng.random(clips)
    alike = rng.random((len(accuracies), clips)) < shared
    draws = np.where(alike, ease, rng.random((len(accuracies), clips)))
    return draws < np.asarray(accuracies)[:, None]


def test_out_of_bag_accuracies_match_naive():
    rng = np.random.default_rng(0)
    hits = rng.random((5, 14)) < 0.6
    bags = Bags.drawn(14, 30, rng)
    chosen = first_best([bags.totals(hits)])
    expected = naive.out_of_bag_accuracies(
        hits.tolist(), [bags.inside(bag).tolist() for bag in range(len(bags.counts))]
    )
    assert out_of_bag(hits, chosen, bags) == pytest.approx(expected)


def test_equal_ones_are_told_apart_by_the_next_key_then_by_their_order():
    first = np.array([[2.0, 2.0, 1.0], [1.0, 1.0, 1.0], [0.0, 3.0, 3.0]])
    second = np.array([[0.0, 1.0, 9.0], [5.0, 5.0, 4.0], [9.0, 1.0, 1.0]])
    assert first_best([first, second]).tolist() == [1, 0, 1]
    assert first_best([first]).tolist() == [0, 0, 1]


def test_a_bag_holds_as_many_clips_as_there_are_and_lacks_some():
    bags = Bags.drawn(3, 500, np.random.default_rng(0))
    assert (bags.counts.sum(axis=1) == 3).all()
    assert 350 < len(bags.counts) < 430  # 2 / 9 of the samples hold all three clips
    assert all(set(bags.inside(i)) | set(bags.outside(i)) == {0, 1, 2} for i in range(9))


def test_where_there_is_no_choice_nothing_is_corrected():
    hits = np.random.default_rng(0).random((1, 400)) < 0.8
    assert contest_of(hits).luck(seed=1) is None
    bags = Bags.drawn(400, 500, np.random.default_rng(1))
    accuracies = out_of_bag(hits, np.zeros(len(bags.counts), int), bags)
    found = luck(1, float(hits.mean()), accuracies, 400, seed=1)
    assert found.corrected == pytest.approx(found.naive, abs=0.005)


def test_the_seed_alone_decides_what_is_drawn():
    contest = contest_of(np.random.default_rng(0).random((3, 100)) < 0.8)
    assert contest.luck(seed=1) == contest.luck(seed=1)
    assert contest.luck(seed=1) != contest.luck(seed=2)


def contest_of(hits):
    """The trial with most hits is chosen, of equal ones the first."""
    rivals = tuple(range(len(hits)))
    chosen = int(hits.sum(axis=1).argmax())
    return Contest(chosen, rivals, rivals[0], hits, (hits.astype(np.float32),))


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch):
    monkeypatch.setattr(whole_choice, "TRIAL_DRAWS", 200)


def coverage(make):
    """Shares of the replicates in which the corrected and the naive 95 % interval cover the true
    accuracy of what was chosen, and the mean errors of both figures.
    """
    corrected, naively, errors = [], [], []
    for replicate in range(REPLICATES):
        hits, accuracies = make(np.random.default_rng(replicate))
        clips = hits.shape[1]
        chosen = int(hits.sum(axis=1).argmax())
        truth, found = accuracies[chosen], contest_of(hits).luck(seed=replicate)
        low, high = interval(hits[chosen].sum(), clips)
        corrected.append(found.interval[0] <= truth <= found.interval[1])
        naively.append(low <= truth <= high)
        errors.append((found.corrected - truth, found.naive - truth))
    return np.mean(corrected), np.mean(naively), np.mean(errors, axis=0)


@pytest.mark.parametrize("shared", [0.0, 0.5])
def test_a_hundred_configurations_of_equal_accuracy(shared):
    """The best of them looks 3 to 6 points better than it is. The standard error of the corrected
    figures' mean over the replicates is 0.15 points, that of a coverage of 0.95 is 0.015.
    """

    def make(rng):
        return planted_hits(rng, [0.8] * 100, 300, shared), [0.8] * 100

    covered, naively, (error, naive_error) = coverage(make)
    assert covered >= 0.93
    assert naively < 0.85
    assert abs(error) < 0.006
    assert naive_error > 0.03


def test_pure_noise_that_is_lucky_on_selection():
    """50 networks that guess among 10 classes; one of 0.16 where it was chosen knows nothing."""

    def make(rng):
        return rng.random((50, 200)) < 0.1, [0.1] * 50

    covered, naively, (error, naive_error) = coverage(make)
    assert covered >= 0.93
    assert naively < 0.5
    assert abs(error) < 0.004
    assert naive_error > 0.04


@pytest.mark.parametrize("shared", [0.0, 0.9])
def test_configurations_that_differ_are_covered_too(shared):
    """The chosen one is a better one more often than not, which the smaller samples find less
    often: the corrected figure may be a little low, never high.
    """

    def make(rng):
        accuracies = np.clip(rng.normal(0.85, 0.03, 30), 0.01, 0.99)
        return planted_hits(rng, accuracies, 400, shared), accuracies

    covered, _, (error, _) = coverage(make)
    assert covered >= 0.93
    assert -0.01 < error < 0.002
