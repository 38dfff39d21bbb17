"""What it takes to get the same sweep again: commands, versions, digests."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator import __version__
from orchestrator.record.commands import command
from orchestrator.report.content import Block, Heading, Listing, Table
from orchestrator.report.findings import Findings

ALWAYS_THE_SAME = ("grid", "random", "qmc")
"""Searches whose trials depend on no other trial's result."""
SHORT = 16  # characters of a SHA-256 in a table


def reproduce(found: Findings, trials: Sequence[str]) -> list[Block]:
    """The section; `trials` are those that ship, whose files are named by their content."""
    lines = [
        {"what": name, "is": f"`{text}`"}
        for name, text in (
            ("sweep file, digest of its content", found.resolved.get("digest")),
            ("store, digest of clips, classes and splits", _stores(found)),
            ("trials and recipes evaluated", found.evaluation and found.evaluation.inputs),
            *((f"version of {name}", text) for name, text in _versions(found.journal).items()),
        )
        if text
    ]
    return [
        Heading("Reproduce"),
        "The folder of the sweep holds the file as it was read (`sweep.yaml`), its expansion"
        " (`resolved.json`) and everything that happened (`journal.jsonl`). Trials draw from their"
        f" own seeds: {_how_exact(found.sweep)}",
        Listing(_commands(found)),
        Table(lines),
        *_shipped(found, trials),
    ]


def _how_exact(sweep: Mapping[str, Any]) -> str:
    """What comes again where the sweep is run again."""
    same = "the same versions on the same kind of machine"
    name = str((sweep.get("method") or {}).get("name", ""))
    stops = (sweep.get("early_terminate") or {}).get("type", "none") != "none"
    if name in ALWAYS_THE_SAME and not stops:
        return f"{same} give the same networks."
    search = f"search `{name}`" if name else "the search"
    why = [] if name in ALWAYS_THE_SAME else [f"what {search} proposes"]
    why += ["which trials are stopped early"] if stops else []
    return (
        f"{same} give the same network for the same `config.json` of a trial. Run again, the sweep"
        f" may have other trials: {' and '.join(why)} depends on which trial ends first."
    )


def _commands(found: Findings) -> list[str]:
    return [
        shlex.join(["orchestrate", "sweep", str(found.run / "sweep.yaml"), "--name", "AGAIN"]),
        command("ensemble", found.run),
        command("report", found.run),
    ]


def _stores(found: Findings) -> str | None:
    digests = dict(found.evaluation.stores) if found.evaluation is not None else {}
    return " ".join(digests.values()) or found.resolved.get("store")


def _versions(journal: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Of the runs that trained, each version once; before 0.7.0 they were not noted, so that only
    the one that wrote this report is known.
    """
    noted = [event["versions"] for event in journal if isinstance(event.get("versions"), Mapping)]
    names = dict.fromkeys(name for versions in noted for name in versions)
    known = {
        name: ", ".join(dict.fromkeys(str(each[name]) for each in noted if name in each))
        for name in names
    }
    return known or {"orchestrate that wrote this report": __version__}


def _shipped(found: Findings, trials: Sequence[str]) -> list[Block]:
    states = {state.proposal.trial: state for state in found.trials}
    rows = [
        {
            "trial": f"`{trial}`",
            "seed": str(states[trial].proposal.seed),
            "file": name,
            "SHA-256": f"`{digest[:SHORT]}`",
        }
        for trial in dict.fromkeys(trials)
        if trial in states and (result := states[trial].result) is not None
        for name, digest in result.digests.items()
        if name in ("config.json", "deploy.pt")
    ]
    return [Heading("Files of what ships", 3), Table(rows)] if rows else []
