"""Ensembles that are asked for on the command line: of one sweep, of several, and imagined ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from orchestrator.ensembling.pools import names_of
from orchestrator.ensembling.results import FinalEvaluation
from orchestrator.ensembling.sealed import SealedTest
from orchestrator.record.folder import page_of
from orchestrator.record.journal import read_journal
from orchestrator.sweep.strategies import StrategyCard
from tests.orchestrator.fake_run import note_digests
from tests.orchestrator.finished import finished
from tests.orchestrator.sweep_files import SMALL
from trainables.contract.artifacts import TrialDir
from trainables.contract.scores import Scores
from trainables.data.store.reading import Store

pytestmark = pytest.mark.usefixtures("quick_end")

HERE = __name__
OTHER = SMALL.replace("name: small", "name: other").replace("  data.stream: [joint, bone]\n", "")
SEEDS = SMALL.replace("name: small", "name: seeds") + "method: {name: grid, seeds: 2}\n"
PAPER = SMALL.replace("name: small", "name: paper") + "train.keep: last\n"
MEAN = ("--method", "mean")


@pytest.fixture
def sealed_test(monkeypatch):
    """Whoever opens the test split fails."""

    def broken(*arguments, **options):
        raise AssertionError("the test split was opened")

    column = Store.column
    monkeypatch.setattr(SealedTest, "read", broken)
    monkeypatch.setattr(Store, "clean_test", broken)
    monkeypatch.setattr(
        Store, "column", lambda store, name: broken() if name == "label" else column(store, name)
    )


def choose(sources, options):
    return dict.fromkeys(sources.members, 1.0)


CHOOSES = StrategyCard(
    name="chooses", module=f"{HERE}:choose", about="for these tests", needs_selection=True
)


def files(folder) -> set:
    return {
        path
        for path in folder.rglob("*")
        if path.is_file() and path.name[:6] not in (".lock", ".lease")
    }


def events(run, name: str) -> list:
    return [each for each in read_journal(run / "journal.jsonl") if each["event"] == name]


def test_what_if_says_members_cost_and_figures_and_leaves_the_test_split_closed(
    tmp_path, orchestrate, sealed_test
):
    run = finished(tmp_path)
    before = files(tmp_path)
    code, out, err = orchestrate("what-if", "small", *MEAN, "--without", "bone-level0.8", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    (ensemble,) = found["ensembles"]
    assert found["split"] == "selection"
    assert set(ensemble["weights"]) == {"joint-level0", "joint-level0.8", "bone-level0"}
    assert ensemble["cost"]["nonzero_params"] == 500 + 200 + 500
    assert (ensemble["selection"]["clips"], ensemble["cross_fitted"]) == (12, None)
    assert ensemble["selection"]["right"] == 11  # all err on the first
    assert ensemble["best_network"]["name"] == "joint-level0"
    assert ensemble["best_network"]["selection"]["right"] == 10
    assert files(tmp_path) == before
    code, out, _ = orchestrate("what-if", "small", *MEAN, "--budget", "nonzero_params=3x")
    assert code == 0
    assert "nonzero_params 1,400 of 1,500" in out
    assert "91.67 % (12 clips)" in out
    assert "the test split was not opened" in out
    assert not events(run, "test_read")


@pytest.mark.parametrize(
    "asked", [("--option", "rounds=5"), ("--front", "members"), ("--method", "simplex")]
)
def test_test_scores_and_labels_take_no_part_in_what_if(tmp_path, orchestrate, asked):
    run = finished(tmp_path)
    found = orchestrate("what-if", "small", *asked, "--json")
    assert found[0] == 0, found
    for number, path in enumerate(sorted(run.glob("trials/*/scores.test.parquet"))):
        table = Scores.load(path)
        other = np.random.default_rng(number).normal(size=table.logits.shape)
        Scores(table.ids, other.astype(np.float32)).save(path)
        note_digests(TrialDir(path.parent))
    for file in (tmp_path / "store").iterdir():
        if "clips" in file.name:
            file.unlink()
    assert orchestrate("what-if", "small", *asked, "--json") == found


def test_what_if_says_what_each_budget_buys(tmp_path, orchestrate, sealed_test):
    run = finished(tmp_path)
    code, out, err = orchestrate("what-if", "small", "--front", "nonzero_params", "--json")
    assert (code, err) == (0, "")
    points = json.loads(out)["front"]
    assert points[0]["cost"] == 200
    assert "test" not in points[0]
    code, out, _ = orchestrate("what-if", "small", "--front", "members")
    assert (code, "the test split was not opened" in out) == (0, True)
    code, _, err = orchestrate("what-if", "small", "--front", "bytes")
    assert (code, err.count("two networks whose bytes is known")) == (2, 1)
    code, _, err = orchestrate("what-if", "small", "--front", "members", *MEAN)
    assert (code, err.count("--front: is of all cells")) == (2, 1)
    assert not events(run, "test_read")


def test_cells_of_several_sweeps_keep_apart_and_share_their_axes(tmp_path, orchestrate):
    finished(tmp_path)
    finished(tmp_path, OTHER, begin=4)
    code, out, err = orchestrate("what-if", "small", "other", *MEAN, "--json")
    assert (code, err) == (0, "")
    (ensemble,) = json.loads(out)["ensembles"]
    assert len(ensemble["weights"]) == 6
    assert {"small/joint-level0", "other/level0"} <= ensemble["weights"].keys()
    arguments = ("--over", "sweep", "--over", "sparsity.level", "--per", "data.stream")
    _, out, _ = orchestrate("what-if", "small", "other", *MEAN, *arguments, "--json")
    joint, bone = json.loads(out)["ensembles"]
    assert [*joint["weights"]] == [
        *("small/joint-level0", "small/joint-level0.8", "other/level0", "other/level0.8")
    ]
    assert len(bone["weights"]) == 2


def test_an_asked_ensemble_is_evaluated_beside_the_sweeps_own(tmp_path, orchestrate):
    run, other = finished(tmp_path), finished(tmp_path, OTHER, begin=4)
    assert orchestrate("ensemble", "small")[0] == 0
    own = (run / "evaluation.json").read_bytes()
    arguments = ("ensemble", "small", "other", *MEAN, "--called", "both", "--json")
    code, out, err = orchestrate(*arguments)
    assert (code, err) == (0, "")
    assert (run / "evaluation.json").read_bytes() == own
    row = json.loads(out)["rows"][-1]
    assert (row["name"], len(row["trials"]), row["test"]["right"]) == ("both", 6, 29)
    place = run / "asked" / "both"
    assert FinalEvaluation.load(place).rows[-1].name == "both"
    assert (place / "ensembles" / "both" / "weights.json").is_file()
    assert [each["purpose"] for each in events(other, "test_read")] == ["ensemble both"]
    assert [each["purpose"] for each in events(run, "test_read")][1:] == ["ensemble both"]
    assert orchestrate(*arguments) == (0, out, "")  # the labels are not read again
    assert len(events(other, "test_read")) == 1
    assert orchestrate("ensemble", "small")[0] == 0  # the sweep's own is as it was
    assert (run / "evaluation.json").read_bytes() == own


def test_a_store_that_is_gone_leaves_nothing_and_the_same_command_works_when_it_is_back(
    tmp_path, orchestrate
):
    run = finished(tmp_path)
    before = {path: path.read_bytes() for path in files(run)}
    (tmp_path / "store").rename(tmp_path / "moved")
    for asked in ((), (*MEAN, "--called", "both")):
        code, _, err = orchestrate("ensemble", "small", *asked)
        assert (code, len(err.splitlines())) == (2, 1)
        assert "`orchestrate resume small --set data.store=PLACE` says its place" in err
        assert {path: path.read_bytes() for path in files(run)} == before
    (tmp_path / "moved").rename(tmp_path / "store")
    assert orchestrate("ensemble", "small", *MEAN, "--called", "both")[0] == 0


def test_files_of_ensembles_that_are_gone_are_written_again(tmp_path, orchestrate):
    run = finished(tmp_path)
    code, out, _ = orchestrate("ensemble", "small")
    assert code == 0
    assert out.splitlines()[-2] == "report  runs/small/report/index.html"
    assert page_of(run).is_file()
    (first, *_), reads = sorted((run / "ensembles").iterdir()), len(events(run, "test_read"))
    before = {file.name: file.read_bytes() for file in first.iterdir() if file.is_file()}
    for name in before:
        (first / name).unlink()
    assert orchestrate("ensemble", "small")[0] == 0
    assert {file.name: file.read_bytes() for file in first.iterdir() if file.is_file()} == before
    assert len(events(run, "test_read")) == reads


def test_an_asked_ensemble_that_was_ended_halfway_is_taken_up_again(
    tmp_path, orchestrate, monkeypatch
):
    run = finished(tmp_path)
    arguments = ("ensemble", "small", *MEAN, "--called", "both")
    with monkeypatch.context() as patch:
        patch.setattr(FinalEvaluation, "save", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            orchestrate(*arguments)
    assert {path.name for path in (run / "asked" / "both").iterdir()} == {
        *("ensembles", "journal.jsonl", "predictions")
    }
    assert orchestrate(*arguments)[0] == 0
    (run / "asked" / "both" / "evaluation.json").unlink()
    (run / "asked" / "both" / "mine.txt").write_text("")
    assert orchestrate(*arguments)[0] == 2


def test_seeds_weights_and_a_place_are_asked_for(tmp_path, orchestrate):
    finished(tmp_path, SEEDS)
    code, out, err = orchestrate("ensemble", "seeds", *MEAN, "--over", "seed", "--out", "here")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "files   here"
    assert ".joint-0 is made of joint-level0 0.500, joint-level0-seed1 0.500" in out
    names = [row.name for row in FinalEvaluation.load(tmp_path / "here").rows]
    assert sum(name.startswith("mean-") for name in names) == 4
    assert "joint-level0-seed1" in names
    weights = ("--weights", "joint=2,bone=1", "--over", "data.stream", "--combine", "logits")
    code, out, _ = orchestrate("ensemble", "seeds", *weights, "--called", "w", "--json")
    assert json.loads(out)["rows"][-1]["weights"] == {"joint-level0.8": 2.0, "bone-level0.8": 1.0}


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A folder with sweeps that do not go together. Nothing may write into it."""
    folder = tmp_path_factory.mktemp("several")
    finished(folder)
    (folder / "far").mkdir()
    away = finished(folder / "far", SMALL.replace("name: small", "name: elsewhere"))
    for result in away.glob("trials/*/result.json"):
        noted = json.loads(result.read_text()) | {"store_checksums": {"clips": "others"}}
        result.write_text(json.dumps(noted))
    away.rename(folder / "runs" / "elsewhere")
    finished(folder, SMALL.replace("name: small", "name: paper"), kind="none")
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("small", "--without", "joint-level9"), "--without: must be a cell (joint-level0, "),
        (
            ("small", "--budget", "nonzero_params=0.66y"),
            "--budget nonzero_params: must be a number",
        ),
        (("small", "--budget", "members"), "--budget: must be NAME=VALUE, each name once, got"),
        (
            ("small", "--budget", "nonzero_params=10"),
            ": none of its sources fits into the budget",
        ),
        (("small", "--budget", "bytes=1x"), "its budget bytes 1x is relative to a dense network"),
        (("small", "--over", "data.steam"), "--over: must be a cell axis of its sources (data.st"),
        (("small", "--over", "seed"), "--over: combines several seeds of a network, but"),
        (("small", "--weights", "pskl", "--over", "data.stream"), "--weights: must be hpi_gcn,"),
        (("small", "--option", "k=3"), "--option k: unknown key"),
        (
            ("small", "--per", "data.stream", "--per", "sparsity.level"),
            "every axis with several values is one of --per",
        ),
        (("small", "small"), "must be named once"),
        (("small", "elsewhere"), "elsewhere: must have the store of small to be combined with"),
        (("small", "paper"), "paper: must have the selection of small to be combined with it"),
        (("paper",), "what-if answers on held-out clips, and these sweeps held out none"),
        (("paper", "--method", f"{HERE}:CHOOSES"), "--method: chooses chooses on held-out clips"),
        (("none",), "none: must be a sweep in runs/ or a sweep's folder; there are elsewhere,"),
    ],
)
def test_what_cannot_be_asked_is_said_at_once(
    several, orchestrate, monkeypatch, arguments, message: str
):
    monkeypatch.chdir(several)
    method = () if {"--method", "--weights"} & set(arguments) else MEAN
    before = files(several)
    only_imagined = "--without" in arguments or arguments == ("paper",)
    for command in ("what-if",) if only_imagined else ("what-if", "ensemble"):
        code, out, err = orchestrate(command, *arguments, *method)
        assert (code, out) == (2, ""), err
        assert message in err
        assert len(err.splitlines()) == 1
    assert files(several) == before
    assert not events(several / "runs" / "small", "test_read")


def test_stores_at_one_place_with_other_contents_are_not_combined(tmp_path, orchestrate):
    finished(tmp_path)
    other = finished(tmp_path, OTHER, begin=4)
    for run, content in ((tmp_path / "runs" / "small", "1"), (other, "2")):
        for result in run.glob("trials/*/result.json"):
            noted = json.loads(result.read_text()) | {"store_checksums": {"clips": content}}
            result.write_text(json.dumps(noted))
    code, _, err = orchestrate("what-if", "small", "other", *MEAN)
    assert code == 2
    assert "other: must have the store of small to be combined with it" in err
    assert "with another content" in err


def test_names_of_sweeps_do_not_depend_on_how_paths_are_typed(tmp_path, monkeypatch):
    for name in ("a/small", "b/small", "b/other"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a")
    assert names_of([Path("small"), Path("../b/small")]) == ["a/small", "b/small"]
    assert names_of([tmp_path / "a" / "small", Path("../b/small")]) == ["a/small", "b/small"]
    assert names_of([Path("small"), Path("../b/other")]) == ["small", "other"]


@pytest.mark.parametrize(
    ("called", "message"),
    [("../x", "--called: must be letters"), ("joint-level0", "--called: must be a name of its")],
)
def test_a_wrong_name_of_an_asked_ensemble(tmp_path, orchestrate, called, message):
    run = finished(tmp_path)
    code, _, err = orchestrate("ensemble", "small", *MEAN, "--called", called)
    assert (code, err.count(message)) == (2, 1), err
    assert not (run / "asked").exists()


def test_another_ensemble_in_the_same_folder_replaces_the_first_and_says_so(
    tmp_path, orchestrate, caplog
):
    finished(tmp_path)
    arguments = ("ensemble", "small", *MEAN, "--out", "here")
    assert orchestrate(*arguments, "--called", "one")[0] == 0
    assert orchestrate(*arguments, "--called", "one")[0] == 0
    assert "replaces" not in caplog.text
    assert orchestrate(*arguments, "--called", "two")[0] == 0
    assert "here: replaces what was evaluated there before" in caplog.text
    assert [folder.name for folder in (tmp_path / "here" / "ensembles").iterdir()] == ["two"]


def test_a_folder_of_something_else_is_left_alone(tmp_path, orchestrate):
    run = finished(tmp_path)
    for place in ("runs/small", "store"):
        code, _, err = orchestrate("ensemble", "small", *MEAN, "--out", place)
        assert (code, err.count("must be a new or an empty folder")) == (2, 1)
    assert not events(run, "test_read")


def test_trials_that_have_not_ended_keep_the_test_split_closed(tmp_path, orchestrate):
    run = finished(tmp_path)
    next((run / "trials").iterdir()).joinpath("result.json").unlink()
    code, _, err = orchestrate("ensemble", "small", *MEAN)
    assert code == 2
    assert "1 trials have not ended" in err
    code, _, err = orchestrate("ensemble", "small", *MEAN, "--partial", "--called", "some")
    assert (code, err) == (0, "small: 1 of 4 trials have not ended and take no part\n")
    code, out, _ = orchestrate("ensemble", "small", *MEAN, "--partial", "--called", "again")
    assert code == 0
    assert "small: the test labels were read 2 times; choosing by these" in out
    code, _, err = orchestrate("what-if", "small", *MEAN)
    assert code == 0
    assert err.startswith("without ")
    assert "small: 1 of 4 trials have not ended" in err


def test_a_laptop_without_torch_builds_and_imagines(tmp_path):
    finished(tmp_path)
    finished(tmp_path, OTHER, begin=4)
    probe = """
import sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "ray", "mlflow", "pandas"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refused())
from orchestrator import cli
for arguments in ("what-if small other --method mean", "ensemble small other --method mean",
                  "ensemble small --over seed --method mean --partial"):
    sys.argv = ["orchestrate", *arguments.split()]
    try:
        cli.main()
    except SystemExit as end:
        print(arguments, "->", end.code or 0, file=sys.stderr)
    else:
        print(arguments, "-> 0", file=sys.stderr)
"""
    found = subprocess.run(
        [sys.executable, "-c", probe], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    ends = [line.rpartition("-> ")[2] for line in found.stderr.splitlines() if "->" in line]
    assert ends == ["0", "0", "2"], found.stderr


def test_temperatures_are_said(tmp_path, orchestrate):
    finished(tmp_path)
    code, out, err = orchestrate("ensemble", "small", "--method", "temperature", "--called", "t")
    assert code == 0, err
    (made,) = [line for line in out.splitlines() if line.startswith("t is made of ")]
    assert made.count(" 0.250 at temperature ") == 4


def test_paper_style_is_asked_for_and_goes_with_the_ensembles_of_the_file(tmp_path, orchestrate):
    finished(tmp_path)
    code, out, err = orchestrate("ensemble", "small", "--paper-style", "--json")
    assert code == 0, err
    found = json.loads(out)
    names = {each["name"] for each in found["paper_style"]}
    assert {row["name"] for row in found["rows"]} >= names
    assert any(each["kind"] == "ensemble" for each in found["paper_style"])
    code, out, err = orchestrate("ensemble", "small", *MEAN, "--paper-style")
    assert (code, out) == (2, "")
    assert "--paper-style goes with the name of one sweep" in err
