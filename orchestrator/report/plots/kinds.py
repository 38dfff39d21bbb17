"""The figures that `orchestrate plot` knows, by name, and the way from a sweep's folder to a file.

The names load nothing heavy.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from trainables.contract.errors import UserError

if TYPE_CHECKING:
    from orchestrator.report.plots.charts import Chart

KINDS: dict[str, str] = {
    "accuracy-latency": "test accuracy against latency, the HPI-GCN paper's points beside it",
    "accuracy-size": "test accuracy against the non-zero parameters shipped",
    "accuracy-sparsity": "test accuracy by level, the sparse study's curves beside it",
    "levels-latency": "test accuracy of levels against latency, executed densely and sparsely",
    "front": "ensembles chosen within budgets: accuracy against each measure of cost",
    "curves": "loss and selection accuracy by epoch, mean over seeds",
    "violins": "how sure networks and ensembles are of the test clips",
    "confusion": "confusion matrix of what the sweep ships, or of --row",
}
"""Kind of figure -> what it shows."""

FORMATS = (".svg", ".png", ".pdf")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a figure shall be; UserError where there is no such one."""

    kind: str
    out: Path
    width: Literal["single", "double"] = "single"
    papers: bool = True  # what the papers print stands beside ours
    row: str | None = None  # of a confusion matrix: which network or ensemble

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            near = get_close_matches(self.kind, KINDS, 1)
            hint = f", did you mean '{near[0]}'?" if near else ""
            raise UserError(f"KIND must be one of {', '.join(KINDS)}, got '{self.kind}'{hint}")
        if self.out.suffix.lower() not in FORMATS:
            raise UserError(f"--out: must end with {', '.join(FORMATS)}, got '{self.out}'")
        if self.row is not None and self.kind != "confusion":
            raise UserError(f"--row: goes with confusion alone, got it with {self.kind}")


def draw_figure(run: Path, asked: Asked) -> Path:
    """Draw a figure of the sweep in the folder `run`; UserError says what the sweep lacks for it.

    A file that is there is replaced.
    """
    from orchestrator.report.plots import drawing

    if asked.kind == "violins":
        return _violins(run, asked)
    if asked.kind == "confusion":
        return _confusion(run, asked)
    return drawing.draw_chart(chart_of(run, asked), asked.out, asked.width)


def chart_of(run: Path, asked: Asked) -> Chart:
    """The values of a figure that is made of series."""
    from orchestrator.record.states import load_trials
    from orchestrator.report.plots import accuracy
    from orchestrator.report.plots.curves import curves

    if asked.kind == "curves":
        return curves(run, load_trials(run))
    evaluation = accuracy.evaluation_of(run, asked.kind)
    if asked.kind == "accuracy-latency":
        return accuracy.accuracy_latency(evaluation, papers=asked.papers)
    if asked.kind == "accuracy-size":
        return accuracy.accuracy_size(evaluation)
    if asked.kind == "accuracy-sparsity":
        return accuracy.accuracy_sparsity(evaluation, load_trials(run), papers=asked.papers)
    if asked.kind == "levels-latency":
        return accuracy.levels_latency(evaluation)
    return accuracy.front(evaluation)


def _violins(run: Path, asked: Asked) -> Path:
    from orchestrator.report.plots.accuracy import division_names, evaluation_of
    from orchestrator.report.plots.drawing import draw_violin_plot
    from orchestrator.report.violins import violins

    evaluation = evaluation_of(run, asked.kind)
    found = violins(run, evaluation)
    if not found:
        raise UserError(f"violins: needs the score tables of {run.name}, which are not there")
    first, names = found[0].division, division_names(evaluation)
    own = [violin for violin in found if violin.division == first]
    of = f" of {names[first]}" if len(names) > 1 else ""
    return draw_violin_plot(own, of, asked.out, asked.width)


def _confusion(run: Path, asked: Asked) -> Path:
    from orchestrator.report.plots.accuracy import evaluation_of
    from orchestrator.report.plots.drawing import draw_confusion_matrix

    evaluation = evaluation_of(run, asked.kind)
    rows = {row.name: row for row in evaluation.rows}
    row = evaluation.headline if asked.row is None else rows.get(asked.row)
    if row is None:
        raise UserError(f"--row: must be one of {', '.join(rows)}, got '{asked.row}'")
    found = evaluation.predictions(run, row)
    if found is None:
        raise UserError(
            f"confusion: needs what {row.name} says of each test clip, which evaluations of earlier"
            f" versions lack; `orchestrate ensemble {run.name}` evaluates the sweep again"
        )
    title = f"{row.name}, test split"
    return draw_confusion_matrix(
        found.confusion(row.name), found.classes, title, asked.out, asked.width
    )
