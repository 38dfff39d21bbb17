"""The scores of members and ensembles: the answer, the figures that bear it, then all of them."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.ensembling.results import FinalEvaluation, Row
from orchestrator.report.content import Block, Bullets, Heading, Table
from orchestrator.report.sections.words import NONE, known, over_seeds, timed, with_error
from orchestrator.report.tables import percent
from orchestrator.report.verdicts import verdicts, verdicts_of

MOST_ROWS = 12
"""Of the first table: the whole one follows further down."""


def answer(evaluation: FinalEvaluation | None) -> list[Block]:
    """What the sweep says of its last ensemble, and the few figures that this rests on."""
    if evaluation is None or not evaluation.rows:
        return [
            Heading("Results so far"),
            "The final evaluation has not taken place: there are no test figures.",
        ]
    rows = foremost(evaluation)
    rest = len(evaluation.rows) - len(rows)
    legend = (
        f"{_marked(rows)} ± is one standard error of the clips drawn."
        " `deploy non-zero` counts the weights that ship and are not zero."
        + (f" {rest} more networks and ensembles, and" if rest else " All")
        + " other figures are in the table of all results below, and in `tables/results.csv`."
    )
    return [
        Heading("Verdict"),
        Bullets(verdicts(evaluation)),
        Heading(f"Final scores (protocol: {_protocol(evaluation)})"),
        _short_table(rows, evaluation),
        legend,
    ]


def _short_table(rows: Sequence[Row], evaluation: FinalEvaluation) -> Table:
    """The best figure that something may be chosen by is marked: none of test, where there are
    others.
    """
    marked = "selection %" if any(row.selection for row in rows) else "test %"
    return Table([_short_line(row, evaluation) for row in rows], best={marked: "highest"})


def _marked(rows: Sequence[Row]) -> str:
    if any(row.selection for row in rows):
        return "The best selection figure is bold: nothing is chosen by the test figures."
    return "The best test figure is bold."


def foremost(evaluation: FinalEvaluation) -> list[Row]:
    """The last ensemble and what it is held against, then the other ensembles, then members by what
    they were chosen by, up to `MOST_ROWS`, in the order of the evaluation; all where they are few.
    """
    ensembles = [row for row in evaluation.rows if row.kind == "ensemble"]
    last = ensembles[-1:]
    against = [
        each.against for each in evaluation.comparisons for row in last if each.ensemble == row.name
    ]
    others = sorted(evaluation.rows, key=lambda row: -(row.selection or row.test).top1)
    order = [
        *(row.name for row in last),
        *against,
        *(row.name for row in reversed(ensembles)),
        *(row.name for row in others),
    ]
    chosen = list(dict.fromkeys(order))[:MOST_ROWS]
    return [row for row in evaluation.rows if row.name in chosen]


def _short_line(row: Row, evaluation: FinalEvaluation) -> dict[str, str]:
    clean = any(each.clean for each in evaluation.rows)
    return {
        "name": f"`{row.name}`",
        "kind": _kind(row),
        "selection %": with_error(row.selection),
        "test %": with_error(row.test),
        **({"test-clean %": with_error(evaluation.without_copies(row))} if clean else {}),
        "deploy non-zero": f"{row.size.deploy_nonzero_params:,}",
        "latency ms": timed(row.size.latency_ms),
    }


def results(evaluation: FinalEvaluation | None) -> list[Block]:
    """Every figure of every member and ensemble, and how the ensembles are made."""
    if evaluation is None or not evaluation.rows:
        return []
    clean = any(row.clean for row in evaluation.rows)
    seeds = any(row.seeds for row in evaluation.rows)
    ensembles = [row for row in evaluation.rows if row.kind == "ensemble"]
    others = [line for row in ensembles[:-1] for line in verdicts_of(row, evaluation)]
    parts: list[Block] = [
        Heading(f"Results (protocol: {_protocol(evaluation)})"),
        Table(
            [_result_line(row, evaluation, clean=clean, seeds=seeds) for row in evaluation.rows],
            few=FEW,
        ),
        _legend(evaluation, clean=clean),
    ]
    if others:
        parts += [Heading("The other ensembles", 3), Bullets(others)]
    if ensembles:
        recipes = Table([_recipe_line(row) for row in ensembles])
        parts += [Heading("How the ensembles are made"), recipes]
    return parts


FEW = (
    "name",
    "kind",
    "selection top-1 %",
    "test top-1 %",
    "test-clean top-1 %",
    "deploy non-zero",
    "latency ms",
    "threads",
)
"""Columns of the long table that are read first."""


def _protocol(evaluation: FinalEvaluation) -> str:
    return " and ".join(
        "held out" if split.division.held_out else "paper" for split in evaluation.splits
    )


def _kind(row: Row) -> str:
    if row.kind == "ensemble":
        return "ensemble"
    return "dense single network" if row.dense else "member"


def _of_dense(row: Row) -> str:
    return f"{row.share_of_dense:.2f} x" if row.share_of_dense is not None else NONE


def _result_line(
    row: Row, evaluation: FinalEvaluation, *, clean: bool, seeds: bool
) -> dict[str, str]:
    size, found = row.size, evaluation.without_copies(row)
    sparse = any(each.size.sparse_pays for each in evaluation.rows)
    line = {
        "name": f"`{row.name}`",
        "kind": _kind(row),
        "selection top-1 %": with_error(row.selection),
        "test top-1 %": with_error(row.test),
        **({"test-clean top-1 %": with_error(found)} if clean else {}),
        "test top-5 %": percent(row.test.top5),
        **({"test-clean top-5 %": percent(found.top5) if found else "n/a"} if clean else {}),
        "test mean-class %": percent(row.test.mean_class),
        **(
            {"test-clean mean-class %": percent(found.mean_class) if found else "n/a"}
            if clean
            else {}
        ),
        "deploy params": f"{size.deploy_params:,}",
        "deploy non-zero": f"{size.deploy_nonzero_params:,}",
        "GMACs": f"{size.deploy_gmacs:.4g}",
        "latency ms": timed(size.latency_ms),
        **({"sparse ms": timed(size.sparse_latency_ms)} if sparse else {}),
        "batch 64 ms": timed(size.batch64_latency_ms),
        **({"threads": str(size.latency_threads or NONE)} if evaluation.mixes_threads else {}),
        "peak MB": known(size.peak_mb),
        "training params": f"{size.params:,}",
        "training non-zero": f"{size.nonzero_params:,}",
        "of dense": _of_dense(row),
    }
    if seeds:
        line["selection over seeds %"] = over_seeds(row.seeds, "selection")
        line["test over seeds %"] = over_seeds(row.seeds, "test")
        if clean:
            line["test-clean over seeds %"] = over_seeds(row.seeds, "clean")
    return line


_SPARSE = (
    "`sparse ms` is the latency of one clip where networks run on their kept weights alone, on a"
    " CPU, as far as that is faster."
)


def _legend(evaluation: FinalEvaluation, *, clean: bool) -> Bullets:
    """How to read the columns."""
    timings = sorted({row.size.timing for row in evaluation.rows} - {""})
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
            "`deploy` is of the re-parameterised network, which was scored and timed and is what"
            " ships; `training` is of the form it was trained in, and `of dense` is `training"
            " non-zero` over the dense network's. An ensemble's sizes, GMACs and latency are the"
            " sums over its networks."
        ),
        *([_SPARSE] if any(row.size.sparse_pays for row in evaluation.rows) else []),
        (
            "`deploy non-zero` can be far above what the level of sparsity suggests:"
            " re-parameterisation adds up parallel branches whose masks have their holes in"
            " different places, and a weight of the sum is zero only where all of its parts are."
        ),
        (
            "Latency: one clip, or a batch of 64, float32, median"
            f" ({'; '.join(timings) or 'not measured'}). `peak MB`: most bytes (1e6) of activations"
            " alive at once, one clip; the largest of an ensemble's networks."
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
    return Bullets(lines)


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
