"""What a page holds: of sweeps that are damaged, old, empty or named to do harm, too."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from orchestrator.ensembling.classes import Predictions
from orchestrator.ensembling.results import predictions_file
from orchestrator.record.states import TrialState
from orchestrator.report.findings import read_findings
from orchestrator.report.page.html import data_element, inline
from orchestrator.report.page.searched import grouped, importances, omega_squared
from orchestrator.report.page.sweep import sweep_page, write_page
from orchestrator.trials.proposed import Proposal
from tests.orchestrator.fake_run import Trial, make_run, result_of
from tests.orchestrator.report.page.swept import small_sweep
from trainables.contract.errors import UserError

HARM = '</script><img src=x onerror="window.harmed=1"><b>\'&`'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.ensembling.whole_choice.MOST_ENSEMBLE_DRAWS", 5)
        return small_sweep(tmp_path_factory.mktemp("made"))


@pytest.fixture
def small(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def test_the_answer_comes_first(small):
    page = sweep_page(read_findings(small))
    assert [part.key for part in page.parts][:3] == ["answer", "scores", "cost"]
    answer = page.parts[0].html
    assert "100.00 %" in answer or "± " in answer
    assert "against its best member" in answer
    assert "orchestrate predict" in answer
    assert "run/final" in answer
    assert page.data["cost"]["ships"][0] == "final"


def test_the_page_needs_no_store(small, made):
    before = write_page(read_findings(small)).read_text()
    shutil.move(made.parent / "store", made.parent / "away")
    try:
        assert write_page(read_findings(small)).read_text() == before
    finally:
        shutil.move(made.parent / "away", made.parent / "store")


def _without_evaluation(run):
    (run / "evaluation.json").unlink()


def _of_version_4(run):
    shutil.rmtree(run / "predictions")
    found = json.loads((run / "evaluation.json").read_text())
    for name in ("version", "first_tried", "fronts", "shipping"):
        found.pop(name, None)
    for row in found["rows"]:
        for name in ("bootstrap", "calibration", "diversity", "luck", "cross_fitted"):
            row.pop(name, None)
        for name in ("selection", "test", "clean"):
            (row[name] or {}).pop("interval", None)
    for each in found["comparisons"]:
        each.pop("bootstrap", None)
    (run / "evaluation.json").write_text(json.dumps(found))


def _without_ensembles(run):
    found = json.loads((run / "evaluation.json").read_text())
    found["rows"] = [row for row in found["rows"] if row["kind"] == "member"]
    found["comparisons"] = []
    (run / "evaluation.json").write_text(json.dumps(found))


def _not_timed(run):
    found = json.loads((run / "evaluation.json").read_text())
    for row in found["rows"]:
        row["size"] |= {"latency_ms": None, "latency_device": None, "latency_threads": None}
    (run / "evaluation.json").write_text(json.dumps(found))


def _half_written(run):
    for number, folder in enumerate(sorted((run / "trials").iterdir())):
        if number % 3 == 0:
            (folder / "config.json").unlink(missing_ok=True)
        if number % 3 == 1:
            (folder / "metrics.parquet").write_bytes(b"PAR1")
        if number % 3 == 2 and (folder / "result.json").exists():
            (folder / "result.json").write_text('{"form": 1')
    with (run / "journal.jsonl").open("a") as stream:
        stream.write('{"time": 1, "event": "trial_fin')


def _empty(run):
    for path in run.iterdir():
        if path.name != "resolved.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (run / "resolved.json").write_text('{"sweep": {}, "trials": []}')


def _no_trial_finished(run):
    _without_evaluation(run)
    for file in run.glob("trials/*/result.json"):
        file.unlink()


DAMAGE = {
    damage.__name__[1:]: damage
    for damage in (
        _without_evaluation,
        _of_version_4,
        _without_ensembles,
        _not_timed,
        _half_written,
        _empty,
        _no_trial_finished,
    )
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_page_of_any_sweep_opens(open_page, small, damage):
    damage(small)
    page = open_page(write_page(read_findings(small)))
    page.wait_for_selector("html[data-drawn=all]", state="attached")
    assert page.locator("h1").text_content()
    assert "NaN" not in page.locator("main").text_content()


def test_a_latency_that_is_no_number_is_refused(small):
    text = (small / "evaluation.json").read_text()
    broken = re.sub(r'"latency_ms": [0-9.]+', '"latency_ms": NaN', text)
    (small / "evaluation.json").write_text(broken)
    with pytest.raises(UserError, match=r"evaluation\.json: .* finite number"):
        read_findings(small)


def test_what_is_not_evaluated_is_called_so(small):
    _without_evaluation(small)
    text = "".join(part.html for part in sweep_page(read_findings(small)).parts)
    assert "there are no test figures" in text
    assert "on test" not in text


def test_names_cannot_become_elements(open_page, small):
    resolved = json.loads((small / "resolved.json").read_text())
    resolved["sweep"]["name"] = HARM
    for trial in resolved["trials"]:
        trial["cell"] += HARM
        trial["assignment"][f"train.{HARM}"] = HARM + trial["trial"]
    (small / "resolved.json").write_text(json.dumps(resolved))
    found = json.loads((small / "evaluation.json").read_text())
    found["skipped"] = {HARM: HARM}
    for row in found["rows"]:
        row["axes"] = {"model.backbone": HARM + row["name"]}
    (small / "evaluation.json").write_text(json.dumps(found))
    path = predictions_file(small, 0)
    table = Predictions.load(path)
    Predictions(table.ids, table.labels, (HARM, "b", "c"), table.firsts).save(path)
    page = open_page(write_page(read_findings(small)))
    page.wait_for_selector("html[data-drawn=all]", state="attached")
    page.locator("#trials button", has_text="All columns").click()
    page.locator("#trials th").first.click()
    assert page.evaluate("[window.harmed, document.querySelectorAll('img').length]") == [None, 0]
    assert HARM in page.locator("h1").text_content()
    assert HARM in page.locator("#per-class").text_content()


def test_text_is_escaped_and_marked_once():
    assert inline("**a `b*c**d` e** <i>") == (
        "<strong>a <code>b&#42;c&#42;&#42;d</code> e</strong> &lt;i&gt;"
    )
    assert "</script><" not in data_element("x", {HARM: HARM}).removesuffix("</script>")


def test_omega_squared_against_the_definition():
    generator = np.random.default_rng(0)
    values, groups = generator.normal(size=(3, 30)), np.arange(30) % 4
    for row, found in zip(values, omega_squared(values, groups), strict=True):
        parts = [row[groups == k] for k in range(4)]
        between = sum(len(part) * (part.mean() - row.mean()) ** 2 for part in parts)
        within = sum(((part - part.mean()) ** 2).sum() for part in parts)
        noise = within / (30 - 4)
        assert found == pytest.approx((between - 3 * noise) / (between + within + noise))


def test_values_are_grouped():
    assert grouped(["a", "b", "a"]).tolist() == [0, 1, 0]
    assert grouped([16, 32, 64, 16]).tolist() == [0, 1, 2, 0]
    found = grouped([0.1 * i for i in range(20)])
    assert np.bincount(found).tolist() == [5, 5, 5, 5]
    assert grouped([True, False, None]).tolist() == [0, 1, 2]


def _states(accuracy):
    generator = np.random.default_rng(1)
    states = []
    for number in range(80):
        lr, momentum = (float(each) for each in generator.random(2))
        result = result_of(Trial("joint", 0.0)).model_copy(
            update={"selection_top1": accuracy(lr, generator)}
        )
        assignment = {"train.lr": lr, "train.momentum": momentum}
        proposal = Proposal(f"t{number}", f"c{number % 2}", {}, assignment, 0)
        states.append(TrialState(proposal, "finished", result))
    return states


def test_a_parameter_that_matters_is_told_from_one_that_does_not():
    states = _states(lambda lr, generator: 0.5 + 0.3 * lr + 0.02 * float(generator.normal()))
    for lines in importances(states).values():
        first, second = lines
        assert first["parameter"] == "train.lr"
        assert first["share"] > 0.7 > first["chance"]
        assert second["share"] < 0.2
    by_chance = importances(_states(lambda lr, generator: float(generator.random())))
    assert all(line["share"] < 0.15 for lines in by_chance.values() for line in lines)


def test_a_sweep_of_one_trial_has_a_page(tmp_path):
    page = sweep_page(read_findings(make_run(tmp_path, [Trial("joint", 0.0)])))
    assert [part.key for part in page.parts][:2] == ["answer", "cost"]
