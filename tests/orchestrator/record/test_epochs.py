import errno
from pathlib import Path

import pytest

from orchestrator.record.epochs import EpochLog, write_curve
from trainables.contract.artifacts import load_curve
from trainables.contract.errors import OutOfSpace


def test_epochs_come_back_in_the_order_they_were_told(tmp_path):
    told = [("b", 0, {"train_loss": 1.5}), ("a", 0, {}), ("b", 1, {"train_loss": 0.1 + 0.2})]
    for entry in told:
        EpochLog(tmp_path).append(*entry)
    assert list(EpochLog(tmp_path).load()) == told
    assert (tmp_path / "epochs.jsonl").read_text().count("\n") == 3  # nothing but those lines
    assert list(EpochLog(tmp_path / "elsewhere").load()) == []


@pytest.mark.parametrize("cut", ['{"trial": "b", "ep', "[1]\n", '{"trial": "b"}\n', '"\xff\n'])
def test_a_line_that_a_crash_damaged_costs_no_other(tmp_path, cut, caplog):
    log = EpochLog(tmp_path)
    log.append("a", 0, {"train_loss": 1.0})
    with (tmp_path / "epochs.jsonl").open("a", encoding="latin-1") as file:
        file.write(cut)
    EpochLog(tmp_path).append("a", 1, {"train_loss": 0.5})
    assert [epoch for _, epoch, _ in EpochLog(tmp_path).load()] == [0, 1]
    assert f"{tmp_path}/epochs.jsonl:2: not an epoch of a trial, left out" in caplog.text


@pytest.mark.parametrize(("number", "kind"), [("ENOSPC", OutOfSpace), ("EACCES", PermissionError)])
def test_a_full_disk_is_said_as_such(tmp_path, monkeypatch, number, kind):
    def refused(*_):
        raise OSError(getattr(errno, number), "refused", "epochs.jsonl")

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(kind):
        EpochLog(tmp_path).append("a", 0, {})


def test_the_curve_of_a_trial_that_ended_early_is_read_like_any_other(tmp_path):
    write_curve(tmp_path / "metrics.parquet", [{"epoch": 0, "lr": 0.1}, {"epoch": 1, "lr": 0.2}])
    assert load_curve(tmp_path / "metrics.parquet") == {"epoch": [0, 1], "lr": [0.1, 0.2]}
