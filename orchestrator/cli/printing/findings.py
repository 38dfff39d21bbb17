"""What `orchestrate doctor` has found, a line each. Knows no command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from orchestrator.cli.printing.tables import console, table
from trainables.contract.names import printable


class Found(Protocol):
    """What is printed of a finding."""

    @property
    def where(self) -> str: ...
    @property
    def what(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def said(self) -> str: ...
    @property
    def todo(self) -> str: ...


def print_findings(findings: Sequence[Found]) -> None:
    """A table of each place's findings; what to do stands below what was found."""
    out = console(least=60)
    for where in dict.fromkeys(each.where for each in findings):
        made = table("what", "state", text="found", title=printable(where))
        for each in findings:
            if each.where == where:
                text = f"{each.said}\n-> {each.todo}" if each.todo else each.said
                made.add_row(each.what, each.state, printable(text))
        out.print(made)
    failing = sum(each.state == "fails" for each in findings)
    out.print(f"{failing} of {len(findings)} would fail" if failing else "all is well")
