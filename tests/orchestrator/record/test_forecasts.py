"""What was expected of a sweep, and what it has used."""

import pytest

from orchestrator.record.decisions import resource_decisions
from orchestrator.record.forecasts import Forecast, load_forecast, note_forecast, used_by
from orchestrator.record.journal import Journal, read_journal
from orchestrator.record.states import TrialState
from orchestrator.report.content import Bullets, Heading
from orchestrator.report.sections.forecast import forecast, resources
from orchestrator.trials.proposed import Proposal

FIRST = Forecast(4, (30, 40), (1.0, 2.0), 0.5, "1 CPU core per trial")


def events(*, extended: bool = False):
    told = [
        {"time": 0.0, "event": "sweep_started", "elapsed": 0.0},
        {"time": 0.0, "event": "sweep_forecast", "elapsed": 0.0, "trials": 4, "epochs": [30, 40],
         "hours": [1.0, 2.0], "disk_gb": 0.5, "basis": "1 CPU core per trial"},
        {"time": 9.0, "event": "trial_finished", "elapsed": 3600.0, "trial": "a",
         "wall_s": 100.0, "cpu_s": 60.0},
        {"time": 9.0, "event": "sweep_interrupted", "elapsed": 7200.0},
        {"time": 99.0, "event": "sweep_resumed", "elapsed": 0.0},
    ]  # fmt: skip
    later = {**told[1], "trials": 6 if extended else 4, "hours": [0.5, 0.75]}
    return [*told, later, {"time": 99.0, "event": "sweep_finished", "elapsed": 1800.0}]


def states():
    def trial(name, *ending, **more):
        return TrialState(Proposal(name, "cell", {}, {}, 0), *ending, **more)

    return [
        trial("a", "pruned", stopped_at=7),
        trial("b", "failed"),
        trial("c"),
        trial("d", "discarded"),
        trial("e", "interrupted", stopped_at=2),
    ]


def test_the_first_forecast_of_the_sweep_as_it_is_counts():
    assert load_forecast(events()) == FIRST
    # two hours had passed when it grew
    assert load_forecast(events(extended=True)) == Forecast(
        6, (30, 40), (2.5, 2.75), 0.5, FIRST.basis
    )
    assert load_forecast([]) is None
    assert load_forecast([{"time": 0.0, "event": "sweep_forecast", "trials": "?"}]) is None


def test_what_is_noted_is_read(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    note_forecast(journal, FIRST)
    assert load_forecast(read_journal(journal.path)) == FIRST


def test_what_a_sweep_has_used(tmp_path):
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / "a").write_bytes(b"x" * 1000)
    (tmp_path / "b").write_bytes(b"x" * 500)
    used = used_by(tmp_path, states(), events())
    assert (used.trials, used.epochs, used.hours) == (2, 7 + 2, 2.5)
    assert used.disk_gb == pytest.approx(1500 / 1e9)
    assert used.core_share == 0.6
    assert used_by(tmp_path, [], []).core_share is None


def test_what_was_decided_of_resources_is_said():
    decided = [
        {"event": "resources_decided", "kind": "a", "cpus": 1, "gpus": 1.0, "reason": "alone"},
        {"event": "resources_decided", "kind": "b", "cpus": 4, "gpus": 0, "reason": "few"},
        {"event": "resources_decided", "kind": "a", "cpus": 1, "gpus": 0.3333, "reason": "fast"},
    ]
    words = {
        "a": "1 core and 0.33 of a GPU per trial: fast",
        "b": "4 cores per trial: few",
    }
    assert resource_decisions([*events(), *decided]) == words
    heading, _, lines = resources(decided)
    assert heading == Heading("Resources")
    assert lines == Bullets([f"a: {words['a']}", f"b: {words['b']}"])
    assert resources(events()) == []


def test_the_report_sets_both_beside_each_other(tmp_path):
    heading, text, table = forecast(tmp_path, states(), events())
    assert heading == Heading("Forecast")
    assert "1 CPU core per trial" in text
    assert "had 60 % of a processor core" in text
    assert [tuple(row.values()) for row in table.rows][:3] == [
        ("trials", "4", "2"),
        ("epochs", "30 to 40", "9"),
        ("hours", "1 to 2", "2.5"),
    ]
    assert forecast(tmp_path, states(), []) == []
    quiet = [{**event, "cpu_s": 99.0} if "cpu_s" in event else event for event in events()]
    assert "processor core" not in forecast(tmp_path, states(), quiet)[1]
