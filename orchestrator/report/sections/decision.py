"""The answer: which ensemble and which single network to ship, what they cost, how sure that is,
against what, and the commands that take them home.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orchestrator.ensembling.evaluate import Paired, paired
from orchestrator.ensembling.members import dense_counterparts
from orchestrator.ensembling.results import FinalEvaluation, Row
from orchestrator.record.commands import STORAGE
from orchestrator.record.copies import storage_of
from orchestrator.report.content import Block, Heading, Listing, Table
from orchestrator.report.findings import Findings, bytes_by_trial
from orchestrator.report.sections.words import NONE, timed, with_error
from orchestrator.report.tables import percent, span
from orchestrator.report.verdicts import OWNERS, decided_by, judgement


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing to ship, in words."""

    title: str
    row: Row
    accuracy: str  # on test, in per cent with its standard error
    interval: str  # of 95 %, in per cent; empty where there is none
    costs: dict[str, str]
    sure: list[str]
    against: list[str]
    commands: list[str]


def candidates(found: Findings) -> list[Candidate]:
    """The ensemble that ships and the best single network; nothing before the final evaluation."""
    evaluation = found.evaluation
    if evaluation is None:
        return []
    ensembles = [row for row in evaluation.rows if row.kind == "ensemble"]
    single = best_network(evaluation)
    chosen = [("Ensemble", row) for row in ensembles[-1:]]
    chosen += [("Single network", single)] if single is not None else []
    return [_candidate(title, row, found, evaluation) for title, row in chosen]


def best_network(evaluation: FinalEvaluation) -> Row | None:
    """The single network of highest accuracy on the selection clips (on test where nothing was held
    out, as everything is chosen there); of equal ones that of fewest weights that are not zero. It
    is of the same clips as the headline: accuracies on others do not compare.
    """
    return max(
        _networks(evaluation),
        key=lambda row: ((row.selection or row.test).top1, -row.size.deploy_nonzero_params),
        default=None,
    )


def _networks(evaluation: FinalEvaluation) -> list[Row]:
    """Those that one is chosen from."""
    headline = evaluation.headline
    return [
        row
        for row in evaluation.rows
        if row.kind == "member" and headline is not None and row.division == headline.division
    ]


def decision(chosen: Sequence[Candidate]) -> list[Block]:
    """The same as a table and commands, for forms without cards."""
    if not chosen:
        return []
    known = any(each.interval for each in chosen)
    names = list(dict.fromkeys(name for each in chosen for name in each.costs))
    rows = [
        {
            "ship": f"{each.title.lower()} `{each.row.name}`",
            "test %": each.accuracy,
            **({"95 % interval": each.interval or NONE} if known else {}),
            **{name: each.costs.get(name, "") for name in names},
        }
        for each in chosen
    ]
    return [
        Heading("What to ship"),
        Table(rows),
        Listing([line for each in chosen for line in each.commands]),
    ]


def _candidate(title: str, row: Row, found: Findings, evaluation: FinalEvaluation) -> Candidate:
    interval = row.test.interval or (row.bootstrap.clips if row.bootstrap else None)
    against = _against(row, evaluation)
    if row.kind == "member":
        against = _against_dense(row, found, evaluation)
    return Candidate(
        title=title,
        row=row,
        accuracy=with_error(row.test),
        interval=span(interval) if interval else "",
        costs=_costs(row, found, evaluation),
        sure=_sure(row, evaluation),
        against=against,
        commands=_commands(row, found.run),
    )


def _costs(row: Row, found: Findings, evaluation: FinalEvaluation) -> dict[str, str]:
    """What it needs to run; costs that are not known are left out."""
    size, sizes = row.size, bytes_by_trial(found.trials)
    shipped = sum(sizes[trial] for trial in row.trials) if sizes.keys() >= {*row.trials} else None
    dense = _dense_size(row, evaluation)
    costs = {
        "networks": str(len(row.trials)),
        "non-zero": f"{size.deploy_nonzero_params:,}",
        "of its dense size": f"{size.deploy_nonzero_params / dense:.2f} x" if dense else "",
        "GMACs": f"{size.deploy_gmacs:.3g}",
        "latency ms": timed(size.latency_ms),
        "sparse ms": timed(size.sparse_latency_ms) if size.sparse_pays else "",
        "MB": "" if shipped is None else f"{shipped / 1e6:.3g}",
    }
    return {name: text for name, text in costs.items() if text}


def _dense_size(row: Row, evaluation: FinalEvaluation) -> int:
    """How many weights ship that are not zero where the network is dense: of the largest of its
    kind. Without one, all weights of the row's own masked networks; 0 where it is not known.
    """
    dense = dense_counterparts(row.axes, row.division, evaluation.rows)
    if dense:
        return max(each.size.deploy_nonzero_params for each in dense)
    if row.share_of_dense is None:  # of several levels: what they ship says nothing of it
        return 0
    own = [
        each.size.deploy_params
        for each in evaluation.rows
        if each.kind == "member" and not each.levels and set(each.trials) <= set(row.trials)
    ]
    return max(own, default=0)


def _sure(row: Row, evaluation: FinalEvaluation) -> list[str]:
    """Standard error, copies, people, seeds and luck, a sentence each."""
    lines = [
        f"Standard error {percent(row.test.top1_error)} points over {row.test.clips:,} test clips."
    ]
    clean = evaluation.without_copies(row)
    if clean is None:
        lines.append("Every test clip is a copy of a training or selection clip.")
    elif clean.clips < row.test.clips:
        lines.append(
            f"Without the {row.test.clips - clean.clips:,} copies of training or selection clips:"
            f" {with_error(clean)} % of {clean.clips:,} clips."
        )
    subjects = row.bootstrap.subjects if row.bootstrap else None
    if subjects is not None and row.bootstrap is not None:
        lines.append(
            f"{span(subjects)} % (95 %) if other people performed:"
            f" {row.bootstrap.subject_count} are tested."
        )
    if row.seeds is not None:
        lines.append(
            f"{percent(row.seeds.test_mean)} ± {percent(row.seeds.test_std)} % over"
            f" {row.seeds.seeds} seeds."
        )
    else:
        lines.append("One seed: how much another seed differs is not known.")
    return [*lines, *_luck(row, evaluation)]


def _luck(row: Row, evaluation: FinalEvaluation) -> list[str]:
    """What choosing adds to its selection accuracy, as far as the choice was made again."""
    networks = len(_networks(evaluation)) if row.kind == "member" else 1
    best = f"the best of {networks} networks"
    if row.luck is None:
        return [f"It is {best}; how much of that is luck is not known."] if networks > 1 else []
    cell = " in its cell" if networks > 1 else ""
    text = (
        f"Chosen from {row.luck.contenders}{cell}: its selection accuracy of"
        f" {percent(row.luck.naive)} % has {100 * row.luck.bias:.2f} points of luck in it"
    )
    if networks > 1:
        text += f", and more that is not counted, as it is {best}"
    return [f"{text}."]


def _against(row: Row, evaluation: FinalEvaluation) -> list[str]:
    """The ensemble against its best member and the dense network, a sentence each."""
    rows, lines = {each.name: each for each in evaluation.rows}, list[str]()
    own = [each for each in evaluation.comparisons if each.ensemble == row.name]
    for role in dict.fromkeys(each.role for each in own):
        found = next(each for each in own if each.role == role)
        interval = found.bootstrap.clips if found.bootstrap else None
        lines.append(_sentence(OWNERS[role], rows[found.against], found.test, interval))
    return lines


def _against_dense(row: Row, found: Findings, evaluation: FinalEvaluation) -> list[str]:
    """The network against the best dense one, on what the final evaluation noted of every clip."""
    dense = [each for each in evaluation.rows if each.dense and each.division == row.division]
    predictions = found.predictions.get(row.division)
    if row.dense:
        return ["It is a dense network itself."]
    if not dense:
        return ["The sweep has no dense network to hold it against."]
    best = max(dense, key=lambda each: (each.selection or each.test).top1)
    if predictions is None or not {row.name, best.name} <= predictions.firsts.keys():
        return []
    hits = [
        np.asarray(predictions.firsts[name] == predictions.labels) for name in (row.name, best.name)
    ]
    return [_sentence(OWNERS["dense network"], best, paired(*hits), None)]


def _sentence(owner: str, other: Row, test: Paired, interval: tuple[float, float] | None) -> str:
    if interval is None or not all(map(math.isfinite, interval)):
        sure = f"± {100 * test.error:.2f}"
    else:
        sure = f"({100 * interval[0]:+.2f} to {100 * interval[1]:+.2f})"
    return (
        f"{100 * test.difference:+.2f} {sure} points against {owner} `{other.name}`"
        f" ({percent(other.test.top1)} %): **{judgement(test)}**{decided_by(test)}."
    )


def _commands(row: Row, run: Path) -> list[str]:
    part = row.name if row.kind == "ensemble" else row.trials[0]
    where = [] if run.parent == STORAGE else ["--storage", storage_of(run)]
    model = f"{run.name}/{part}"
    return [
        shlex.join(["orchestrate", "predict", model, "CLIPS", *where]),
        shlex.join(["orchestrate", "export", model, f"{part}.onnx", "--format", "onnx", *where]),
    ]
