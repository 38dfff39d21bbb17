"""Each rule by itself: who ends, after which epoch, compared with whom."""

import random
from typing import Literal

import pytest

from orchestrator.stopping.course import Course, points_of
from orchestrator.stopping.rules import RULES
from orchestrator.sweep.stopping import (
    AfterEpochsOptions,
    AshaOptions,
    MedianOptions,
    PlateauOptions,
)

COURSE = Course(epochs=110, start=66)


def rule(type, **options):
    models = (AshaOptions, MedianOptions, PlateauOptions, AfterEpochsOptions)
    [model] = [each for each in models if each.model_fields["type"].annotation == Literal[type]]
    return RULES[type](model(type=type, **options))


def train(found, trial, values, course=COURSE, start=1):
    """The counted epoch after which the trial ends; None where it goes on after all of them."""
    for counted, value in enumerate(values, start=start):
        values = value if isinstance(value, tuple) else (value,)
        if found.ends(trial, course, counted, values):
            return counted
    return None


@pytest.mark.parametrize(
    ("options", "course", "points"),
    [
        (AshaOptions(type="asha"), COURSE, (15,)),  # a third of 44; three times as many is the end
        (AshaOptions(type="asha", grace=5), COURSE, (5, 15)),
        (AshaOptions(type="asha", eta=2, grace=5), COURSE, (5, 10, 20, 40)),
        (AshaOptions(type="asha", grace=44), COURSE, ()),  # the last epoch is no rung
        (AshaOptions(type="asha"), Course(2, 1), ()),
        (AshaOptions(type="asha"), Course(3, 1), (1,)),
        (MedianOptions(type="median"), COURSE, (15,)),
        (AfterEpochsOptions(type="after_epochs", grace=9), COURSE, (9,)),
        (PlateauOptions(type="plateau"), COURSE, (11,)),
        (PlateauOptions(type="plateau", patience=43), COURSE, ()),
    ],
)
def test_where_trials_are_compared(options, course, points):
    assert points_of(options, course) == points


def test_asha_lets_the_first_pass_and_then_the_best_third_of_those_that_came():
    found = rule("asha", grace=1)
    ended = [train(found, str(value), [value]) for value in (0.5, 0.4, 0.6, 0.55, 0.7, 0.65, 0.6)]
    # of three and fewer the best goes on, from six on the second best as well
    assert ended == [None, 1, None, 1, None, None, 1]


def test_asha_counts_the_best_epoch_up_to_the_rung():
    found = rule("asha", grace=3, eta=2)
    assert train(found, "a", [0.1, 0.2, 0.3]) is None
    assert train(found, "b", [0.4, 0.1, 0.1]) is None
    assert train(found, "c", [0.2, 0.2, 0.35]) == 3


def test_asha_passes_equal_trials_together():
    found = rule("asha", grace=1)
    assert [train(found, str(trial), [0.25]) for trial in range(5)] == [None] * 5


def test_asha_keeps_more_than_its_share_as_its_docstring_says():
    counts = []
    for seed in range(2000):
        values = random.Random(seed).sample(range(9), 9)
        found = rule("asha", grace=1)
        counts.append(sum(train(found, str(value), [float(value)]) is None for value in values))
    expected = sum(max(1, i // 3) / i for i in range(1, 10))
    assert expected == pytest.approx(3.48, abs=0.01)
    assert sum(counts) / 2000 == pytest.approx(expected, abs=0.1)


def test_a_trial_that_was_not_told_of_at_the_rung_is_not_judged_by_it():
    found = rule("asha", grace=1)
    assert train(found, "a", [0.9]) is None
    assert train(found, "b", [0.1], start=2) is None  # its first epoch was lost
    assert train(found, "c", [0.8]) == 1  # and b is not among those that c is compared with


@pytest.mark.parametrize("kind", ["asha", "after_epochs"])
def test_several_objectives_are_sorted_by_fronts(kind):
    found = rule(kind, grace=1)
    assert train(found, "a", [(0.9, -5.0)]) is None
    # asha passes who is no worse than the others; after_epochs keeps one, the earlier of equals
    assert train(found, "b", [(0.5, -1.0)]) == {"asha": None, "after_epochs": 1}[kind]
    assert train(found, "c", [(0.4, -2.0)]) == 1  # b dominates it


def test_after_epochs_ends_who_was_ahead_once_better_ones_come():
    found = rule("after_epochs", grace=2, keep=2)
    assert train(found, "a", [0.1, 0.1, 0.2]) is None
    assert train(found, "b", [0.3, 0.3]) is None
    assert train(found, "a", [0.9], start=4) is None  # one is ahead: two go on
    assert train(found, "c", [0.2, 0.2]) is None
    assert train(found, "a", [0.9], start=5) == 5  # what it did after the point does not count
    assert train(found, "d", [0.2, 0.2]) == 2  # as good as c, which came earlier
    assert train(found, "b", [0.0], start=3) is None


@pytest.mark.parametrize("kind", ["asha", "after_epochs", "median"])
def test_where_no_epoch_is_left_to_compare_nobody_ends(kind):
    found = rule(kind, **({"min_trials": 1} if kind == "median" else {}))
    assert [train(found, str(value), [value], Course(2, 1)) for value in (0.9, 0.1)] == [None] * 2


def test_median_compares_the_best_epoch_with_running_averages_at_the_same_epoch():
    found = rule("median", grace=2, min_trials=2)
    assert train(found, "a", [0.2, 0.4]) is None  # averages 0.2, 0.3
    assert train(found, "b", [0.6, 0.8]) is None  # 0.6, 0.7; the median is 0.5
    assert train(found, "c", [0.5, 0.1]) is None  # its best is no worse
    assert train(found, "d", [0.1, 0.29]) == 2  # averages 0.3, 0.3, 0.7
    assert train(found, "e", [0.1, 0.31]) is None


def test_median_waits_for_enough_others():
    found = rule("median", grace=1, min_trials=3)
    ended = [train(found, str(value), [value]) for value in (0.9, 0.8, 0.1, 0.2)]
    assert ended == [None, None, None, 1]


def test_median_ends_who_is_worse_in_every_objective():
    found = rule("median", grace=1, min_trials=2)
    values = ((0.5, 0.5), (0.6, 0.4), (0.1, 0.9), (0.9, 0.1), (0.1, 0.1))
    assert [train(found, str(each), [each]) for each in values] == [None, None, None, None, 1]


def test_plateau_ends_who_does_not_improve_but_never_the_best():
    found = rule("plateau", patience=2)
    assert train(found, "a", [0.5, 0.4, 0.5, 0.5, 0.5]) is None  # nobody is better
    assert train(found, "b", [0.3, 0.4, 0.4, 0.4]) == 4
    assert train(found, "c", [0.1, 0.1, 0.2, 0.2, 0.3]) is None  # it improves
    assert train(found, "d", [0.6]) is None
    assert train(found, "a", [0.5], start=6) == 6  # now d is better


def test_plateau_ends_who_another_one_dominates():
    found = rule("plateau", patience=1)
    assert train(found, "a", [(0.5, 0.5), (0.5, 0.5)]) is None
    # neither one that is worse in something nor an equal one is better
    assert train(found, "other", [(0.9, 0.4)]) is None
    assert train(found, "equal", [(0.5, 0.5)]) is None
    assert train(found, "a", [(0.5, 0.5)], start=3) is None
    assert train(found, "better", [(0.5, 0.6)]) is None
    assert train(found, "a", [(0.5, 0.5)], start=4) == 4


@pytest.mark.parametrize("kind", sorted(RULES))
@pytest.mark.parametrize("seed", range(5))
def test_some_trial_of_every_cell_trains_to_its_end(kind, seed):
    rng, course = random.Random(seed), Course(30, 18)
    found = rule(kind, **({"patience": 3} if kind == "plateau" else {"grace": 1}))
    epochs = dict.fromkeys(map(str, range(12)), 0)
    running = set(epochs)
    while running:
        trial = rng.choice(sorted(running))
        epochs[trial] += 1
        value = rng.random()
        if found.ends(trial, course, epochs[trial], (value,)) or epochs[trial] == course.counted:
            running.remove(trial)
    assert max(epochs.values()) == course.counted
    assert min(epochs.values()) < course.counted
