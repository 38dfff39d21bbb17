"""The figures of a report as files: which are drawn of a sweep, and under which titles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from orchestrator.ensembling.results import FinalEvaluation, Row
from orchestrator.ensembling.statistics.calibration import Calibration
from orchestrator.record.states import TrialState
from orchestrator.report.figures import (
    draw_confusion,
    draw_curves,
    draw_levels,
    draw_size_accuracy,
)
from orchestrator.report.findings import Findings
from orchestrator.report.level_lines import level_panels
from orchestrator.report.point_names import Point
from orchestrator.report.reliability import draw_reliability
from trainables.contract.artifacts import TrialDir

MOST_PANELS = 3  # in the figure of reliability
MOST_CURVES = 24  # trials in the figure of training curves


def draw_all(found: Findings, out: Path) -> dict[str, Path]:
    """Title -> figure."""
    evaluation = found.evaluation
    figures = _draw(found.run, found.trials, evaluation, out)
    headline = evaluation.headline if evaluation is not None else None
    if evaluation is None or headline is None:
        return figures
    if panels := _calibrations(evaluation, headline):
        figures["Reliability on the test clips"] = draw_reliability(panels, out / "reliability.png")
    predictions = found.predictions.get(headline.division)
    if predictions is not None:
        figures[f"Confusion of {headline.name} on the test clips"] = draw_confusion(
            predictions.confusion(headline.name),
            f"{headline.name}, test split",
            out / "confusion.png",
            predictions.classes,
        )
    return figures


def _calibrations(evaluation: FinalEvaluation, headline: Row) -> dict[str, Calibration]:
    """Of the headline and the networks it is held against, up to `MOST_PANELS` of them."""
    rows = {row.name: row for row in evaluation.rows}
    against = [each.against for each in evaluation.comparisons if each.ensemble == headline.name]
    names = dict.fromkeys([headline.name, *against])
    found = {name: sure for name in names if (sure := rows[name].calibration) is not None}
    return dict(list(found.items())[:MOST_PANELS])


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
                row.size.deploy_nonzero_params,
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
    return figures | _curves(run, trials, evaluation, out)


def _curves(
    run: Path, trials: Sequence[TrialState], evaluation: FinalEvaluation | None, out: Path
) -> dict[str, Path]:
    """The curves of what was evaluated, of every trial before that; what is drawn -> figure."""
    names = {trial for row in evaluation.rows for trial in row.trials} if evaluation else None
    found = [
        state
        for state in trials
        if (names is None or state.proposal.trial in names)
        and state.proposal.folder(run).metrics_file.is_file()
    ]
    shown = found[:MOST_CURVES]
    if not shown:
        return {}
    counts = Counter(_line_name(state, shown) for state in shown)
    tables, warmups = {}, set()
    for state in shown:
        folder, name = state.proposal.folder(run), _line_name(state, shown)
        tables[name if counts[name] == 1 else state.proposal.trial] = folder.metrics_file
        warmups.add(_masks_final(folder))
    title = f"Training curves of {len(shown)} of {len(trials)} trials"
    if names is not None:
        title += ", those whose figures stand in the tables"
        title += "" if len(shown) == len(found) else f" (the first of {len(found)})"
    warmups -= {0}
    if warmups:
        title += "; from the dotted line on the masks are final"
    return {title: draw_curves(tables, out / "curves.png", sorted(warmups))}


def _masks_final(folder: TrialDir) -> int:
    """The epoch from which the trial's masks are final; 0 where its configuration is damaged."""
    try:
        return folder.load_config().first_kept_epoch
    except (OSError, ValueError):
        return 0


def _line_name(state: TrialState, shown: Sequence[TrialState]) -> str:
    """The cell, and the seed where several are shown."""
    seeds = {each.proposal.seed for each in shown if each.proposal.cell == state.proposal.cell}
    seed = f", seed {state.proposal.seed}" if len(seeds) > 1 else ""
    return f"{state.proposal.cell}{seed}"
