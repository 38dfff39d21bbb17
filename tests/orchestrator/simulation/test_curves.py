"""The file of curves: what sweeps leave goes in and comes out, and nothing else is taken for it."""

from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.record.folder import journal_of
from orchestrator.record.states import load_trials
from orchestrator.simulation.curves import collect_curves, load_curves, save_curves
from tests.orchestrator.fake_run import Trial, make_run
from trainables.contract.errors import UserError


@pytest.fixture
def run(tmp_path):
    return make_run(
        tmp_path,
        [
            Trial("joint", 0.6, lr=0.1, wrong_selection=(1, 2, 3)),
            Trial("joint", 0.6, lr=0.2),
            Trial("joint", 0.6, lr=0.3, state="failed"),
            Trial("joint", 0.6, lr=0.4, state="unfinished"),
        ],
    )


def test_curves_of_sweeps_go_through_a_file(run, tmp_path):
    pruned = load_trials(run)[1].proposal
    pruned.folder(run).result_file.unlink()
    journal_of(run).append("trial_pruned", trial=pruned.trial, cell=pruned.cell, epochs=3, of=3)
    save_curves(collect_curves([run]), tmp_path / "curves.parquet")
    first, second = load_curves(tmp_path / "curves.parquet")
    assert (first.sweep, first.cell, first.epochs, first.epoch_seconds) == (
        "run",
        "joint-0.6",
        3,
        20.0,
    )
    assert first.assignment == {"train.lr": 0.1}
    assert first.leaves["train.lr"] == 0.1
    assert first.result == load_trials(run)[0].result
    assert [report["selection_top1"] for report in first.reports] == [0.3, 0.5, 0.6]
    assert (second.trial, second.result) == (pruned.trial, None)


@pytest.mark.parametrize("lost", ["metrics_file", "config_file"])
def test_a_trial_that_lost_a_file_has_no_curve_and_the_others_do(run, lost):
    _, second = (each.trial for each in collect_curves([run]))
    getattr(load_trials(run)[0].proposal.folder(run), lost).unlink()
    assert [each.trial for each in collect_curves([run])] == [second]


@pytest.mark.parametrize(
    "name", ["train.fast", "train.sparse_kernels", "sparsity.branch_at", "model.temporal"]
)
def test_a_setting_that_came_since_has_its_default(run, tmp_path, name):
    first, *_ = collect_curves([run])
    known = {leaf: value for leaf, value in first.leaves.items() if leaf != name}
    save_curves([replace(first, leaves=known)], tmp_path / "curves.parquet")
    [found] = load_curves(tmp_path / "curves.parquet")
    assert found.leaves == first.leaves


def test_a_sweep_without_a_finished_trial_has_no_curves(tmp_path):
    run = make_run(tmp_path, [Trial("joint", 0.6, state="failed")])
    with pytest.raises(UserError, match="must have a finished trial"):
        collect_curves([run])


@pytest.mark.parametrize("kind", ["text", "table", "later", "lacking", "folder", "absent"])
def test_what_is_no_file_of_curves_is_one_error(tmp_path, kind):
    path = tmp_path / "file"
    metadata = {b"orchestrate.curves": b"1" if kind == "lacking" else b"2"}
    table = pa.table({"a": [1], "b": [2]})
    if kind == "text":
        path.write_text("curves")
    elif kind == "folder":
        path.mkdir()
    elif kind != "absent":
        pq.write_table(table if kind == "table" else table.replace_schema_metadata(metadata), path)
    with pytest.raises(UserError) as caught:
        load_curves(path)
    [problem] = caught.value.problems
    if kind == "absent":
        assert problem == f"{path}: cannot be read: No such file or directory"
    else:
        assert problem.startswith(f"{path}: must be a file that `orchestrate curves` wrote, got ")


def test_no_other_file_is_replaced(tmp_path):
    path = tmp_path / "precious.yaml"
    path.write_text("version: 1")
    with pytest.raises(UserError, match=r"--out: .* is there already and holds no curves"):
        save_curves([], path)
    assert path.read_text() == "version: 1"
    path.unlink()
    for _ in range(2):  # an earlier file of curves may be replaced
        save_curves([], path)
    assert load_curves(path) == []
