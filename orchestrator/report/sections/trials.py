"""Every trial in a line, the trade-offs among them, the levels of networks of several levels, and
what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.ensembling.results import FinalEvaluation, LevelRow, Row
from orchestrator.record.states import TrialState
from orchestrator.report.content import Block, Bullets, Heading, Table
from orchestrator.report.sections.words import over_seeds, timed, with_error
from orchestrator.report.tables import milliseconds, percent
from orchestrator.report.tradeoffs import non_dominated
from orchestrator.sweep.leaves import label
from trainables.contract.artifacts import FUSED, LevelResult

TRIAL_COSTS = (
    "deploy params",
    "deploy non-zero",
    "latency ms",
    "batch 64 ms",
    "peak MB",
    "training non-zero",
)


TRIAL_NUMBERS = ("kept epoch", "selection top-1 %", "level", *TRIAL_COSTS, "seconds")


def trial_table(trials: Sequence[TrialState]) -> list[Block]:
    """Every trial in a line, with the parameters that are searched within its cell in columns of
    their own.
    """
    if not trials:
        return []
    searched, compact = _searched(trials), any(_compact_ms(state) for state in trials)
    sparse = any(_sparse_ms(state) for state in trials)
    text = (
        "Every trial of the sweep. Parameters that differ within a cell have columns of their own."
        " Epochs count from 1; `level` is the share of the maskable weights that was"
        f" removed.{_COMPACT if compact else ''}"
        f"{_SPARSE if sparse else ''}{_noise_of_timing(trials)}"
    )
    lines = [
        {
            **_trial_line(state, searched),
            **({"compact ms": _compact_ms(state)} if compact else {}),
            **({"sparse ms": _sparse_ms(state)} if sparse else {}),
        }
        for state in trials
    ]
    few = ("cell", *searched[:4], "status", "selection top-1 %", "deploy non-zero", "latency ms")
    return [Heading("Trials"), text, Table(lines, few=few)]


_SPARSE = (
    " `sparse ms` is the latency of one clip on the kept weights alone, on a CPU;"
    " `run_sparse(load_deploy(path))` of `trainables.deploy.sparse.runtime` runs a network so."
)
_COMPACT = (
    " `compact ms` is the latency of one clip without the channels that masks made useless."
    " `deploy.pt` holds all of them; `compact(load_deploy(path))` of `trainables.models` leaves"
    " them out."
)


def _noise_of_timing(trials: Sequence[TrialState]) -> str:
    """How far the latencies of one structure lie apart, of the structure where that is most; empty
    where none was timed twice.
    """
    alike: dict[tuple[int, float], list[float]] = {}
    for state in trials:
        cost = state.result.cost if state.result else None
        if cost is not None and cost.deploy_latency_ms:
            structure = (cost.deploy_params, cost.deploy_gmacs)
            alike.setdefault(structure, []).append(cost.deploy_latency_ms)
    spread = max(alike.values(), key=lambda each: max(each) / min(each), default=[])
    if len(set(spread)) < 2:
        return ""
    return (
        f" Networks of one structure, which compute the same whatever their zeros, took"
        f" {milliseconds(min(spread))} to {milliseconds(max(spread))} ms: a difference in latency"
        " within this range is noise of the machine."
    )


def _compact_ms(state: TrialState) -> str:
    """Empty where a network has hardly a useless channel."""
    found = state.result.cost.compact_latency_ms if state.result else None
    return "" if found is None else milliseconds(found)


def _sparse_ms(state: TrialState) -> str:
    """Empty where a network runs as fast densely."""
    cost = state.result.cost if state.result else None
    if cost is None or cost.sparse_latency_ms in (None, cost.deploy_latency_ms):
        return ""
    return timed(cost.sparse_latency_ms)


def tradeoffs(trials: Sequence[TrialState], goals: Mapping[str, str]) -> list[Block]:
    """The assignments among which a person chooses, where the sweep has several objectives and a
    cell several assignments.
    """
    found = non_dominated(trials, goals) if len(goals) > 1 else []
    if not found:
        return []
    searched = _searched(trials)
    objectives = ", ".join(f"{goal} {name}" for name, goal in goals.items())
    text = (
        "Of each cell, the trials that no other equals in every objective and beats in one"
        f" ({objectives})."
    )
    rows = [
        {
            "cell": f"`{each.trial.proposal.cell}`",
            **{name: _value(each.trial, name) for name in searched},
            **{
                name: f"{value:,.4f}".rstrip("0").rstrip(".") for name, value in each.values.items()
            },
            "trial": f"`{each.trial.proposal.trial}`",
        }
        for each in found
    ]
    return [Heading("Trade-offs"), text, Table(rows)]


def levels(trials: Sequence[TrialState], evaluation: FinalEvaluation | None) -> list[Block]:
    """Every level of the networks of several levels, of members once there are some, and all levels
    together; nothing where there are none.
    """
    rows = {
        row.trials[0]: row
        for row in (evaluation.rows if evaluation else ())
        if row.kind == "member"
    }
    shown = [state for state in trials if not rows or state.proposal.trial in rows]
    levels = [(state, level) for state in shown if state.result for level in state.result.levels]
    routed = any(level.clip_share is not None for _, level in levels)
    lines = [
        _level_line(state.proposal.trial, level, rows.get(state.proposal.trial))
        | (
            {"clips %": "" if level.clip_share is None else percent(level.clip_share)}
            if routed
            else {}
        )
        for state, level in levels
    ]
    text = (
        "Each level by itself and all of them together (fused), which is what a trial is scored by."
        " Nested levels share their weights: `training non-zero` of all together is less than the"
        " sum, while each has kernels of its own in the deploy form."
    )
    if routed:
        text += (
            " `clips`: how many of the selection clips the gate of a mixture sends to the expert."
        )
    return [Heading("Levels of multi-level networks"), text, Table(lines)] if lines else []


def _level_line(trial: str, level: LevelResult, row: Row | None) -> dict[str, str]:
    """row: of the member that the trial is; None before the final evaluation."""
    known = {each.level: each for each in row.levels} if row else {}
    found: Row | LevelRow | None = row if level.level == FUSED else known.get(level.level)
    line = {
        "trial": f"`{trial}`",
        "level": level.level,
        "selection top-1 %": (
            "n/a" if level.selection_top1 is None else percent(level.selection_top1)
        ),
    }
    if row is not None:
        line["test top-1 %"] = with_error(found.test) if found else "n/a"
        line["test over seeds %"] = over_seeds(found.seeds if found else None, "test")
    return {
        **line,
        "deploy non-zero": f"{level.deploy_nonzero_params:,}",
        "training non-zero": f"{level.nonzero_params:,}",
    }


def _searched(trials: Sequence[TrialState]) -> list[str]:
    """The assigned parameters that tell trials of one cell
    apart, in the order of the sweep file.
    """
    values: dict[tuple[str, str], set[str]] = {}
    names = list(dict.fromkeys(name for state in trials for name in state.proposal.assignment))
    for state in trials:
        for name in names:
            values.setdefault((name, state.proposal.cell), set()).add(_value(state, name))
    return [
        name
        for name in names
        if any(len(found) > 1 for (other, _), found in values.items() if other == name)
    ]


def _value(state: TrialState, name: str) -> str:
    """An assigned value in words; empty where the parameter has no effect beside the others."""
    return label(state.proposal.assignment[name]) if name in state.proposal.assignment else ""


def _trial_line(state: TrialState, searched: Sequence[str]) -> dict[str, str]:
    proposal, result = state.proposal, state.result
    line = {
        "cell": f"`{proposal.cell}`",
        **{name: _value(state, name) for name in searched},
        "seed": str(proposal.seed),
        "status": state.described,
    }
    if result is None:
        numbers = dict.fromkeys(TRIAL_NUMBERS, "")
    else:
        top1, cost = result.selection_top1, result.cost
        found = (
            f"{result.kept_epoch + 1}/{result.epochs}",
            "n/a" if top1 is None else percent(top1),
            label(round(cost.removed_params / cost.maskable_params, 4)),
            f"{cost.deploy_params:,}",
            f"{cost.deploy_nonzero_params:,}",
            timed(cost.deploy_latency_ms),
            timed(cost.deploy_batch64_latency_ms),
            f"{cost.deploy_peak_mb:.2f}",
            f"{cost.nonzero_params:,}",
            f"{result.seconds:.0f}",
        )
        numbers = dict(zip(TRIAL_NUMBERS, found, strict=True))
    return {**line, **numbers, "trial": f"`{proposal.trial}`"}


def absent(trials: Sequence[TrialState], evaluation: FinalEvaluation | None) -> list[Block]:
    """Trials that failed, cells without a member, ensembles that could not be built; nothing if all
    is there.
    """
    lines = [
        f"trial `{state.proposal.trial}` failed: {state.failure}"
        for state in trials
        if state.failure is not None
    ]
    lines += _fewer_seeds(trials)
    if evaluation is not None:
        lines += [
            f"cell `{cell}` has no member: {reason}" for cell, reason in evaluation.missing.items()
        ]
        lines += [
            f"ensemble `{name}` was not built: {reason}"
            for name, reason in evaluation.skipped.items()
        ]
    return [Heading("What is missing"), Bullets(lines)] if lines else []


def _fewer_seeds(trials: Sequence[TrialState]) -> list[str]:
    """Assignments that took no part in a cell's choice, as fewer of their seeds have finished."""
    cells: dict[str, dict[str, list[TrialState]]] = {}
    for state in trials:
        assignments = cells.setdefault(state.proposal.cell, {})
        assignments.setdefault(repr(sorted(state.proposal.assignment.items())), []).append(state)
    lines: list[str] = []
    for cell, assignments in cells.items():
        done = [sum(state.result is not None for state in each) for each in assignments.values()]
        for states, count in zip(assignments.values(), done, strict=True):
            if 0 < count < max(done):
                values = ", ".join(
                    f"{k} {label(v)}" for k, v in states[0].proposal.assignment.items()
                )
                lines.append(
                    f"cell `{cell}`: {values or 'an assignment'} took no part in the choice,"
                    f" {count} of its {len(states)} seeds have finished, of another one {max(done)}"
                )
    return lines


def warnings(trials: Sequence[TrialState]) -> list[Block]:
    """What a person should know of the trials: of their masks, of memory that did not suffice;
    nothing where there is nothing to say.
    """
    lines = [
        f"trial `{state.proposal.trial}`: {text}"
        for state in trials
        if state.result
        for text in state.result.warnings
    ]
    return [Heading("Warnings"), Bullets(lines)] if lines else []
