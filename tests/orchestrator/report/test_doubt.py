"""What the report says of how sure its figures are."""

from __future__ import annotations

import csv
import json

import pytest

from orchestrator.ensembling.collect import collect, missing_cells
from orchestrator.ensembling.final import finalize
from orchestrator.report.writing import write_report
from tests.orchestrator.fake_run import Trial, make_run, make_sweep

STREAMS = {"name": "streams", "over": "data.stream"}


def rivals(bone=(4,)):
    """Two streams of two learning rates; the chosen joint trial is worse on test than the first."""
    return [
        Trial("joint", 0.0, lr=0.1, wrong_selection=(0, 1), wrong_test=()),
        Trial("joint", 0.0, lr=0.2, wrong_selection=(2,), wrong_test=(0, 3)),
        Trial("bone", 0.0, lr=0.1, wrong_selection=bone, wrong_test=(0, 1, 2)),
        Trial("bone", 0.0, lr=0.2, wrong_selection=(5, 6, 7), wrong_test=()),
    ]


def report(tmp_path, trials, *ensembles, kind="protocol"):
    run, sweep = make_run(tmp_path, trials, kind=kind), make_sweep(*ensembles)
    members = collect(run, sweep)
    finalize(run, sweep, members, missing_cells(run, members))
    return write_report(run)


def rows(path):
    with path.open() as lines:
        return list(csv.DictReader(lines))


def test_the_report_says_what_there_is_to_doubt(tmp_path):
    path = report(tmp_path, rivals(bone=(4, 8)), STREAMS)
    text, tables = path.read_text(), path.parent / "tables"
    assert text.index("## Verdict") < text.index("## How sure the figures are")
    assert "| `joint-0` | 93.33 | 78.68 to 98.15 |" in text  # Wilson, 28 of 30
    assert "95 % interval" in text.split("## Final scores")[0]
    assert "### Luck of choosing" in text
    assert "| `streams` | 4 |" in text
    assert (
        "Of 2 cells in which there was a choice, the chosen trial is better on test than the first"
        " one tried in 0, worse in 1 (searching on the selection clips was overtuning there), as"
        " good or the same in 1; the mean difference is -3.33 points. Most is lost in `joint-0`:"
        " 100.00 % of the first, 93.33 % of the chosen one of 2."
    ) in text
    assert "### How much the networks differ" in text
    assert "![Reliability on the test clips](figures/reliability.png)" in text
    assert (path.parent / "figures" / "reliability.png").stat().st_size > 10_000
    (first, _) = rows(tables / "first_tried.csv")
    assert float(first["difference"]) == pytest.approx(-2 / 30)
    streams = rows(tables / "results.csv")[-1]
    assert float(streams["luck.interval.low"]) <= float(streams["luck.corrected"])
    assert float(streams["test.interval.high"]) <= 1
    assert streams["bootstrap.subjects.low"] == ""
    assert float(rows(tables / "comparisons.csv")[0]["bootstrap.clips.high"]) <= 1


@pytest.mark.usefixtures("quick_end")
def test_what_an_ensemble_gains_by_class_and_which_confusions_changed(tmp_path):
    """Joint errs on clips 0 and 3 (class 0), bone on 0, 1 and 2 (one of each class); together on
    clip 0 alone.
    """
    path = report(tmp_path, rivals(), STREAMS)
    text = path.read_text()
    assert "### By class against `joint-0` (best member)" in text
    own = text.split("### By class against `bone-0`")[1].split("##")[0]
    assert "Classes that gain: 2, that lose: 0, that stay: 1." in own
    assert "- gains: wave 9 to 10 of 10; stand 9 to 10 of 10" in own
    assert "- confusions: stand taken for wave 1 to 0; wave taken for sit 1 to 0" in own
    cells = rows(path.parent / "tables" / "class_changes.csv")
    wave = next(each for each in cells if each["against"] == "bone-0" and each["class"] == "wave")
    assert (wave["right"], wave["right_against"], wave["only_ensemble"]) == ("10", "9", "1")


@pytest.mark.usefixtures("quick_end")
def test_where_nothing_is_held_out_luck_is_not_made_up(tmp_path):
    text = report(tmp_path, rivals(), STREAMS, kind="none").read_text()
    assert (
        "Nothing was held out to choose on, so nothing can be said of what choosing adds." in text
    )
    assert "Has searching helped?" not in text


@pytest.mark.usefixtures("quick_end")
def test_without_a_choice_it_is_said(tmp_path):
    text = report(tmp_path, rivals()[::2], STREAMS).read_text()
    assert "There was one trial in each cell and no weight to choose." in text


@pytest.mark.usefixtures("quick_end")
def test_an_evaluation_of_version_5_has_no_section(tmp_path):
    run = report(tmp_path, rivals(), STREAMS).parent.parent
    found = json.loads((run / "evaluation.json").read_text())
    for name in ("version", "first_tried"):
        del found[name]
    for row in found["rows"]:
        for name in ("bootstrap", "calibration", "diversity", "luck"):
            del row[name]
        for split in ("selection", "test", "clean"):
            (row[split] or {}).pop("interval", None)
    for each in found["comparisons"]:
        del each["bootstrap"]
    (run / "evaluation.json").write_text(json.dumps(found))
    text = write_report(run).read_text()
    assert "How sure the figures are" not in text
    assert "95 % interval" not in text
    assert "reliability.png" not in text
