"""MLflow's real pages of a finished sweep, in a real browser: what a person looks for is there."""

from __future__ import annotations

import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from orchestrator.ensembling.bundle import FILE
from orchestrator.report.figures import draw_confusion
from orchestrator.tracking import model
from orchestrator.tracking.pages import run_page
from tests.mlflow_server import CLOSED_ASSISTANT, served
from tests.orchestrator.tracking.mlflow_cases import BOTH, evaluated, opened, runs
from trainables.contract.artifacts import TrialDir

pytestmark = [
    pytest.mark.full,  # MLflow's server takes ten seconds to start
    pytest.mark.filterwarnings(
        "ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning",
        "ignore:.*multi-threaded, use of fork:DeprecationWarning",
        "ignore:.*Add type hints to the `predict` method:UserWarning",
    ),
]

PATIENCE_MS = 60_000


def logged(address, run, bundle):
    """In place of the bundle a model that gives back what it gets: its page looks the same."""
    import mlflow

    mlflow.set_tracking_uri(address)
    with warnings.catch_warnings(), mlflow.start_run(run_id=run):
        warnings.simplefilter("ignore")
        return mlflow.pyfunc.log_model(
            name="model", python_model=lambda model_input: model_input, pip_requirements=["mlflow"]
        )


@pytest.fixture(scope="module")
def sweep(uri, tmp_path_factory):
    """The address of the pages, the link of a finished sweep, and the ids of its runs by name."""
    path = tmp_path_factory.mktemp("pages")
    run, evaluation = evaluated(path, BOTH)
    draw_confusion(np.eye(3, dtype=np.int64), "both", path / "report" / "figures" / "confusion.png")
    (path / "bundle").mkdir()
    (path / "bundle" / FILE).write_text("{}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "_log", logged)
        tracker = opened(uri, "pages")
        link = tracker.link()
        for folder in map(TrialDir, sorted((run / "trials").iterdir())):
            trial, config = folder.path.name, folder.load_config()
            tracker.start_trial(trial, trial.rpartition("-")[0], config, {}, {})
            tracker.finish_trial(trial, folder, "finished")
        tracker.log_evaluation(run, evaluation, path / "bundle")
        lost = tracker.finish_sweep("finished", {"final/test_top1": 1.0}, path / "report")
        assert lost == ()
    ids = {each.info.run_name: each for each in runs(uri, "pages")[1]}
    with served(uri) as address:
        yield SimpleNamespace(address=address, link=link, runs=ids)


@pytest.fixture
def look(open_page, sweep):
    """Opens a page of the sweep."""

    def opened_page(where):
        page = open_page(sweep.address, ignored=".", fails=False)  # they are not our pages
        page.add_init_script(CLOSED_ASSISTANT)
        page.goto(f"{sweep.address}{where}")
        page.set_default_timeout(PATIENCE_MS)
        return page

    return opened_page


def test_the_link_of_a_sweep_opens_its_charts_with_the_best_run_first(look, sweep):
    page = look(sweep.link)
    page.get_by_text("Which is best").wait_for()
    page.get_by_text("Learning curves").wait_for()
    page.get_by_role("link", name="both (ensemble of 2)").wait_for()
    names = [name for name in page.get_by_role("link").all_inner_texts() if name in sweep.runs]
    tops = [sweep.runs[name].data.metrics["best/selection_top1"] for name in names]
    assert len(tops) == len(sweep.runs) - 1  # all but the sweep's own run
    assert tops == sorted(tops, reverse=True)
    page.get_by_text("test_top1").first.wait_for()
    # few charts: what people seldom look at is behind closed sections
    assert page.get_by_text(re.compile(r"^details")).count() == 1
    assert not page.get_by_text("test_log_loss").is_visible()


def test_three_clicks_from_the_charts_lie_metrics_and_the_confusion_matrix(look, sweep):
    page = look(sweep.link)
    page.get_by_role("link", name="both (ensemble of 2)").click()
    page.get_by_text("deploy_nonzero_params").first.wait_for()
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("figures", exact=True).first.click()
    page.get_by_text("confusion.png").first.click()
    page.locator("img[src^='blob:']").first.wait_for()


def test_a_sweep_has_its_children_and_leads_to_its_registered_champion(look, sweep):
    parent = sweep.runs["s"]
    page = look(run_page(parent.info.experiment_id, parent.info.run_id))
    for name in sweep.runs.keys() - {"s"}:
        page.get_by_role("link", name=re.compile(f"^{re.escape(name)}")).first.wait_for()
    with page.expect_popup() as opening:
        page.get_by_role("link", name="registered model").click()
    page = opening.value
    page.set_default_timeout(PATIENCE_MS)
    page.get_by_text("s.both").first.wait_for()
    page.get_by_text("champion").first.wait_for()
    page.get_by_text("is an ensemble of 2 networks").first.wait_for()
