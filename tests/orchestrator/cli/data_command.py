"""`orchestrate data` in this process, and what it prints."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from orchestrator.cli.commands.data import data_app
from trainables.contract.errors import OrchestrateError

SYNTH = (
    "synth",
    "--classes",
    "2",
    "--clips-per-class",
    "4",
    "--subjects",
    "2",
    "--views",
    "2",
    "--frames",
    "6",
)


def run(*arguments: object) -> str:
    """What the command prints on stdout; its own errors are raised, as the top-level command
    expects.
    """
    result = CliRunner().invoke(data_app, [str(argument) for argument in arguments])
    if isinstance(result.exception, OrchestrateError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def lines_of(printed: str) -> list[list[str]]:
    """The cells of every line."""
    return [re.split(r"\s{2,}", line.strip()) for line in printed.splitlines()]


def synthetic(out: Path) -> Path:
    run(*SYNTH, out)
    return out
