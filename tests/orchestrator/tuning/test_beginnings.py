"""Trials wait for the one that trains their beginning, and go on whatever becomes of it."""

from math import inf

import pytest

from orchestrator.trials.beginnings import Beginning
from orchestrator.trials.proposed import Proposal, Trial
from orchestrator.tuning import beginnings as module
from orchestrator.tuning.beginnings import Beginnings
from trainables.contract.config import DataConfig, TrialConfig

NAMES = ("dense", "low", "high")
SHARED = Beginning("0123456789abcdef", 6, NAMES, frozenset({"low", "high"}))
OTHER = Beginning("fedcba9876543210", 10, ("dense", "ticket"), frozenset({"ticket"}))


@pytest.fixture(autouse=True)
def _look_always(monkeypatch):
    monkeypatch.setattr(module, "LOOK_S", 0.0)


def trial(name):
    config = TrialConfig(data=DataConfig(store="s", protocol="p"))
    return Trial(Proposal(name, "cell", {}, {}, 0), config)


def waiting(beginnings):
    return [name for name in (*NAMES, "ticket", "else") if beginnings.waits(trial(name))]


def write(beginning, run):
    beginning.file(run).parent.mkdir(exist_ok=True)
    beginning.file(run).write_bytes(b"x")


@pytest.fixture
def shared(tmp_path):
    return Beginnings(tmp_path, (SHARED, OTHER), [*NAMES, "ticket", "else"], {})


def test_all_wait_for_the_first_until_its_file_is_there(shared, tmp_path):
    assert waiting(shared) == ["low", "high", "ticket"]
    write(SHARED, tmp_path)
    assert waiting(shared) == ["ticket"]


def test_where_the_first_ends_without_a_file_the_next_trains_it(shared):
    shared.ended("dense")  # it failed, or was stopped by a rule, before it came so far
    assert waiting(shared) == ["high"]
    shared.ended("low")
    assert not shared.waits(trial("high"))


@pytest.mark.parametrize(
    ("begun", "held"),
    [
        ({"high": 2}, ["low", "ticket"]),  # it has a checkpoint, and goes on
        ({"dense": 5}, ["low", "high", "ticket"]),  # it has not come so far
        # of a run without beginnings: it is behind one, and leaves nothing there
        ({"dense": 6}, ["high", "ticket"]),
        ({"dense": inf}, ["high"]),
        ({"dense": 6, "low": 6}, ["ticket"]),
        ({"dense": inf, "low": inf, "high": inf, "ticket": inf}, []),
    ],
)
def test_nobody_waits_for_a_trial_that_is_behind_the_beginning(tmp_path, begun, held):
    assert waiting(Beginnings(tmp_path, (SHARED, OTHER), [*NAMES, "ticket"], begun)) == held


def test_what_a_trial_leaves_after_all_others_have_ended_goes_when_it_ends(shared, tmp_path):
    """The dense trial came by once more, from an earlier checkpoint."""
    for name in ("low", "high", "ticket"):
        shared.ended(name)
    write(SHARED, tmp_path)
    shared.ended("dense")
    assert not SHARED.file(tmp_path).parent.exists()


def test_a_file_is_left_and_stays_as_long_as_others_need_it(shared, tmp_path):
    places = [(str(each.file(tmp_path)), each.digest, each.epochs) for each in (SHARED, OTHER)]
    assert [tuple(each.values()) for each in shared.leave("dense")] == places
    assert [tuple(each.values()) for each in shared.leave("low")] == places[:1]
    assert shared.leave("ticket") == shared.leave("else") == []  # no other branches there
    assert tuple(shared.start("high").values()) == places[0]
    assert shared.start("dense") is shared.start("else") is None
    write(SHARED, tmp_path), write(OTHER, tmp_path)
    shared.ended("low"), shared.ended("dense")
    assert SHARED.file(tmp_path).is_file()
    shared.ended("high")
    assert not SHARED.file(tmp_path).is_file()
    assert OTHER.file(tmp_path).is_file()
    shared.ended("ticket")
    assert not OTHER.file(tmp_path).parent.exists()


def test_what_an_earlier_run_left_goes_and_what_is_not_ours_stays(shared, tmp_path):
    write(SHARED, tmp_path)
    folder = SHARED.file(tmp_path).parent
    for name in ("0000000000000000.pt", ".0000000000000000.pt.01234567.partial", "notes.txt"):
        (folder / name).write_bytes(b"x")
    shared.tidy()  # another trial may be writing
    half = ".0000000000000000.pt.01234567.partial"
    stays = [f"{SHARED.digest}.pt", "notes.txt"]
    assert sorted(path.name for path in folder.iterdir()) == [half, *stays]
    shared.tidy(begins=True)
    assert sorted(path.name for path in folder.iterdir()) == stays
