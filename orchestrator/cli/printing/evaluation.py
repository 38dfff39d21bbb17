"""What `sweep` and `ensemble` print: tables on standard output.

Knows how to print, not how to run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.printing.tables import console, table

if TYPE_CHECKING:
    from orchestrator.ensembling.evaluate import Accuracy
    from orchestrator.ensembling.readers import FilesEvaluation
    from orchestrator.ensembling.results import FinalEvaluation, SeedSpread

PLAIN = str.maketrans("", "", "`*")
"""Takes Markdown's marks out of a sentence."""


def print_evaluation(evaluation: FinalEvaluation) -> None:
    """Members and ensembles with their accuracies and sizes, then the verdicts."""
    from orchestrator.report.verdicts import verdicts

    clean = any(row.clean is not None for row in evaluation.rows)
    seeds = max((row.seeds.seeds for row in evaluation.rows if row.seeds), default=0)
    spreads = (f"test, {seeds} seeds",) if seeds else ()
    accuracies = ("selection", "test", *(("test clean",) if clean else ()), *spreads)
    columns = (
        *accuracies,
        "non-zero params",
        "deploy non-zero",
        "latency ms",
        "batch 64 ms",
        "peak MB",
    )
    rows = table("network or ensemble", *columns, title="Final scores: top-1 in % ± standard error")
    for row in evaluation.rows:
        cells = [
            _percent(row.selection),
            _percent(row.test),
            *([_percent(evaluation.without_copies(row))] if clean else []),
        ]
        cells += [_over_seeds(row.seeds) for _ in spreads]
        sizes = [f"{row.size.nonzero_params:,}", f"{row.size.deploy_nonzero_params:,}"]
        costs = [row.size.latency_ms, row.size.batch64_latency_ms, row.size.peak_mb]
        rows.add_row(
            row.name, *cells, *sizes, *("" if cost is None else f"{cost:.2f}" for cost in costs)
        )
    out = console()
    out.print(rows)
    if seeds:
        out.print(
            "seeds: mean ± standard deviation over the seeds; the other figures are of the"
            " first one",
            markup=False,
            soft_wrap=True,
        )
    for text in verdicts(evaluation):
        out.print(text.translate(PLAIN), soft_wrap=True)


def print_files_evaluation(found: FilesEvaluation) -> None:
    """Accuracies of score files and of their ensemble, and how the files were understood."""
    rows = table(
        "scores",
        "weight",
        "top-1 %",
        "top-5 %",
        "mean class %",
        title=f"{found.ensemble.clips} clips, aligned {found.aligned}",
    )
    entries = [
        (name, f"{found.weights[name]:g}", accuracy) for name, accuracy in found.members.items()
    ]
    for name, weight, accuracy in [*entries, (f"ensemble ({found.combine})", "", found.ensemble)]:
        rows.add_row(
            name,
            weight,
            _percent(accuracy),
            f"{100 * accuracy.top5:.2f}",
            f"{100 * accuracy.mean_class:.2f}",
        )
    out = console()
    out.print(rows)
    gain = found.against_best
    out.print(
        f"ensemble - {found.best}: {100 * gain.difference:+.2f} ± {100 * gain.error:.2f} points"
        f" (sign test p = {gain.p_value:.2g})",
        markup=False,
    )
    for text in found.notes:
        out.print(f"note: {text}", soft_wrap=True)


def print_report(report: Path, next_step: str) -> None:
    """Where the report is, and what to do next."""
    out = console()
    out.print(f"report  {report}", soft_wrap=True)
    out.print(f"next    {next_step}", soft_wrap=True)


def _over_seeds(found: SeedSpread | None) -> str:
    return "" if found is None else f"{100 * found.test_mean:.2f} ± {100 * found.test_std:.2f}"


def _percent(found: Accuracy | None) -> str:
    return "" if found is None else f"{100 * found.top1:.2f} ± {100 * found.top1_error:.2f}"
