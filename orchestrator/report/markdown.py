"""The report of a sweep: report.md with its tables and figures, made again at any time from the
files of the sweep.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.ensembling.evaluate import Accuracy
from orchestrator.ensembling.results import FinalEvaluation, LevelRow, Row, TestSplit
from orchestrator.record.journal import read_journal
from orchestrator.record.resolved import load_resolved
from orchestrator.record.states import TrialState, load_trials
from orchestrator.report.figures import Point, draw_curves, draw_levels, draw_size_accuracy
from orchestrator.report.level_lines import level_panels
from orchestrator.report.tables import (
    comparison_cells,
    level_cells,
    markdown_table,
    percent,
    result_cells,
    trial_cells,
    write_csv,
)
from orchestrator.report.tradeoffs import non_dominated
from orchestrator.report.verdicts import verdicts, verdicts_of
from orchestrator.sweep.leaves import label
from trainables.contract.artifacts import FUSED, LevelResult, write_atomic

MOST_CURVES = 24  # trials in the figure of training curves
TRIAL_COSTS = (
    "non-zero",
    "deploy params",
    "deploy non-zero",
    "latency ms",
    "batch 64 ms",
    "peak MB",
)
TRIAL_NUMBERS = ("kept epoch", "selection top-1 %", "level", *TRIAL_COSTS, "seconds")
"""What the table of trials says of a finished one."""


def write_report(run: Path) -> Path:
    """Write `run`/report/ (report.md, tables/*.csv, figures/*.png) and return report.md.

    Works before the sweep has ended, too.
    """
    sweep, trials, evaluation = (
        load_resolved(run)["sweep"],
        load_trials(run),
        FinalEvaluation.load(run),
    )
    journal = read_journal(run / "journal.jsonl")
    out = run / "report"
    write_csv(out / "tables" / "trials.csv", [trial_cells(state) for state in trials])
    if evaluation is not None:
        write_csv(out / "tables" / "results.csv", [result_cells(row) for row in evaluation.rows])
        write_csv(
            out / "tables" / "levels.csv",
            [level_cells(row, level) for row in evaluation.rows for level in row.levels],
        )
        write_csv(out / "tables" / "comparisons.csv", comparison_cells(evaluation))
    figures = _draw(run, trials, evaluation, out / "figures")
    parts = [
        f"# Sweep {sweep['name']}",
        _overview(trials, evaluation, journal),
        *_results(evaluation, trials),
        *_absent(trials, evaluation),
        *_warnings(trials),
        *_trials(trials),
        *_tradeoffs(trials, {each["metric"]: each["goal"] for each in sweep.get("objectives", ())}),
        *_levels(trials, evaluation),
        *(
            ["## Figures", *(f"![{title}](figures/{path.name})" for title, path in figures.items())]
            if figures
            else []
        ),
        "## Settings",
        _settings(sweep),
    ]
    write_atomic(out / "report.md", ("\n\n".join(parts) + "\n").encode())
    return out / "report.md"


def _overview(
    trials: Sequence[TrialState],
    evaluation: FinalEvaluation | None,
    journal: Sequence[Mapping[str, Any]],
) -> str:
    """Data, protocol, how many trials, how long, how often the test labels were read."""
    counts = Counter(state.status for state in trials)
    rare = [f"{counts[word]} {word}" for word in ("pruned", "discarded") if counts[word]]
    told = [f"{counts[word]} {word}" for word in ("finished", "failed", "unfinished")]
    restarts = sum(state.restarts for state in trials)
    rare += [f"{restarts} restart{'' if restarts == 1 else 's'}"] if restarts else []
    seconds = sum(state.result.seconds for state in trials if state.result)
    reads = sum(event["event"] == "test_read" for event in journal)
    lines = [_split_line(split) for split in evaluation.splits] if evaluation else []
    lines.append(
        f"- **Trials**: {len(trials)} in {len({state.proposal.cell for state in trials})} cells;"
        f" {', '.join(told + rare)}; {seconds / 60:.1f} minutes of training in total"
    )
    times = [
        float(event["time"]) for event in journal if isinstance(event.get("time"), int | float)
    ]
    if times:
        first, last = (
            datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M:%S")
            for when in (min(times), max(times))
        )
        lines.append(
            f"- **Time**: {first} to {last} UTC, {(max(times) - min(times)) / 60:.1f} minutes,"
            " pauses included"
        )
    lines.append(f"- **Test labels** were read {_times(reads)}")
    return "\n".join(lines)


def _split_line(split: TestSplit) -> str:
    held = split.division.held_out
    protocol = "held out" if held else "paper (nothing held out; last epoch, fixed weights)"
    chosen = (
        f"{split.selection_clips} selection clips ({split.division.selection.kind}), "
        if held
        else ""
    )
    copies = split.test_clips - split.clean_clips
    clean = f", {copies} of them copies of training or selection clips" if copies else ""
    if copies and not split.clean_clips:
        clean += " (there is no accuracy without copies)"
    elif copies and split.clean_classes is not None:
        clean += (
            f" (the other {split.clean_clips} hold {split.clean_classes} of the {split.classes}"
            " classes)"
        )
    return (
        f"- **Data**: {split.dataset} (`{split.division.store}`), protocol"
        f" `{split.division.protocol}`, {split.classes} classes, {chosen}{split.test_clips} test"
        f" clips{clean}\n- **Protocol**: {protocol}"
    )


def _results(evaluation: FinalEvaluation | None, trials: Sequence[TrialState]) -> list[str]:
    """The table of members and ensembles, and what it says of the final ensemble."""
    if evaluation is None or not evaluation.rows:
        return [
            "## Results so far",
            "The final evaluation has not taken place: there are no test figures.",
        ]
    clean = any(row.clean for row in evaluation.rows)
    seeds = any(row.seeds for row in evaluation.rows)
    split = " and ".join(
        "held out" if split.division.held_out else "paper" for split in evaluation.splits
    )
    ensembles = [row for row in evaluation.rows if row.kind == "ensemble"]
    others = [line for row in ensembles[:-1] for line in verdicts_of(row, evaluation)]
    parts = [
        f"## Results (protocol: {split})",
        markdown_table(
            [_result_line(row, evaluation, clean=clean, seeds=seeds) for row in evaluation.rows]
        ),
        _legend(evaluation, clean=clean),
        "## Verdict",
        "\n".join(f"- {line}" for line in verdicts(evaluation)),
    ]
    parts += (
        ["### The other ensembles", "\n".join(f"- {line}" for line in others)] if others else []
    )
    parts += (
        ["## How the ensembles are made", markdown_table([_recipe_line(row) for row in ensembles])]
        if ensembles
        else []
    )
    return parts


def _result_line(
    row: Row, evaluation: FinalEvaluation, *, clean: bool, seeds: bool
) -> dict[str, str]:
    kind = (
        "ensemble" if row.kind == "ensemble" else "dense single network" if row.dense else "member"
    )
    size, found = row.size, evaluation.without_copies(row)
    line = {
        "name": f"`{row.name}`",
        "kind": kind,
        "selection top-1 %": _with_error(row.selection),
        "test top-1 %": _with_error(row.test),
        **({"test-clean top-1 %": _with_error(found)} if clean else {}),
        "test top-5 %": percent(row.test.top5),
        **({"test-clean top-5 %": percent(found.top5) if found else "n/a"} if clean else {}),
        "test mean-class %": percent(row.test.mean_class),
        **(
            {"test-clean mean-class %": percent(found.mean_class) if found else "n/a"}
            if clean
            else {}
        ),
        "params": f"{size.params:,}",
        "non-zero": f"{size.nonzero_params:,}",
        "of dense": f"{row.share_of_dense:.2f} x" if row.share_of_dense is not None else "n/a",
        "deploy params": f"{size.deploy_params:,}",
        "deploy non-zero": f"{size.deploy_nonzero_params:,}",
        "GMACs": f"{size.deploy_gmacs:.4g}",
        "latency ms": f"{size.latency_ms:.2f}",
        "batch 64 ms": _known(size.batch64_latency_ms),
        "peak MB": _known(size.peak_mb),
    }
    if seeds:
        spread = row.seeds
        line["selection over seeds %"] = (
            _spread(spread.selection_mean, spread.selection_std, spread.seeds) if spread else "n/a"
        )
        line["test over seeds %"] = (
            _spread(spread.test_mean, spread.test_std, spread.seeds) if spread else "n/a"
        )
        if clean:
            line["test-clean over seeds %"] = (
                _spread(spread.clean_mean, spread.clean_std, spread.seeds) if spread else "n/a"
            )
    return line


def _known(number: float | None) -> str:
    """A figure that evaluations of an earlier version lack."""
    return "n/a" if number is None else f"{number:.2f}"


def _legend(evaluation: FinalEvaluation, *, clean: bool) -> str:
    """How to read the columns."""
    devices = sorted(
        {
            f"{row.size.latency_device}, {_threads(row.size.latency_threads)}"
            for row in evaluation.rows
        }
    )
    lines = [
        (
            "± is one standard error, sqrt(p (1 - p) / n), of the clips drawn; it says nothing of"
            " other seeds."
        ),
        *([_SEEDS] if any(row.seeds for row in evaluation.rows) else []),
        (
            "Every choice (epoch, trial, weights) was made on the selection figures, which"
            " therefore lean upwards; the test figures do not."
            if all(split.division.held_out for split in evaluation.splits)
            else "Under the paper protocol nothing is held out: no figure but the test's exists."
        ),
        (
            "`params` and `non-zero` are of the training form, `deploy` of the re-parameterised"
            " network that was scored and timed; `of dense` is `non-zero` over the dense network's."
            " An ensemble's sizes, GMACs and latency are the sums over its networks."
        ),
        (
            "`deploy non-zero` can be far above what the level of sparsity suggests:"
            " re-parameterisation adds up parallel branches whose masks have their holes in"
            " different places, and a weight of the sum is zero only where all of its parts are."
        ),
        (
            f"Latency: one clip, or a batch of 64, float32, median ({'; '.join(devices)}), timed at"
            " the end of each trial beside whatever else ran then. `peak MB`: most bytes (1e6) of"
            " activations alive at once, one clip; the largest of an ensemble's networks."
        ),
        *(
            [_SCATTERED]
            if any(row.size.nonzero_params < row.size.params for row in evaluation.rows)
            else []
        ),
    ]
    if clean:
        parts = [
            f"{split.clean_classes} of {split.classes} classes"
            for split in evaluation.splits
            if split.clean_classes is not None
        ]
        held = f", which hold {' and '.join(dict.fromkeys(parts))}" if parts else ""
        lines.append(
            "`test-clean` leaves out the test clips that are exact copies of training or selection"
            f" clips. It is counted on the other clips{held}; its mean-class accuracy is over these"
            " classes alone."
        )
    return "\n".join(f"- {line}" for line in lines)


_SEEDS = (
    "`over seeds`: mean ± standard deviation of the same network, or of the same ensemble of trials"
    " of one seed, over n seeds; every other figure is of the first seed."
)
_SCATTERED = (
    "Zeros that lie scattered over a kernel are multiplied like any other number, on a CPU and on a"
    " GPU: such a network is smaller to store and to send, not faster. Whole channels that are gone"
    " make it faster (`compact ms` in the table of trials), 2:4 zeros may on a GPU."
)


def _recipe_line(row: Row) -> dict[str, str]:
    return {
        "ensemble": f"`{row.name}`",
        "method": f"{row.method} of {row.combine}",
        "weights": ", ".join(f"`{name}` {weight:.3g}" for name, weight in row.weights.items()),
        "missing": ", ".join(row.missing) or "none",
        "left out by its weights": ", ".join(row.left_out) or "none",
    }


def _trials(trials: Sequence[TrialState]) -> list[str]:
    """Every trial in a line, with the parameters that are searched within its cell in columns of
    their own.
    """
    if not trials:
        return []
    searched, compact = _searched(trials), any(_compact_ms(state) for state in trials)
    text = (
        "Every trial of the sweep. Parameters that differ within a cell have columns of their own."
        " Epochs count from 1; `level` is the share of the maskable weights that was"
        f" removed.{_COMPACT if compact else ''}"
    )
    lines = [
        {**_trial_line(state, searched), **({"compact ms": _compact_ms(state)} if compact else {})}
        for state in trials
    ]
    return ["## Trials", text, markdown_table(lines)]


_COMPACT = (
    " `compact ms` is the latency of one clip without the channels that masks made useless."
    " `deploy.pt` holds all of them; `compact(load_deploy(path))` of `trainables.models` leaves"
    " them out."
)


def _compact_ms(state: TrialState) -> str:
    """Empty where a network has hardly a useless channel."""
    found = state.result.cost.compact_latency_ms if state.result else None
    return "" if found is None else f"{found:.2f}"


def _tradeoffs(trials: Sequence[TrialState], goals: Mapping[str, str]) -> list[str]:
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
    return ["## Trade-offs", text, markdown_table(rows)]


def _levels(trials: Sequence[TrialState], evaluation: FinalEvaluation | None) -> list[str]:
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
        " Nested levels share their weights: `non-zero` of all together is less than the sum, while"
        " each has kernels of its own in the deploy form."
    )
    if routed:
        text += (
            " `clips`: how many of the selection clips the gate of a mixture sends to the expert."
        )
    return ["## Levels of multi-level networks", text, markdown_table(lines)] if lines else []


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
        spread = found.seeds if found else None
        line["test top-1 %"] = _with_error(found.test) if found else "n/a"
        line["test over seeds %"] = (
            _spread(spread.test_mean, spread.test_std, spread.seeds) if spread else "n/a"
        )
    return {
        **line,
        "non-zero": f"{level.nonzero_params:,}",
        "deploy non-zero": f"{level.deploy_nonzero_params:,}",
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
            f"{cost.nonzero_params:,}",
            f"{cost.deploy_params:,}",
            f"{cost.deploy_nonzero_params:,}",
            f"{cost.deploy_latency_ms:.2f}",
            f"{cost.deploy_batch64_latency_ms:.2f}",
            f"{cost.deploy_peak_mb:.2f}",
            f"{result.seconds:.0f}",
        )
        numbers = dict(zip(TRIAL_NUMBERS, found, strict=True))
    return {**line, **numbers, "trial": f"`{proposal.trial}`"}


def _absent(trials: Sequence[TrialState], evaluation: FinalEvaluation | None) -> list[str]:
    """Trials that failed, cells without a member, ensembles that could not be built; nothing if all
    is there.
    """
    lines = [
        f"- trial `{state.proposal.trial}` failed: {state.failure}"
        for state in trials
        if state.failure is not None
    ]
    if evaluation is not None:
        lines += [
            f"- cell `{cell}` has no member: {reason}"
            for cell, reason in evaluation.missing.items()
        ]
        lines += [
            f"- ensemble `{name}` was not built: {reason}"
            for name, reason in evaluation.skipped.items()
        ]
    return ["## What is missing", "\n".join(lines)] if lines else []


def _warnings(trials: Sequence[TrialState]) -> list[str]:
    """What the trials' masks ended with that a person should know; nothing where there is nothing
    to say.
    """
    lines = [
        f"- trial `{state.proposal.trial}`: {text}"
        for state in trials
        if state.result
        for text in state.result.warnings
    ]
    return (
        ["## Warnings", "Of the masks that trials ended with.", "\n".join(lines)] if lines else []
    )


def _draw(
    run: Path, trials: Sequence[TrialState], evaluation: FinalEvaluation | None, out: Path
) -> dict[str, Path]:
    """Title -> figure."""
    figures: dict[str, Path] = {}
    if evaluation is not None and evaluation.rows:
        points = [
            Point(
                row.name,
                "dense" if row.dense else row.kind,
                row.size.nonzero_params,
                row.test.top1,
                row.test.top1_error,
            )
            for row in evaluation.rows
        ]
        figures["Test accuracy against non-zero parameters"] = draw_size_accuracy(
            points, "test", out / "size_accuracy.png"
        )
        panels, over_seeds = level_panels(evaluation.rows, trials)
        if panels:
            bars = "standard deviation over seeds" if over_seeds else "one standard error"
            figures["Test accuracy by level"] = draw_levels(
                panels, "top-1 on test", bars, out / "levels.png"
            )
    chosen = (
        {trial for row in evaluation.rows for trial in row.trials}
        if evaluation
        else {state.proposal.trial for state in trials}
    )
    folders = [state.proposal.folder(run) for state in trials if state.proposal.trial in chosen]
    tables = {
        folder.path.name: folder.metrics_file for folder in folders if folder.metrics_file.is_file()
    }
    if tables:
        shown = dict(list(tables.items())[:MOST_CURVES])
        title = (
            "Training curves"
            if len(shown) == len(tables)
            else f"Training curves of the first {MOST_CURVES} of {len(tables)} members"
        )
        figures[title] = draw_curves(shown, out / "curves.png")
    return figures


def _settings(sweep: Mapping[str, Any]) -> str:
    """The sweep as it was expanded, one leaf per line."""
    # what all trials share
    leaves = {
        key: value
        for key, value in _flatten(sweep).items()
        if key not in sweep.get("parameters", {})
    }
    return "\n".join(
        ["```", *(f"{key}: {json.dumps(value)}" for key, value in leaves.items()), "```"]
    )


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    return {
        path: leaf
        for key, each in value.items()
        for path, leaf in _flatten(each, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def _spread(mean: float | None, std: float | None, seeds: int) -> str:
    return "n/a" if mean is None or std is None else f"{percent(mean)} ± {percent(std)} (n={seeds})"


def _with_error(found: Accuracy | None) -> str:
    return "n/a" if found is None else f"{percent(found.top1)} ± {percent(found.top1_error)}"


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _times(count: int) -> str:
    return {0: "not at all", 1: "once"}.get(count, f"{count} times")
