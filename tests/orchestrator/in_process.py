"""The command, run in the process of a test."""

from __future__ import annotations

import pytest

from orchestrator import cli


def run_code(*arguments: object) -> int:
    """The exit code of the command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["orchestrate", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def run_captured(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command."""
    code = run_code(*arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err
