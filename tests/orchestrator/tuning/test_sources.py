"""What `sparsity.from` stands for: found to be there before a sweep starts, and resolved once the
trials it waits for have ended.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli.commands.sweeps import app
from orchestrator.planning.check import check_folders, checked_sweep, runs_of, sources_of
from orchestrator.record.folder import journal_of
from orchestrator.tuning.sources import Sources
from tests.orchestrator.fake_run import Trial as Made
from tests.orchestrator.fake_run import make_run, result_of
from tests.orchestrator.recorded import recorded
from tests.orchestrator.sweep_files import SMALL, loaded, written
from trainables.contract.artifacts import TrialDir
from trainables.contract.disk import write_json
from trainables.contract.errors import TrialFailed, UserError

ONE_STREAM = "parameters.data.stream=[joint]"


def refused(folder: Path, *overrides: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        checked_sweep(written(folder, SMALL), overrides, data=False)
    return [problem.replace(f"{folder}/", "") for problem in caught.value.problems]


def test_dense_without_a_dense_trial_is_placed(tmp_path) -> None:
    text = SMALL.replace("[0, 0.8]", "[0.6, 0.8]") + "sparsity: {from: dense}\n"
    with pytest.raises(UserError) as caught:
        checked_sweep(written(tmp_path, text), data=False)
    assert [problem.replace(f"{tmp_path}/", "") for problem in caught.value.problems] == [
        "s.yaml:9 sparsity.from: 'dense' needs a trial of level 0 to start from: add 0 to the"
        " values of sparsity.level"
    ]
    checked_sweep(written(tmp_path, text.replace("0.6, 0.8", "0, 0.8")), data=False)


def test_dense_trials_that_do_not_agree_are_none(tmp_path) -> None:
    kernels = (
        "parameters.model.kernel_size=[5, 9]",
        "constraints=[sparsity.level > 0 or model.kernel_size == 5]",
    )
    assert refused(tmp_path, ONE_STREAM, "sparsity.from=dense", *kernels) == [
        "--set sparsity.from: 'dense' needs a trial of level 0 of the same model and data, and"
        " there is none for 1 assignments, such as model.kernel_size=9 (cell joint-level0.8)"
    ]


def test_a_folder_must_be_that_of_a_finished_trial(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    made, bare = Made("joint", 0.0), Made("bone", 0.0)
    run = make_run(tmp_path, [made, bare])
    finished, unfinished = f"run/trials/{made.name}", tmp_path / "empty"
    without = f"run/trials/{bare.name}"  # its checkpoint was removed
    checkpoint = TrialDir(run / "trials" / made.name).checkpoint_file
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"weights")
    unfinished.mkdir()
    sweep = loaded(
        tmp_path,
        SMALL,
        f"parameters.sparsity.from=[nowhere, empty, {finished}, {without}, null, dense]",
    )
    assert sources_of(sweep) == ["nowhere", "empty", finished, without, "dense"]
    place = (
        "--set parameters.sparsity.from: must be the folder of a finished trial, mlflow:RUN or"
        " dense"
    )
    assert check_folders(sweep) == [
        f"{place}, got 'nowhere', which is not there",
        f"{place}, got 'empty', which holds no readable result.json",
        f"{place}, got '{without}', whose weights are gone: checkpoint/last.pt is not there",
    ]
    assert sources_of(loaded(tmp_path, SMALL)) == []
    assert runs_of(loaded(tmp_path, SMALL, "sparsity.from=mlflow:0a1b")) == ["mlflow:0a1b"]
    assert runs_of(loaded(tmp_path, SMALL, "sparsity.from=runs:/0a1b")) == ["runs:/0a1b"]


def test_an_mlflow_run_is_looked_up_by_validate(tmp_path, monkeypatch) -> None:
    from tests.orchestrator.fake_run import make_store

    monkeypatch.chdir(tmp_path)
    make_store(tmp_path / "nowhere")
    written(tmp_path, SMALL)
    overrides = [
        "--set",
        "sparsity.from=mlflow:0a1b",
        "--set",
        "model.layout=auto",
        "--set",
        "data.selection={kind: protocol}",
    ]
    found = CliRunner().invoke(app, ["validate", "s.yaml", *overrides])
    assert isinstance(found.exception, UserError)
    assert found.exception.problems == (
        (
            "--set sparsity.from: names an MLflow run, but there is no MLflow store at"
            " sqlite:///mlflow.db (tracking.uri)"
        ),
    )
    assert not Path("mlflow.db").exists()
    assert CliRunner().invoke(app, ["validate", "s.yaml", "--no-data", *overrides]).exit_code == 0


@pytest.fixture
def dense_and_sparse(tmp_path, monkeypatch):
    """A sweep of one cell of dense trials with two learning
    rates, and one that starts from them.
    """
    monkeypatch.chdir(tmp_path)
    sweep = loaded(
        tmp_path, SMALL, ONE_STREAM, "sparsity.from=dense", "parameters.train.lr=[0.1, 0.2]"
    )
    run, trials = recorded(sweep)
    return run, Sources(sweep, run, trials, {"mlflow:a": Path("elsewhere")}), trials


def finish(run, trial, wrong) -> None:
    folder = trial.proposal.folder(run)
    made = Made("joint", 0.0, wrong_selection=tuple(range(wrong)))
    write_json(folder.result_file, json.loads(result_of(made).model_dump_json()))


@pytest.mark.parametrize("better", [0, 1])
def test_of_several_dense_trials_the_best_on_the_selection_split_is_taken(
    dense_and_sparse, better
) -> None:
    run, sources, (first, second, sparse, _) = dense_and_sparse
    for number, trial in enumerate((first, second)):
        finish(run, trial, wrong=0 if number == better else 3)
    assert sources.folder(sparse) == (first, second)[better].proposal.folder(run).path.absolute()
    assert sources.folder(first) is None


def test_a_dense_trial_that_failed_is_passed_over_and_named_when_it_was_the_last(
    dense_and_sparse,
) -> None:
    run, sources, (first, second, sparse, _) = dense_and_sparse
    write_json(first.proposal.folder(run).failure_file, {"reason": "train_loss must be finite"})
    journal_of(run).append(
        "trial_failed",
        trial=second.proposal.trial,
        cell=second.proposal.cell,
        reason="the worker died",
    )
    with pytest.raises(TrialFailed) as caught:
        sources.folder(sparse)
    one, other = first.proposal.trial, second.proposal.trial
    reasons = f"{one}: train_loss must be finite; {other}: the worker died"
    assert str(caught.value) == f"no dense trial to start from has a result: {reasons}"
    finish(run, second, wrong=5)
    assert sources.folder(sparse) == second.proposal.folder(run).path.absolute()


def test_folders_and_runs_are_given_as_absolute_paths(dense_and_sparse) -> None:
    _, sources, (*_, sparse) = dense_and_sparse

    def started_from(source):
        sparsity = sparse.config.sparsity.model_copy(update={"source": source})
        trial = type(sparse)(
            sparse.proposal, sparse.config.model_copy(update={"sparsity": sparsity})
        )
        return sources.folder(trial)

    assert started_from("trials/x") == Path.cwd() / "trials/x"
    assert started_from("mlflow:a") == Path.cwd() / "elsewhere"
    assert started_from(None) is None
