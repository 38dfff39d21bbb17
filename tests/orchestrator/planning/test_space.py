"""Room on disk: what stays, what is free, and what is said where it is too little."""

from types import SimpleNamespace

import pytest

from orchestrator.planning import space
from orchestrator.planning.plan import plan
from orchestrator.planning.space import (
    MARGIN,
    Footprints,
    amount,
    copies_of,
    free_bytes,
    savings,
    shortage,
)
from orchestrator.trials.space import all_trials

SIX = (
    "parameters={data.stream: [joint, bone], sparsity.level: [0, 0.8],"
    " train.lr: {values: [0.1, 0.2, 0.3]}}"
)


@pytest.fixture
def sized(planned):
    """Sweep, trials and footprints of a sweep of 12 trials in 4 cells."""

    def make(*overrides):
        sweep, _ = planned(SIX, *overrides)
        return sweep, all_trials(sweep), Footprints.of(sweep)

    return make


def test_what_stays_is_counted_by_hand(sized) -> None:
    sweep, trials, prints = sized()
    each = [prints.trial(trial) for trial in trials]
    by_cell = {
        trial.proposal.cell: found.checkpoint for trial, found in zip(trials, each, strict=True)
    }
    assert by_cell["joint-level0.8"] > by_cell["joint-level0"]  # its masks
    kept, cells = sum(found.kept for found in each), sum(by_cell.values())
    assert prints.needed(sweep, trials, 2) == pytest.approx(3 * cells + kept)
    best = sized("retain.checkpoints=best_per_cell")[0]
    running = 2 * max(by_cell.values())
    assert prints.needed(best, trials, 2) == pytest.approx(kept + running + cells)
    none = sized("retain.checkpoints=none")[0]
    assert prints.needed(none, trials, 2) == pytest.approx(kept + running)
    assert prints.needed(none, trials, 2, copies=1) == pytest.approx(2 * kept + running)


def test_the_networks_that_others_start_from_stay(sized) -> None:
    sweep, trials, prints = sized("retain.checkpoints=none", "sparsity.from=dense")
    each = [prints.trial(trial) for trial in trials]
    kept, largest = sum(found.kept for found in each), max(found.checkpoint for found in each)
    dense = {
        trial.proposal.cell: found.checkpoint
        for trial, found in zip(trials, each, strict=True)
        if trial.config.sparsity.dense
    }
    assert sorted(dense) == ["bone-level0", "joint-level0"]  # a group for each stream
    assert prints.needed(sweep, trials, 1) == pytest.approx(kept + largest + sum(dense.values()))


def test_the_plan_says_what_retention_needs_and_what_is_free(sized, planned) -> None:
    sweep, trials, prints = sized()
    found = planned(SIX)[1]
    assert found.disk_gb * 1e9 == pytest.approx(prints.needed(sweep, trials, 1))
    assert found.disk_free_gb is not None
    assert found.disk_free_gb > 0
    less = planned(SIX, "retain.checkpoints=none")[1]
    assert less.disk_gb < found.disk_gb
    assert savings(prints, sweep, trials, 1).endswith(f"none {amount(less.disk_gb * 1e9 + MARGIN)}")
    assert savings(prints, less_than(sweep, "none"), trials, 1) == ""


def less_than(sweep, policy):
    retain = sweep.retain.model_copy(update={"checkpoints": policy})
    return sweep.model_copy(update={"retain": retain})


def test_a_plan_of_a_storage_that_is_not_there_looks_above_it(tmp_path, planned) -> None:
    sweep, _ = planned(f"storage={tmp_path / 'a' / 'b'}")
    assert plan(sweep).disk_free_gb > 0
    assert free_bytes(tmp_path / "a" / "b") == pytest.approx(free_bytes(tmp_path), rel=0.1)
    assert not (tmp_path / "a").exists()


def test_too_little_is_said_with_the_place_and_what_is_missing(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(
        space.os, "statvfs", lambda path: SimpleNamespace(f_bavail=80_000, f_frsize=10_000)
    )
    assert shortage(tmp_path, 0.8e9 - MARGIN, "they need") is None
    assert shortage(tmp_path, 1.2e9 - MARGIN, "the 4 running trials need") == (
        f"{tmp_path}: the 4 running trials need 1.2 GB of disk, 800 MB are free: 400 MB are missing"
    )


@pytest.mark.parametrize(
    ("uri", "copies"), [("none", 0), ("http://host:5000", 0), ("sqlite:///{here}/mlflow.db", 1)]
)
def test_mlflow_keeps_copies_where_its_database_lies_on_the_disk(
    tmp_path, planned, uri, copies
) -> None:
    sweep, _ = planned(f"tracking.uri={uri.format(here=tmp_path)}")
    assert copies_of(sweep, tmp_path / "runs") == copies


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1 kB"),
        (340e6, "340 MB"),
        (1.234e9, "1.23 GB"),
        (1.5e12, "1,500 GB"),
    ],
)
def test_amounts_in_words(size, words) -> None:
    assert amount(size) == words


def test_beginnings_that_trials_share_take_room(sized) -> None:
    sweep, trials, prints = sized("sparsity={penalty: none}")
    alone = sized("sparsity={penalty: none, branch_at: off}")[0]
    params = prints._sizes.count(trials[0].config).training.params
    bone = prints._sizes.count(trials[-1].config).training.params
    shared = 3 * 2 * 4 * (params + bone)  # three rates; weights and momentum
    extra = prints.needed(sweep, trials, 2) - prints.needed(alone, all_trials(alone), 2)
    assert extra == pytest.approx(shared)
