"""The command `report`: what it writes and says, for one sweep, for two and for one that runs."""

from __future__ import annotations

import shutil

import pytest

from orchestrator.report.page.watching import watch
from tests.orchestrator.fake_run import Trial, make_run

pytestmark = pytest.mark.usefixtures("quick_end")


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path, [Trial("joint", level) for level in (0.0, 0.6)])


def test_a_report_is_markdown_and_a_page(run, orchestrate, monkeypatch) -> None:
    shown = []
    monkeypatch.setattr("webbrowser.open", lambda address: shown.append(address) or True)
    code, out, err = orchestrate("report", run, "--open")
    markdown, page = run / "report" / "report.md", run / "report" / "index.html"
    assert (code, out, err) == (0, f"{markdown}\n{page}\n", "")
    assert "<h2>So far</h2>" in page.read_text()
    assert shown == [page.resolve().as_uri()]


def test_two_sweeps_have_a_page_of_their_own(run, orchestrate, tmp_path) -> None:
    other = shutil.copytree(run, tmp_path / "other")
    code, out, _ = orchestrate("report", run, other)
    assert (code, out) == (0, f"{run / 'report' / 'with-other.html'}\n")
    text = (run / "report" / "with-other.html").read_text()
    assert "Both sweeps have the same settings." in text
    assert "Best accuracy on the selection clips" in text


def test_what_cannot_be_compared_or_watched_is_refused(run, orchestrate, tmp_path) -> None:
    code, _, err = orchestrate("report", run, run)
    assert code == 2
    assert "must be another sweep" in err
    code, _, err = orchestrate("report", run, run, "--watch")
    assert code == 2
    assert "--watch: must be of one sweep, got two" in err


def test_a_running_sweep_is_followed_to_its_end(run, monkeypatch) -> None:
    page, told, slept = run / "report" / "index.html", [], []
    answers = iter([True, True, False])
    monkeypatch.setattr("orchestrator.report.page.watching.is_running", lambda run: next(answers))

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        assert 'data-reload="7"' in page.read_text()

    assert watch(run, 7, told.append, sleep) == page
    assert (told, slept) == ([page], [7, 7])
    assert "data-reload" not in page.read_text().partition("<head>")[0]


def test_a_sweep_that_does_not_run_is_written_once(run, orchestrate) -> None:
    code, out, _ = orchestrate("report", run, "--watch")
    assert (code, out) == (0, f"{run / 'report' / 'index.html'}\n")
