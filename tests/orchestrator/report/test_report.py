"""The report: what the evaluation found is in it, what is missing is said, and it is made from
files alone.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys

import pytest

from orchestrator.cli.printing.evaluation import print_evaluation
from orchestrator.ensembling.results import FinalEvaluation
from orchestrator.record.journal import Journal
from orchestrator.record.states import TrialState
from orchestrator.report.content import Table
from orchestrator.report.markdown import to_markdown
from orchestrator.report.sections.overview import overview
from orchestrator.report.tables import milliseconds, write_csv
from orchestrator.report.verdicts import verdicts
from orchestrator.report.writing import write_report
from orchestrator.trials.proposed import Proposal
from tests.orchestrator.fake_run import TEST, Trial, make_run, result_of
from tests.orchestrator.report.evaluated import FINAL, LEVELS, disjoint_errors, evaluated

pytestmark = pytest.mark.usefixtures("quick_end")


@pytest.mark.usefixtures("drawn_pictures")
def test_the_report_shows_what_was_found(tmp_path):
    run = evaluated(tmp_path, disjoint_errors(), LEVELS, FINAL, copies=2)
    text = write_report(run).read_text()
    assert "# Sweep made-up" in text
    assert "protocol: held out" in text
    assert "pairs" in text
    assert "2 of them copies" in text
    assert (
        "| `joint-0` | dense single network | 91.67 ± 7.98 | 76.67 ± 7.72 | 82.14 ± 7.24 | 100.00 |"
        " 100.00 | 76.67 |" in text
    )
    assert "**Test labels** were read once" in text
    assert text.index("## Verdict") < text.index("## Final scores") < text.index("## Results")
    short, final = (line for line in text.splitlines() if line.startswith("| `final` | ensemble"))
    assert "| **91.67 ± 7.98** | 100.00 ± 0.00 | 100.00 ± 0.00 | 1,400 | 6.0 |" in short
    assert "| 100.00 ± 0.00 |" in final
    assert "2,800" in final
    assert "2.80 x" in final
    assert (
        "*Training curves of 4 of 4 trials, those whose figures stand in the tables; from the"
        " dotted line on the masks are final.*" in text
    )
    for figure in ("size_accuracy.png", "curves.png", "confusion.png"):
        assert f"](figures/{figure})" in text
        assert (run / "report" / "figures" / figure).read_bytes().startswith(b"\x89PNG")


def test_the_non_zeros_of_what_ships_stand_beside_those_of_the_training_form(tmp_path, capsys):
    trials = disjoint_errors(levels=(0.0, 0.95))
    trials[3].wrong_selection = ()
    run = evaluated(tmp_path, trials, LEVELS, FINAL)
    found = FinalEvaluation.load(run)
    sentence = (
        "with 7.00 times its non-zero parameters in the deploy form and 42.00 times in the training"
        " form."
    )
    assert sentence in verdicts(found)[0]
    text = write_report(run).read_text()
    assert sentence in text
    assert "a weight of the sum is zero only where all of its parts are" in text
    print_evaluation(found)
    printed = capsys.readouterr().out
    columns = ("deploy non-zero", "latency ms", "batch 64 ms", "peak MB", "training non-zero")
    assert re.search(" +".join(columns), printed)
    assert re.search(r"bone-0\.95 .* 200 +1\.5 +30 +3\.95 +50", printed)


def test_every_accuracy_is_given_without_the_copies(tmp_path, capsys):
    trials = [*disjoint_errors(), Trial("joint", 0.0, seed=1)]
    trials[3].wrong_selection = ()
    run = evaluated(tmp_path, trials, LEVELS, FINAL, copies=7)  # all that joint-0 gets wrong
    found = FinalEvaluation.load(run)
    assert lines_with(verdicts(found), "the dense single network") == [
        "On the 23 clips that are no copies, 100.00 % against 100.00 %: +0.00 points, standard"
        " error 0.00, only the ensemble has 0 right, only the other 0 (sign test p = 1); there it"
        " is not distinguishable from it on these clips."
    ]
    text = write_report(run).read_text()
    assert (
        "30 test clips, 7 of them copies of training or selection clips (the other 23 hold 3 of the"
        " 3 classes)" in text
    )
    for column in (
        "test-clean top-1 %",
        "test-clean top-5 %",
        "test-clean mean-class %",
        "test-clean over seeds %",
    ):
        assert f"| {column} |" in text
    assert "88.33 ± 16.50 (n=2) | 100.00 ± 0.00 (n=2) |" in text
    with (run / "report" / "tables" / "comparisons.csv").open(newline="") as stream:
        assert {(row["clips"], row["clean.clips"]) for row in csv.DictReader(stream)} == {
            ("30", "23")
        }
    with (run / "report" / "tables" / "results.csv").open(newline="") as stream:
        assert next(csv.DictReader(stream))["seeds.clean_mean"] == "1.0"
    print_evaluation(found)
    assert "test clean: on the test clips that are no exact copies" in capsys.readouterr().out


def lines_with(lines, word):
    """What the lines that hold `word` say from "On the" on."""
    return [line[line.index("On the") :] for line in lines if word in line]


def test_test_clips_that_are_all_copies_leave_no_clean_figure(tmp_path, capsys):
    run = evaluated(tmp_path, disjoint_errors(), LEVELS, FINAL, copies=TEST)
    found = FinalEvaluation.load(run)
    text = write_report(run).read_text()
    assert (
        "30 of them copies of training or selection clips (there is no accuracy without copies)"
        in text
    )
    assert "test-clean" not in text
    print_evaluation(found)
    assert "test clean" not in capsys.readouterr().out


def test_of_two_stores_each_has_the_clean_figures_it_can_have(tmp_path, capsys):
    """One store with some copies, one without, one of copies
    alone: a figure, the test's own, none.
    """
    some = FinalEvaluation.load(evaluated(tmp_path, [Trial("joint", 0.0)], copies=2))
    rows, splits = list(some.rows), list(some.splits)
    for name, clean in (("none", TEST), ("all", 0)):
        division = rows[0].division.model_copy(update={"store": name})
        splits.append(splits[0].model_copy(update={"division": division, "clean_clips": clean}))
        accuracy = rows[0].test.model_copy(update={"top1": 0.75})
        rows.append(
            rows[0].model_copy(
                update={"name": name, "division": division, "clean": None, "test": accuracy}
            )
        )
    print_evaluation(some.model_copy(update={"rows": tuple(rows), "splits": tuple(splits)}))
    printed = {
        line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()
    }
    assert [printed[name].count("75.00") for name in ("none", "all")] == [2, 1]


def test_the_time_of_a_sweep_ends_with_it(tmp_path):
    events = ("sweep_started", "test_read", "sweep_finished", "ensemble_built", "test_read")
    journal = [{"event": event, "time": 60.0 * i} for i, event in enumerate(events)]
    said = to_markdown("", [overview([], None, journal)])
    assert "00:00:00 to 1970-01-01 00:02:00 UTC, 2.0 minutes" in said
    journal.append({"event": "trial_finished", "time": 600.0})  # the sweep went on
    assert "10.0 minutes" in to_markdown("", [overview([], None, journal)])


def test_a_node_that_got_no_more_trials_is_said():
    told = {
        "event": "node_excluded",
        "node": "50844853ab",
        "host": "10.0.0.7",
        "reason": "it fails",
    }
    said = to_markdown("", [overview([], None, [told | {"time": 1.0}])])
    assert "**Node left out**: 50844853 on 10.0.0.7: it fails" in said


def test_training_that_several_trials_share_is_counted_once(tmp_path):
    alone = result_of(Trial("joint", 0.0)).model_copy(update={"seconds": 120.0})
    branched = alone.model_copy(update={"shared_epochs": 6, "shared_seconds": 60.0})
    states = [
        TrialState(Proposal(f"t{number}", "c", {}, {}, 0), "finished", result)
        for number, result in enumerate((alone, branched, branched))
    ]
    told = {"time": 1.0, "beginning": "a", "seconds": 60.0}
    used = [told | {"event": "beginning_used", "trial": f"t{number}"} for number in (1, 2)]
    trained = told | {"event": "beginning_trained", "trial": "t0"}
    text = to_markdown("", [overview(states, None, [trained, *used])])
    assert "; 4.0 minutes of training in total" in text
    assert (
        "- **Shared beginnings**: 2 trials start from 1 beginning of 6 epochs that was trained"
        " once; to train them alone would have taken 2.0 minutes more"
    ) in text
    states[0] = TrialState(states[0].proposal, "failed")  # behind the beginning
    assert "; 3.0 minutes of training in total" in to_markdown(
        "", [overview(states, None, [trained, *used])]
    )


@pytest.mark.parametrize(
    ("time", "text"), [(0.213, "0.21"), (1.5, "1.5"), (8.904, "8.9"), (34.11, "34"), (121.3, "121")]
)
def test_a_latency_has_two_digits(time, text):
    assert milliseconds(time) == text


@pytest.mark.usefixtures("drawn_pictures")
def test_the_paper_protocol_is_named(tmp_path):
    text = write_report(evaluated(tmp_path, disjoint_errors(), LEVELS, kind="none")).read_text()
    assert "## Results (protocol: paper)" in text
    assert "chosen on test" in text
    assert "n/a" in text


@pytest.mark.usefixtures("drawn_pictures")
def test_before_the_final_evaluation_there_are_no_test_figures(tmp_path):
    trials = [Trial("joint", 0.0), Trial("bone", 0.0, state="unfinished")]
    run = make_run(tmp_path, trials)
    journal = Journal(run / "journal.jsonl")
    journal.append("sweep_started")
    for attempt in (1, 2):
        journal.append("trial_restarted", trial=trials[1].name, attempt=attempt)
    text = write_report(run).read_text()
    assert "there are no test figures" in text
    assert "were not read" in text
    assert "1 finished, 0 failed, 1 unfinished, 2 restarts" in text


@pytest.mark.usefixtures("drawn_pictures")
def test_the_answer_of_a_large_sweep_is_on_the_first_page(tmp_path):
    """80 cells: verdict and figures come before every long table."""
    levels = [round(0.5 + i / 1000, 4) for i in range(40)]
    run = evaluated(
        tmp_path,
        [Trial(s, v) for s in ("joint", "bone") for v in (0.0, *levels[1:])],
        LEVELS,
        FINAL,
    )
    lines = write_report(run).read_text().splitlines()
    verdict = lines.index("## Verdict")
    scores = lines.index("## Final scores (protocol: held out)")
    assert lines.index("## What to ship") < 5
    assert verdict < 20
    assert scores < 30
    assert sum(line.startswith("| `") for line in lines[scores : scores + 20]) == 12
    assert any(line.startswith("| `final` | ensemble") for line in lines[scores : scores + 20])
    longest = next(i for i, line in enumerate(lines) if line.startswith("## Results"))
    assert longest < 110
    table = [line for line in lines[scores : scores + 20] if line.startswith("|")]
    assert max(map(len, table)) < 140


def test_classes_and_clips_are_told_of_every_network_and_ensemble(tmp_path):
    """joint-0 takes clips 0 to 6 for the next class, joint-0.6 clips 7 to 13, and so on."""
    run = evaluated(tmp_path, disjoint_errors(), LEVELS, FINAL)
    text = write_report(run).read_text()
    section = text[text.index("## By class: `final`") :].split("\n## ")[0]
    assert "All classes, on the 30 test clips; 0 of them are misclassified" in section
    assert "| sit | 10 | 100.00 | 70.00 |  |" in section
    tables = run / "report" / "tables"

    def rows(name):
        with (tables / f"{name}.csv").open(newline="") as stream:
            return list(csv.DictReader(stream))

    (sit,) = (r for r in rows("per_class") if (r["name"], r["class"]) == ("joint-0", "sit"))
    assert (sit["clips"], sit["right"], sit["taken_for"], sit["taken"]) == ("10", "7", "stand", "3")
    (cell,) = (
        r
        for r in rows("confusion")
        if (r["name"], r["class"], r["taken_for"]) == ("joint-0", "sit", "stand")
    )
    assert cell["clips"] == "3"  # clips 0, 3 and 6
    wrong = {row["id"]: row for row in rows("misclassified")}
    assert set(wrong) == {f"c{i:02d}" for i in range(28)}
    assert (wrong["c03"]["class"], wrong["c03"]["wrong"], wrong["c03"]["joint-0"]) == (
        "sit",
        "1",
        "stand",
    )
    assert wrong["c03"]["bone-0"] == ""


def test_an_evaluation_of_version_4_has_a_report_without_classes(tmp_path):
    """As sweeps of version 0.2 left it: no predictions, no store, no ties."""
    run = evaluated(tmp_path, disjoint_errors(), LEVELS, FINAL)
    shutil.rmtree(run / "predictions")
    content = json.loads((run / "evaluation.json").read_text())
    del content["stores"]
    for part in content["comparisons"]:
        del part["tied"]
    for part in content["splits"]:
        del part["same_store"]
    (run / "evaluation.json").write_text(json.dumps(content))
    text = write_report(run).read_text()
    assert "## By class" not in text
    assert "**The ensemble is better than it**" in text
    assert not (run / "report" / "tables" / "per_class.csv").exists()


def test_tables_hold_every_number(tmp_path):
    run = evaluated(tmp_path, disjoint_errors(), LEVELS, FINAL)
    write_report(run)
    tables = run / "report" / "tables"
    with (tables / "results.csv").open(newline="") as stream:
        rows = {row["name"]: row for row in csv.DictReader(stream)}
    assert float(rows["joint-0"]["test.top1"]) == pytest.approx(23 / 30)
    assert rows["final"]["axis.data.stream"] == ""
    with (tables / "trials.csv").open(newline="") as stream:
        trials = list(csv.DictReader(stream))
    assert {row["status"] for row in trials} == {"finished"}
    assert trials[0]["parameter.train.lr"] == "0.1"
    with (tables / "comparisons.csv").open(newline="") as stream:
        assert {row["role"] for row in csv.DictReader(stream)} == {"best member", "dense network"}


def test_the_report_needs_neither_the_store_nor_anything_heavy(tmp_path):
    run = evaluated(tmp_path, disjoint_errors(), LEVELS, FINAL)
    shutil.rmtree(tmp_path / "store")
    code = (
        "import sys; from pathlib import Path; from orchestrator.report.writing import"
        " write_report; print(write_report(Path(sys.argv[1]))); heavy = {'torch', 'ray', 'mlflow'}"
        " & set(sys.modules); sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("report.md")


def test_markdown_cells_cannot_break_the_table():
    lines = to_markdown("T", [Table([{"a": "x|y\nz", "n": "1.5"}])]).splitlines()
    assert lines[2:] == ["| a | n |", "| --- | ---: |", "| x\\|y z | 1.5 |"]
    rows = [{"n": "1.50 ± 0.10"}, {"n": "n/a"}, {"n": "1.25"}]
    lines = to_markdown("T", [Table(rows, best={"n": "highest"})]).splitlines()
    assert lines[3:] == ["| ---: |", "| **1.50 ± 0.10** |", "| n/a |", "| 1.25 |"]


def test_csv_rows_of_different_columns(tmp_path):
    path = write_csv(tmp_path / "t.csv", [{"a": 1}, {"b": "x,y"}])
    assert path.read_text().splitlines() == ["a,b", "1,", ',"x,y"']
