"""The command: output, messages and exit codes of validate, plan and schema."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.cli.commands.sweeps import app
from tests.orchestrator.in_process import run_code
from tests.orchestrator.sweep_files import SMALL, written
from trainables.contract.errors import GateFailed


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("cli") / "synth"
    assert (
        run_code(
            "data",
            "synth",
            str(path),
            *"--classes 2 --clips-per-class 6 --subjects 2 --views 3 --frames 8".split(),
        )
        == 0
    )
    return str(path)


SPLIT = (
    "--set",
    "data.selection={kind: clip, fraction: 0.3}",
    "--set",
    "model.backbone=hpi_gcn_op",
)


def test_validate(orchestrate, tmp_path, store) -> None:
    written(tmp_path, SMALL)
    code, out, err = orchestrate("validate", "s.yaml", "--set", f"data.store={store}", *SPLIT)
    assert (code, err) == (0, "")
    assert out.startswith("s.yaml: valid, 4 cells, 4 trials, digest ")
    code, _, err = orchestrate(
        "validate",
        "s.yaml",
        "--set",
        f"data.store={store}",
        "--set",
        "train.schedule=cosine",
        *SPLIT,
    )
    # as plan says
    assert (code, err) == (
        0,
        "note: s.yaml:8 train.milestones: has no effect on any trial of this sweep\n",
    )


def test_missing_store(orchestrate, tmp_path) -> None:
    written(tmp_path, SMALL)
    for command in ("validate", "plan"):
        code, out, err = orchestrate(command, "s.yaml")
        assert (code, out) == (2, "")
        assert (
            err == "s.yaml:3 data.store: nowhere: must be a store made by 'orchestrate data', but"
            f" {tmp_path}/nowhere is not there\n"
        )
    assert orchestrate("validate", "s.yaml", "--no-data")[0] == 0


def test_store_at_a_uri(orchestrate, tmp_path, store, monkeypatch) -> None:
    monkeypatch.setenv("ORCHESTRATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DATA", f"file://{store[: -len('/synth')]}")
    written(tmp_path, SMALL.replace("nowhere", "${DATA}/synth"))
    assert orchestrate("validate", "s.yaml", *SPLIT)[0] == 0
    assert json.loads(orchestrate("plan", "s.yaml", "--json", *SPLIT)[1])["training_clips"] > 0
    code, out, _ = orchestrate("data", "info", f"file://{store}", "--json")
    assert (code, json.loads(out)["clips"]) == (0, 12)
    (copy,) = (
        path for path in (tmp_path / "cache" / "stores").iterdir() if not path.name.startswith(".")
    )
    assert json.loads(out)["path"] == str(copy)
    code, out, err = orchestrate(
        "validate", "s.yaml", *SPLIT, "--set", "data.store=file:///nowhere/at/all"
    )
    assert (code, out) == (2, "")
    assert err.startswith(
        "--set data.store: file:///nowhere/at/all: must be a store made by 'orchestrate data', but"
        " no dataset.json is found"
    )


def test_problems_of_every_part_of_a_file_come_at_once(orchestrate, tmp_path, store) -> None:
    text = SMALL.replace("nowhere", store).replace(
        "protocol: xsub, frames", "protocol: xvew, frmes"
    )
    written(
        tmp_path,
        text
        + """\
constraints: [model.chanels > 2]
ensembles:
  - {name: multi_level, over: sparsity.level}
  - {name: final, over: data.stream, from: [multilevel], method: weights, weights: pysk}
""",
    )
    code, _, err = orchestrate("validate", "s.yaml")
    assert (code, err.splitlines()) == (
        2,
        [
            "s.yaml:3 data.frmes: unknown key, did you mean 'frames'?",
            f"s.yaml:3 data.protocol: must be xsub or xview in {store}, got 'xvew', did you mean"
            " 'xview'?",
            "s.yaml:9 constraints[0]: unknown leaf 'model.chanels', did you mean 'model.channels'?",
            "s.yaml:12 ensembles[1].from[0]: must name an ensemble above it, did you mean"
            " 'multi_level'?, got 'multilevel'",
            "s.yaml:12 ensembles[1].weights: must be hpi_gcn, pyskl, ctr_gcn, infogcn, hd_gcn or"
            " equal, or a weight per value, got 'pysk', did you mean 'pyskl'?",
        ],
    )
    err = orchestrate("validate", "s.yaml", "--no-data")[2]
    assert len(err.splitlines()) == 4  # the store is not opened
    err = orchestrate("validate", "s.yaml", "--set", "data.store=nowhere")[2]
    assert "--set data.store: " in err


def test_wrong_protocol_layout_and_groups_in_one_go(orchestrate, tmp_path, store) -> None:
    written(tmp_path, SMALL.replace("nowhere", store).replace("protocol: xsub", "protocol: xsbu"))
    code, _, err = orchestrate(
        "validate",
        "s.yaml",
        "--set",
        "model={backbone: hpi_gcn_op, layout: ntu25, groups: 5, channels: 8}",
    )
    assert code == 2
    assert err.splitlines() == [
        (
            "--set model.groups: groups must divide channels, got groups=5 and channels=8"
            " (cell joint-level0)"
        ),
        f"--set model.layout: must be auto or ucla20, the layout of {store}, got 'ntu25'",
        (
            f"s.yaml:3 data.protocol: must be xsub or xview in {store}, got 'xsbu', did you mean"
            " 'xsub'?"
        ),
    ]


def test_store_cut_short(orchestrate, tmp_path, store) -> None:
    import shutil

    copy = tmp_path / "cut"
    shutil.copytree(store, copy)
    with (copy / "joints.npy").open("r+b") as stream:
        stream.truncate(1000)
    written(tmp_path, SMALL.replace("nowhere", "cut"))
    code, _, err = orchestrate("validate", "s.yaml", *SPLIT)
    assert code == 2
    assert err.startswith("s.yaml:3 data.store: cut/joints.npy: the store is damaged, ")


def test_selection_that_cannot_be_made(orchestrate, tmp_path, store) -> None:
    written(
        tmp_path,
        SMALL.replace("nowhere", store).replace("frames: 16", "selection: {kind: protocol}"),
    )
    code, _, err = orchestrate("validate", "s.yaml")
    assert code == 2
    assert err.startswith(
        "s.yaml:3 data.selection: protocol 'xsub': selection.kind 'protocol' needs a validation"
        " split"
    )


def test_plan_as_tables_and_as_json(orchestrate, tmp_path, store) -> None:
    written(tmp_path, SMALL.replace("nowhere", store))
    code, out, _ = orchestrate("plan", "s.yaml", *SPLIT)
    assert code == 0
    for text in (
        "joint-level0.8",
        "Non-zero parameters",
        "~: expected",
        "4 cells, 4 trials",
        "1 CPU core per trial,",
        "MLflow",
    ):
        assert text in out
    code, out, _ = orchestrate("plan", "s.yaml", "--json", *SPLIT)
    planned = json.loads(out)
    assert (code, planned["trials"], planned["cells"][0]["cell"]) == (0, 4, "joint-level0")
    assert set(planned["variants"][0]["nonzero_params"]) == {"0", "0.8"}


def test_plan_over_budget_prints_and_refuses(orchestrate, tmp_path, store) -> None:
    written(tmp_path, SMALL.replace("nowhere", store) + "budget: {trials: 3}\n")
    code, out, err = orchestrate("plan", "s.yaml", *SPLIT)
    assert code == 2
    assert "4 cells, 4 trials" in out
    assert (
        err
        == "s.yaml:9 budget.trials: the sweep is expected to need 4 trials, the budget allows 3\n"
    )


def test_schema_and_version(orchestrate) -> None:
    code, out, _ = orchestrate("schema")
    assert (code, json.loads(out)["title"]) == (0, "Sweep")
    code, out, _ = orchestrate("--version")
    assert code == 0
    assert out.strip().count(".") == 2


def test_wrong_usage_is_2(orchestrate) -> None:
    code, _, err = orchestrate("validat", "x")
    assert code == 2
    assert "No such command" in err
    assert orchestrate("validate", "no_such_space")[0] == 2


@pytest.mark.parametrize(("raised", "code"), [(GateFailed("gate"), 4), (KeyboardInterrupt(), 130)])
def test_exit_codes(orchestrate, monkeypatch, raised: BaseException, code: int) -> None:
    def fail() -> None:
        raise raised

    monkeypatch.setattr("orchestrator.cli.commands.sweeps.app", fail)
    assert orchestrate()[0] == code


def test_ctrl_c_inside_a_command_is_said(orchestrate, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.planning.check.checked_sweep", fail)
    assert orchestrate("validate", "quickstart") == (130, "", "interrupted\n")


def test_a_bug_is_a_traceback_and_not_a_message(monkeypatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError("bug")

    monkeypatch.setattr("orchestrator.cli.commands.sweeps.app", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main()


@pytest.mark.parametrize("name", ["a/b", "", "a: b", "["])
def test_a_wrong_name_is_said_of_the_option_that_gave_it(tmp_path, name) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("version: 1\nname: small\ndata: {store: nowhere, protocol: xsub}\n")
    refused = CliRunner().invoke(app, ["plan", str(file), "--name", name])
    rule = "--name: must be letters, digits, '-', '_' and '.', beginning with a letter or digit"
    assert f"{rule}, got '{name}'" in str(refused.exception)


def test_a_number_is_a_name(tmp_path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("version: 1\nname: small\ndata: {store: nowhere, protocol: xsub}\n")
    refused = CliRunner().invoke(app, ["plan", str(file), "--name", "12"])
    assert "nowhere" in str(refused.exception)
    assert "--name" not in str(refused.exception)
