"""What is chosen on the test clips is said only where it is asked for, and stands apart."""

from __future__ import annotations

import pytest

from orchestrator.cli.printing.evaluation import print_evaluation
from orchestrator.ensembling.collect import collect
from orchestrator.ensembling.final import finalize
from orchestrator.record.journal import read_journal
from orchestrator.report.writing import write_report
from tests.orchestrator.fake_run import TEST, Trial, make_run, make_sweep

pytestmark = pytest.mark.usefixtures("quick_end")

RECIPE = {
    "name": "streams",
    "over": "data.stream",
    "method": "tests.orchestrator.ensembling.test_strategies:BEST",
}


def rivals():
    """On selection the first joint trial and joint are best, on test the second and bone."""
    return [
        Trial("joint", 0.0, lr=0.1, wrong_selection=(), wrong_test=(0, 1, 2, 3)),
        Trial("joint", 0.0, lr=0.2, wrong_selection=(2,), wrong_test=(0, 1)),
        Trial("bone", 0.0, lr=0.1, wrong_selection=(4, 5, 6), wrong_test=(7,)),
    ]


@pytest.mark.parametrize("kind", ["protocol", "none"])
def test_the_best_on_test_are_found_and_stand_in_rows_of_their_own(tmp_path, capsys, kind):
    trials = rivals()
    run, sweep = make_run(tmp_path, trials, kind=kind), make_sweep(RECIPE)
    members = collect(run, sweep)
    plain = finalize(run, sweep, members, {})
    assert plain.paper_style == ()
    asked = finalize(run, sweep, members, {}, paper_style=True)
    joint, bone, *ensembles = asked.paper_style
    assert (joint.trials, joint.test.right) == ((trials[1].name,), TEST - 2)
    assert (bone.trials, bone.test.right) == ((trials[2].name,), TEST - 1)
    if kind == "protocol":
        (ensemble,) = ensembles
        assert (ensemble.weights, ensemble.test.right) == ({"bone-0": 1.0}, TEST - 1)
        assert asked.rows[-1].weights == {"joint-0": 1.0}
    # everything else is as it was
    assert asked.model_copy(update={"paper_style": ()}) == plain
    assert asked.headline == plain.headline
    assert "Paper style" not in write_report(run).read_text()
    text = write_report(run, paper_style=True).read_text()
    assert "### Paper style: chosen on the test clips" in text
    assert "Paper style" not in text.split("## Results")[0]
    if kind == "protocol":
        print_evaluation(asked)
        assert "paper style: streams 96.67, trials" in capsys.readouterr().out
    assert "2 times, 1 of them for the papers' way of choosing" in text
    purposes = [
        each["purpose"] for each in read_journal(run / "journal.jsonl") if "purpose" in each
    ]
    assert purposes == ["final evaluation", "final evaluation, paper style"]
    assert finalize(run, sweep, members, {}, paper_style=True) == asked
    assert finalize(run, sweep, members, {}) == plain
    assert finalize(run, sweep, members, {}, paper_style=True) == asked  # it is not lost
    reads = [each for each in read_journal(run / "journal.jsonl") if "purpose" in each]
    assert len(reads) == 2


def test_the_line_is_of_what_ships(tmp_path, capsys):
    """Of the file's ensembles the last one that could be built ships, however many stand below."""
    recipe = {"name": "first", "over": "data.stream"}
    run, sweep = make_run(tmp_path, rivals()), make_sweep(recipe)
    asked = finalize(run, sweep, collect(run, sweep), {}, paper_style=True)
    others = [each for each in asked.paper_style if each.name != "first"]
    ours = [each for each in asked.paper_style if each.name == "first"]
    print_evaluation(asked.model_copy(update={"paper_style": (*ours, *others)}))
    assert "paper style: first " in capsys.readouterr().out
    print_evaluation(asked.model_copy(update={"paper_style": tuple(others)}))
    assert "paper style: first cannot be built of the trials" in capsys.readouterr().out
