"""What is left of a sweep, corrected by what its trials have taken."""

from types import SimpleNamespace

import pytest

from orchestrator.planning.calibration import Correction, Observations
from orchestrator.planning.expected import TrialTime
from orchestrator.planning.machine import Machine
from orchestrator.record.times import Factor, load_times
from orchestrator.trials.proposed import Proposal
from orchestrator.tuning.remaining import History, Remaining

MACHINE = Machine("this machine", "1 CPU core", 1, 0.0, 2)


def trial(name: str, kind: str = "a"):
    return SimpleNamespace(proposal=Proposal(name, "cell", {}, {}, 0), kind=kind)


def time_of(made) -> TrialTime:
    """20 seconds in all: 4 once, and 8 epochs of 2."""
    return TrialTime(made.kind, 4.0, 2.0, 8)


def remaining(tmp_path, share=1.0, machine=MACHINE, **earlier: float) -> Remaining:
    kinds = {kind: Factor(1, factor) for kind, factor in earlier.items()}
    return Remaining(time_of, History(machine, tmp_path, Correction(kinds)), share)


def test_what_waits_is_the_sum_of_what_is_expected(tmp_path):
    left = remaining(tmp_path, a=1.0, b=3.0)
    for made in (trial("1"), trial("2"), trial("3", "b"), trial("3", "b")):
        left.know(made)
    assert left.trial_seconds("3") == 60.0
    assert left.waiting_seconds((), 3) == 20 + 20 + 60
    assert left.waiting_seconds(("1",), 2) == 20 + 60
    left.end("3")
    left.know(trial("3", "b"))  # it has ended
    assert left.waiting_seconds(("1",), 1) == 20
    assert left.waiting_seconds((), 6) == 3 * (20 + 20)  # others like those that are known
    assert left.waiting_seconds(("1", "2"), 0) == 0
    assert left.waiting_seconds(("1", "2"), 1) is None
    assert left.trial_seconds("3") is None


def test_early_stopping_leaves_a_share_of_the_epochs(tmp_path):
    left = remaining(tmp_path, share=0.5)
    left.know(trial("1"))
    assert left.waiting_seconds((), 1) == 4 + 8
    assert left.trial_seconds("1") == 20  # of a whole trial


def test_finished_trials_correct_the_others(tmp_path):
    left = remaining(tmp_path, a=9.0)
    for name in "123":
        left.know(trial(name))
    left.finished(trial("1"), wall=60.0, cpu=30.0)
    left.end("1")
    # it needs 30 seconds of a processor, and other work makes that twice as long
    assert left.waiting_seconds((), 2) == pytest.approx(2 * 60)
    assert load_times(tmp_path).kinds == {"a": Factor(1, 1.5)}


@pytest.mark.parametrize("machine", [("4 cores", 4, 0.0), ("1 GPU", 1, 1.0)])
def test_of_threads_and_gpus_the_wall_clock_counts(tmp_path, machine):
    name, cpus, gpus = machine
    left = remaining(tmp_path, machine=Machine("m", name, cpus, gpus, 1))
    left.know(trial("2"))
    left.finished(trial("1"), wall=30.0, cpu=90.0)
    assert left.waiting_seconds((), 1) == pytest.approx(30)


def test_trials_with_more_threads_say_nothing_of_one(tmp_path):
    left = remaining(tmp_path)
    left.know(trial("2"))
    left.finished(trial("1"), wall=30.0, cpu=45.0)
    assert left.waiting_seconds((), 1) == 20


def test_what_earlier_runs_showed_is_kept(tmp_path):
    history = History(MACHINE, tmp_path, seen=Observations(Correction({"b": Factor(5, 2.0)})))
    history.write()
    assert load_times(tmp_path).kinds == {"b": Factor(5, 2.0)}
    left = Remaining(time_of, history)
    left.finished(trial("1"), wall=20.0, cpu=20.0)
    assert load_times(tmp_path).kinds == {"b": Factor(5, 2.0)}  # not so soon again
    history.write()
    assert load_times(tmp_path).kinds == {"a": Factor(1, 1.0), "b": Factor(5, 2.0)}
    left.finished(trial("2", "b"), wall=20.0, cpu=20.0)  # one that is like none before
    history.write()
    assert load_times(tmp_path).kinds["b"] == Factor(6, 2.0)


def test_a_folder_that_cannot_be_written_costs_nothing(tmp_path, caplog):
    history = History(MACHINE, tmp_path / "file" / "run")
    (tmp_path / "file").write_text("")
    history.add(time_of(trial("1")), 20.0, 20.0)
    assert "cannot be noted" in caplog.text


def test_a_trial_whose_processor_time_is_not_known_says_nothing_of_the_load(tmp_path):
    left = remaining(tmp_path, a=1.0)
    left.know(trial("2"))
    left.finished(trial("1"), wall=30.0, cpu=0.0)
    assert left.waiting_seconds((), 1) == pytest.approx(20.0, rel=1.0)
