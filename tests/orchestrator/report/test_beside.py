"""A report that another process writes is the same report."""

import pytest

from orchestrator.report import beside
from orchestrator.report.beside import ReportBeside
from orchestrator.report.writing import write_report
from tests.orchestrator.report.evaluated import FINAL, LEVELS, disjoint_errors, evaluated
from trainables.contract.errors import OutOfSpace


def by_another_process(run):
    with ReportBeside() as writer:
        writer.begin(run)
        return writer.report()


@pytest.fixture
def run(tmp_path):
    return evaluated(tmp_path, disjoint_errors(), LEVELS, FINAL)


def test_another_process_writes_the_same_report(run, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(beside, "write_report", None)
        there = by_another_process(run)
    files = [path for path in (run / "report").rglob("*") if path.is_file()]
    content = {path: path.read_bytes() for path in files}
    assert there == write_report(run)
    assert {path: path.read_bytes() for path in files} == content
    assert there in content


def test_what_is_wrong_with_a_report_is_raised_here(run, monkeypatch):
    monkeypatch.setattr(beside, "_COMMAND", "raise SystemExit(1)  # {path}")
    asked = []

    def full(run):
        asked.append(run)
        raise OutOfSpace(run, OSError(28, "No space left on device"))

    monkeypatch.setattr(beside, "write_report", full)
    with pytest.raises(OutOfSpace):
        by_another_process(run)
    assert asked == [run]


def test_where_there_is_no_other_process_the_report_is_written_here(run, monkeypatch):
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    monkeypatch.setattr(beside, "write_report", lambda run: run / "here")
    assert by_another_process(run) == run / "here"


def test_the_process_ends_with_what_started_it(run):
    with ReportBeside() as writer:
        process = writer._process
    assert process is not None
    assert process.returncode is not None
