"""A page that follows a sweep ends with it, and with whoever stops following."""

from __future__ import annotations

import pytest

from orchestrator.report.page import watching
from orchestrator.report.page.sweep import sweep_page
from tests.orchestrator.fake_run import Trial, make_run


def test_a_page_that_is_no_longer_followed_loads_itself_no_more(tmp_path, monkeypatch):
    run, told = make_run(tmp_path, [Trial("joint", 0.0)]), []
    page = run / "report" / "index.html"
    monkeypatch.setattr(watching, "is_running", lambda _run: True)

    def interrupt(_seconds):
        assert "data-reload" in page.read_text()[:300]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watching.watch(run, 20, told.append, interrupt)
    assert told == [page]
    assert "data-reload" not in page.read_text()[:300]


def test_a_sweep_that_has_just_begun_is_waited_for(tmp_path, monkeypatch):
    run = make_run(tmp_path, [Trial("joint", 0.0)])
    aside = (run / "resolved.json").rename(tmp_path / "aside")
    turns = iter([True, True, False])
    monkeypatch.setattr(watching, "is_running", lambda _run: next(turns))

    def appear(_seconds):
        if aside.exists():
            aside.rename(run / "resolved.json")

    assert watching.watch(run, 20, lambda _path: None, appear).is_file()


def test_a_sweep_that_runs_again_is_not_called_evaluated(tmp_path):
    from tests.orchestrator.report.test_decision import evaluated

    found = evaluated(tmp_path, [Trial("joint", 0.0)])
    assert sweep_page(found).state == "evaluated"
    assert sweep_page(found, reload_s=20).state == "running again"
