"""The command, run in an empty folder."""

from __future__ import annotations

from functools import partial

import pytest

from tests.orchestrator.in_process import run_captured


@pytest.fixture
def orchestrate(tmp_path, monkeypatch, capsys):
    """Run the command: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    return partial(run_captured, capsys)
