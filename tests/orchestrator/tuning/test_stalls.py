"""Which trials are silent for too long, on an invented clock."""

import pytest

from orchestrator.sweep.schema import Failure
from orchestrator.tuning.stalls import COUNTED_S, Stalls


class Watch:
    """A driver that looks once a second."""

    def __init__(self, **failure):
        self.stalls = Stalls(Failure(**failure))
        self.now = 5000.0
        self.stalls.silent(self.now)

    def wait(self, seconds):
        """What was found while so many seconds passed: (after how many, trial, reason)."""
        found = []
        for second in range(1, seconds + 1):
            self.now += 1.0
            silent = self.stalls.silent(self.now)
            found += [(second, trial, reason) for trial, reason in silent.items()]
        return found

    def epochs(self, trial, *seconds):
        for each in seconds:
            assert self.wait(each) == []
            self.stalls.heard(trial, epochs=1)


def test_k_times_the_usual_epoch():
    watch = Watch(stall_factor=3.0, stall_seconds=20.0)
    watch.stalls.started("a")
    watch.epochs("a", 40, 10, 10, 12)  # the median is 11
    assert watch.wait(33) == []
    assert watch.wait(1) == [(1, "a", "it stalled: no report for 34 s (an epoch of it takes 11 s)")]
    assert watch.wait(33) == []  # it is being ended
    assert len(watch.wait(1)) == 1  # and again, should that have been in vain


def test_short_epochs_have_a_floor():
    watch = Watch(stall_factor=10.0, stall_seconds=60.0)
    watch.stalls.started("a")
    watch.epochs("a", 1, 1, 1)
    assert [second for second, *_ in watch.wait(100)] == [61]


def test_before_the_first_report_a_trial_has_three_times_the_floor():
    watch = Watch(stall_seconds=60.0)
    watch.stalls.started("a")
    assert watch.wait(181) == [(181, "a", "it stalled: no report for 3 min since it started")]


def test_steps_of_an_epoch_are_signs_of_life_and_say_how_long_it_takes_at_least():
    watch = Watch(stall_factor=2.0, stall_seconds=60.0)
    watch.stalls.started("a")
    for _ in range(10):
        assert watch.wait(60) == []
        watch.stalls.heard("a", epochs=0)
    assert watch.wait(1200) == []  # evaluation after a first epoch of 600 s and more
    assert watch.wait(1) == [(1, "a", "it stalled: no report for 20 min")]


def test_a_trial_without_a_worker_is_not_watched():
    watch = Watch(stall_seconds=1.0)
    watch.stalls.heard("a", epochs=1)
    watch.stalls.started("a")
    watch.stalls.started("b")
    watch.stalls.ended("a")
    assert {trial for _, trial, _ in watch.wait(100)} == {"b"}
    watch.stalls.ended("b")
    assert watch.wait(100) == []


def test_a_new_attempt_starts_anew():
    watch = Watch(stall_factor=2.0, stall_seconds=10.0)
    watch.stalls.started("a")
    watch.epochs("a", 25, 25)
    watch.stalls.started("a")
    assert [second for second, *_ in watch.wait(40)] == [31]


@pytest.mark.parametrize("gap", [30.0, 3600.0])
def test_time_in_which_the_driver_was_held_up_is_no_silence(gap):
    watch = Watch(stall_seconds=20.0)
    watch.stalls.started("a")
    watch.epochs("a", 1, 1)
    watch.now += gap
    assert watch.wait(100)[0][0] == 22 - COUNTED_S  # of the gap and the first second, COUNTED_S


def test_each_trial_has_a_clock_of_its_own():
    watch = Watch(stall_seconds=20.0)
    for trial in ("a", "b"):
        watch.stalls.started(trial)
        watch.stalls.heard(trial, epochs=1)
    watch.wait(10)
    watch.stalls.heard("b", epochs=0)
    assert [(second, trial) for second, trial, _ in watch.wait(25)] == [(11, "a"), (21, "b")]


def test_it_can_be_switched_off():
    watch = Watch(stall_factor="never", stall_seconds=1.0)
    watch.stalls.started("a")
    assert watch.wait(5000) == []
