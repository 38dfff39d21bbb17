"""What `sweep` and `ensemble` print: tables on standard output.

Knows how to print, not how to run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.printing.tables import Column, console, print_fitted

if TYPE_CHECKING:
    from orchestrator.ensembling.evaluate import Accuracy
    from orchestrator.ensembling.results import FinalEvaluation, SeedSpread

PLAIN = str.maketrans("", "", "`*")
"""Takes Markdown's marks out of a sentence."""


def print_evaluation(
    evaluation: FinalEvaluation, figures: str = "report/tables/results.csv"
) -> None:
    """Members and ensembles with their accuracies and sizes, then the verdicts. figures: the file
    with what the table has no room for.
    """
    from orchestrator.report.verdicts import verdicts

    out = console()
    print_fitted(
        out,
        ("network or ensemble", [row.name for row in evaluation.rows]),
        _columns(evaluation),
        "Final scores: top-1 in % ± standard error",
        f"{figures} and --json have every figure",
    )
    out.print(
        "95 %: Wilson's interval of test; deploy non-zero: weights that ship and are not zero",
        markup=False,
        soft_wrap=True,
    )
    if any(row.clean is not None for row in evaluation.rows):
        out.print(
            "test clean: on the test clips that are no exact copies of training or selection clips",
            markup=False,
            soft_wrap=True,
        )
    for timing in sorted({row.size.timing for row in evaluation.rows} - {""}):
        out.print(f"latency: {timing}", soft_wrap=True)
    seeds = any(row.seeds for row in evaluation.rows)
    if seeds:
        out.print(
            "seeds: mean ± standard deviation over n seeds, nothing where there is one; the other"
            " figures are of the first one",
            markup=False,
            soft_wrap=True,
        )
    if evaluation.paper_style:
        out.print(_paper_style(evaluation), markup=False, soft_wrap=True)
    for text in verdicts(evaluation):
        out.print(text.translate(PLAIN), soft_wrap=not out.is_terminal)


def _paper_style(evaluation: FinalEvaluation) -> str:
    """What ships, had it been chosen on the test clips."""
    best = evaluation.headline
    name = best.name if best is not None else ""
    for each in evaluation.paper_style:
        if each.name == name:
            return (
                f"paper style: {name} {100 * each.test.top1:.2f}, trials and weights chosen on the"
                " test clips; it estimates nothing and is compared with nothing"
            )
    return f"paper style: {name} cannot be built of the trials that are best on the test clips"


def _columns(evaluation: FinalEvaluation) -> list[Column]:
    """What the table of final scores says, the last to be left out first."""
    rows = evaluation.rows
    columns = [
        ("selection", [_percent(row.selection) for row in rows], 1),
        ("test", [_percent(row.test) for row in rows], 0),
        ("95 %", [_interval(row.test) for row in rows], 2),
    ]
    if any(row.clean is not None for row in rows):
        clean = [_percent(evaluation.without_copies(row)) for row in rows]
        columns.append(("test clean", clean, 4))
    if any(row.seeds for row in rows):
        columns.append(("test over seeds", [_over_seeds(row.seeds) for row in rows], 5))
    sizes = [row.size for row in rows]
    sparse = any(size.sparse_pays for size in sizes)
    threads = [str(size.latency_threads or "") for size in sizes]
    columns += [
        ("deploy non-zero", [f"{size.deploy_nonzero_params:,}" for size in sizes], 3),
        ("latency ms", [_timed(size.latency_ms) for size in sizes], 6),
        *([("sparse ms", [_timed(size.sparse_latency_ms) for size in sizes], 6)] if sparse else []),
        ("batch 64 ms", [_timed(size.batch64_latency_ms) for size in sizes], 8),
        *([("threads", threads, 6)] if evaluation.mixes_threads else []),
        ("peak MB", ["" if size.peak_mb is None else f"{size.peak_mb:.2f}" for size in sizes], 9),
        ("training non-zero", [f"{size.nonzero_params:,}" for size in sizes], 7),
    ]
    return [Column(*column) for column in columns]


def print_weights(evaluation: FinalEvaluation) -> None:
    """What every ensemble is made of."""
    for row in evaluation.rows:
        if row.kind == "ensemble" and row.weights:
            total = sum(row.weights.values())
            made = ", ".join(
                f"{name} {weight / total:.3f}{_temperature(row.temperatures.get(name))}"
                for name, weight in row.weights.items()
            )
            console().print(f"{row.name} is made of {made}", markup=False, soft_wrap=True)


def _temperature(found: float | None) -> str:
    return "" if found is None else f" at temperature {found:.3g}"


def print_report(page: Path, next_step: str) -> None:
    """Where the report's page is, and what to do next."""
    out = console()
    out.print(f"report  {page}", soft_wrap=True)
    out.print(f"next    {next_step}", soft_wrap=True)


def _timed(latency: float | None) -> str:
    """A latency, which may not have been measured."""
    from orchestrator.report.tables import milliseconds

    return "" if latency is None else milliseconds(latency)


def _over_seeds(found: SeedSpread | None) -> str:
    if found is None:
        return ""
    return f"{100 * found.test_mean:.2f} ± {100 * found.test_std:.2f} (n={found.seeds})"


def _interval(found: Accuracy) -> str:
    """Wilson's; empty in evaluations of version 5."""
    if found.interval is None:
        return ""
    low, high = found.interval
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _percent(found: Accuracy | None) -> str:
    return "" if found is None else f"{100 * found.top1:.2f} ± {100 * found.top1_error:.2f}"
