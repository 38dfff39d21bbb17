"""The report of a sweep: report.md with its tables and figures, made again at any time from the
files of the sweep.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from orchestrator.ensembling.classes import Predictions
from orchestrator.ensembling.members import Division
from orchestrator.ensembling.results import FinalEvaluation, Row
from orchestrator.ensembling.statistics.calibration import Calibration
from orchestrator.record.journal import read_journal
from orchestrator.record.resolved import load_resolved
from orchestrator.record.states import TrialState, load_trials
from orchestrator.report.figures import (
    draw_confusion,
    draw_curves,
    draw_levels,
    draw_size_accuracy,
)
from orchestrator.report.level_lines import level_panels
from orchestrator.report.point_names import Point
from orchestrator.report.reliability import draw_reliability
from orchestrator.report.sections.classes import (
    change_cells,
    class_cells,
    classes,
    confusion_cells,
    misclassified_cells,
)
from orchestrator.report.sections.doubt import doubt, first_tried_cells
from orchestrator.report.sections.forecast import forecast, resources
from orchestrator.report.sections.fronts import draw_fronts, front_cells, fronts
from orchestrator.report.sections.overview import overview, settings
from orchestrator.report.sections.papers import paper_cells, papers, tables_of_papers
from orchestrator.report.sections.results import answer, foremost, results
from orchestrator.report.sections.trials import absent, levels, tradeoffs, trial_table, warnings
from orchestrator.report.tables import (
    comparison_cells,
    level_cells,
    result_cells,
    trial_cells,
    write_csv,
)
from orchestrator.report.violins import (
    THRESHOLD,
    draw_violins,
    violin_cells,
    violin_section,
    violins,
)
from trainables.contract.artifacts import TrialDir, TrialResult
from trainables.contract.config import TrialConfig
from trainables.contract.disk import write_atomic

MOST_PANELS = 3  # in the figure of reliability
MOST_CURVES = 24  # trials in the figure of training curves


def write_report(run: Path, confidence: float = THRESHOLD, *, paper_style: bool = False) -> Path:
    """Write `run`/report/ (report.md, tables/*.csv, figures/*.png) and return report.md.

    Works before the sweep has ended, too. confidence: the probability below which clips are in the
    second row of the violins. paper_style: say what choosing on the test clips has given, where
    that was asked for.
    """
    sweep, trials = load_resolved(run)["sweep"], load_trials(run)
    evaluation, journal = FinalEvaluation.load(run), read_journal(run / "journal.jsonl")
    if evaluation is not None and not paper_style:
        evaluation = evaluation.model_copy(update={"paper_style": ()})
    out = run / "report"
    predictions = _predictions(run, evaluation)
    _write_tables(out / "tables", trials, evaluation, list(predictions.values()))
    figures = _draw(run, trials, evaluation, out / "figures")
    sureness = violins(run, evaluation, confidence)
    if sureness:
        write_csv(out / "tables" / "violins.csv", [violin_cells(each) for each in sureness])
    published = tables_of_papers(evaluation, *_evaluated(run, trials, evaluation), predictions)
    if published:
        write_csv(out / "tables" / "papers.csv", paper_cells(published))
    headline = evaluation.headline if evaluation is not None else None
    by_class: list[str] = []
    if evaluation is not None and headline is not None:
        if panels := _calibrations(evaluation, headline):
            figures["Reliability on the test clips"] = draw_reliability(
                panels, out / "figures" / "reliability.png"
            )
        found = predictions.get(headline.division)
        by_class = classes(headline, evaluation, found)
        if found is not None:
            figures[f"Confusion of {headline.name} on the test clips"] = draw_confusion(
                found.confusion(headline.name),
                f"{headline.name}, test split",
                out / "figures" / "confusion.png",
                found.classes,
            )
    goals = {each["metric"]: each["goal"] for each in sweep.get("objectives", ())}
    parts = [
        f"# Sweep {sweep['name']}",
        *answer(evaluation),
        "## The sweep",
        overview(trials, evaluation, journal),
        *absent(trials, evaluation),
        *warnings(trials),
        *(["## Figures"] if figures else []),
        *(f"![{title}](figures/{path.name})\\\n*{title}.*" for title, path in figures.items()),
        *by_class,
        *violin_section(sureness, draw_violins(sureness, out / "figures" / "violins.png")),
        *results(evaluation),
        *doubt(evaluation, foremost(evaluation) if evaluation else ()),
        *papers(published),
        *fronts(evaluation, draw_fronts(evaluation, out / "figures")),
        *tradeoffs(trials, goals),
        *levels(trials, evaluation),
        *trial_table(trials),
        *forecast(run, trials, journal),
        *resources(journal),
        "## Settings",
        settings(sweep),
    ]
    write_atomic(out / "report.md", ("\n\n".join(parts) + "\n").encode())
    return out / "report.md"


def _evaluated(
    run: Path, trials: Sequence[TrialState], evaluation: FinalEvaluation | None
) -> tuple[dict[str, TrialConfig], dict[str, TrialResult]]:
    """Configuration and result of each trial that was evaluated."""
    rows = evaluation.rows if evaluation is not None else ()
    names = {trial for row in rows for trial in row.trials}
    found = [state for state in trials if state.proposal.trial in names]
    return (
        {state.proposal.trial: state.proposal.folder(run).load_config() for state in found},
        {state.proposal.trial: state.result for state in found if state.result is not None},
    )


def _predictions(run: Path, evaluation: FinalEvaluation | None) -> dict[Division, Predictions]:
    """What all rows say of each test clip, by division; nothing in evaluations of version 4."""
    firsts = {row.division: row for row in reversed(evaluation.rows)} if evaluation else {}
    return {
        division: found
        for division, row in firsts.items()
        if evaluation is not None and (found := evaluation.predictions(run, row)) is not None
    }


def _calibrations(evaluation: FinalEvaluation, headline: Row) -> dict[str, Calibration]:
    """Of the headline and the networks it is held against, up to `MOST_PANELS` of them."""
    rows = {row.name: row for row in evaluation.rows}
    against = [each.against for each in evaluation.comparisons if each.ensemble == headline.name]
    names = dict.fromkeys([headline.name, *against])
    found = {name: sure for name in names if (sure := rows[name].calibration) is not None}
    return dict(list(found.items())[:MOST_PANELS])


def _write_tables(
    out: Path,
    trials: Sequence[TrialState],
    evaluation: FinalEvaluation | None,
    predictions: Sequence[Predictions],
) -> None:
    write_csv(out / "trials.csv", [trial_cells(state) for state in trials])
    if evaluation is None:
        return
    write_csv(out / "results.csv", [result_cells(row) for row in evaluation.rows])
    rows = [level_cells(row, level) for row in evaluation.rows for level in row.levels]
    write_csv(out / "levels.csv", rows)
    write_csv(out / "comparisons.csv", comparison_cells(evaluation))
    if evaluation.fronts:
        write_csv(out / "fronts.csv", [front_cells(point) for point in evaluation.fronts])
    if evaluation.first_tried:
        write_csv(out / "first_tried.csv", first_tried_cells(evaluation))
    if predictions:
        write_csv(out / "per_class.csv", class_cells(predictions))
        write_csv(out / "class_changes.csv", change_cells(predictions, evaluation))
        write_csv(out / "confusion.csv", confusion_cells(predictions))
        write_csv(out / "misclassified.csv", misclassified_cells(predictions))


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
