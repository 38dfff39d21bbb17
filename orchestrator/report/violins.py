"""How sure networks and ensembles are of the test clips: of each clip the highest probability of a
class, its distribution, and how many clips lie below a threshold (sparse ST-GCN paper, Figure 6).

Reads score tables; needs no labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.evaluate import FloatArray, log_softmax
from orchestrator.ensembling.members import Division
from orchestrator.ensembling.results import FinalEvaluation, Row
from orchestrator.record.copies import here
from orchestrator.report.content import Block, Heading, Picture, Table
from orchestrator.report.figures import DRAWING, save_figure
from orchestrator.report.tables import Cells, percent
from trainables.contract.artifacts import TrialDir
from trainables.contract.scores import Scores
from trainables.figures import blank_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_VIOLINS = 10  # of one division
MOST_DIVISIONS = 3
THRESHOLD = 0.5
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)

ViolinKind = Literal["single", "dense", "ensemble"]
KIND_COLOURS: dict[ViolinKind, str] = {
    "single": "tab:blue",
    "dense": "dimgrey",
    "ensemble": "tab:red",
}


@dataclass(frozen=True, eq=False, slots=True)
class Violin:
    """One network or ensemble on the test clips of a division."""

    name: str
    kind: ViolinKind
    division: Division
    highest: npt.NDArray[np.float64]  # (N,): of each clip the highest probability of a class
    threshold: float
    against: tuple[str, ...] = ()  # of an ensemble: the dense networks it is held against

    @property
    def below(self) -> npt.NDArray[np.float64]:
        """Of the clips whose highest probability is below the threshold."""
        return self.highest[self.highest < self.threshold]

    @property
    def share_below(self) -> float:
        return len(self.below) / len(self.highest)


def violins(
    run: Path, evaluation: FinalEvaluation | None, threshold: float = THRESHOLD
) -> list[Violin]:
    """Of each division (the first three): ensembles that are no part of another, the last first,
    with the dense networks they are held against; then what the last one sums, and its networks,
    ten in all. Single networks stand first, ensembles last.

    threshold: of `Violin`. What has no score tables any more is left out.
    """
    if evaluation is None:
        return []
    found: list[Violin] = []
    for division in [split.division for split in evaluation.splits][:MOST_DIVISIONS]:
        chosen = chosen_rows(evaluation, division)
        room = MOST_VIOLINS - len(chosen)
        for row in chosen:
            own = _of_row(run, row, evaluation, threshold, levels=len(row.levels) <= room)
            room -= max(len(own) - 1, 0)
            found += own
    return found


def chosen_rows(evaluation: FinalEvaluation, division: Division) -> list[Row]:
    """The rows of one division that are drawn."""
    rows = {row.name: row for row in evaluation.rows if row.division == division}
    ensembles = [row for row in rows.values() if row.kind == "ensemble"]
    networks = [row for row in rows.values() if row.kind == "member"]
    if not ensembles:
        best = sorted(networks, key=lambda row: -(row.selection or row.test).top1)
        chosen = {row.name for row in best[:MOST_VIOLINS]}
    else:
        last = ensembles[-1]
        parts = {name for row in ensembles for name in row.weights}
        whole = [row.name for row in reversed(ensembles) if row.name not in parts]
        order = [
            *(each for name in whole for each in (name, *_dense_of(name, evaluation))),
            *last.weights,
            *(row.name for row in networks if set(row.trials) <= set(last.trials)),
        ]
        chosen = set([name for name in dict.fromkeys(order) if name in rows][:MOST_VIOLINS])
    drawn = [row for row in rows.values() if row.name in chosen]
    return sorted(drawn, key=lambda row: (row.kind == "ensemble", row.dense))


def _dense_of(ensemble: str, evaluation: FinalEvaluation) -> list[str]:
    """The dense networks that an ensemble is held against."""
    return [
        each.against
        for each in evaluation.comparisons
        if each.ensemble == ensemble and each.role == "dense network"
    ]


def _of_row(
    run: Path, row: Row, evaluation: FinalEvaluation, threshold: float, *, levels: bool
) -> list[Violin]:
    """The row and, if asked for, before it each level of a network of several levels."""
    probabilities = _probabilities(run, row, {each.name: each for each in evaluation.rows})
    if probabilities is None:
        return []
    kind: ViolinKind = "ensemble" if row.kind == "ensemble" else "dense" if row.dense else "single"
    against = tuple(_dense_of(row.name, evaluation))
    found = [Violin(row.name, kind, row.division, probabilities.max(axis=1), threshold, against)]
    for level in row.levels if levels else ():
        logits = _logits(TrialDir(run / "trials" / row.trials[0]).level_scores(level.level, "test"))
        if logits is not None:
            highest = np.exp(log_softmax(logits)).max(axis=1)
            name = f"{row.name}, level {level.level}"
            found.insert(-1, Violin(name, kind, row.division, highest, threshold))
    return found


def _probabilities(run: Path, row: Row, rows: Mapping[str, Row]) -> npt.NDArray[np.float64] | None:
    """(N, K), clips in the order of their names: a network's softmax, or the weighted mean of those
    of an ensemble's sources, whatever the ensemble sums; None where a table is missing or a weight
    is negative.
    """
    if row.kind == "member":
        file = TrialDir(run / "trials" / row.trials[0]).test_scores
    else:
        file = run / "ensembles" / row.name / "scores.parquet"
    if row.kind == "ensemble" and (row.combine != "probabilities" or not file.is_file()):
        return _mean(run, row, rows)
    logits = _logits(file)
    return None if logits is None else np.exp(log_softmax(logits))


def _mean(run: Path, row: Row, rows: Mapping[str, Row]) -> npt.NDArray[np.float64] | None:
    total: npt.NDArray[np.float64] | None = None
    for name, weight in row.weights.items():
        own = _probabilities(run, rows[name], rows) if name in rows and weight >= 0 else None
        if own is None:
            return None
        total = weight * own if total is None else total + weight * own
    return None if total is None else total / sum(row.weights.values())


def _logits(file: Path) -> FloatArray | None:
    return Scores.load(here(file)).logits if file.is_file() else None


def violin_cells(violin: Violin) -> Cells:
    """The distribution in numbers, of all clips and (`below.`) of those below the threshold."""
    return {
        "name": violin.name,
        "kind": violin.kind,
        "store": violin.division.store,
        "protocol": violin.division.protocol,
        "clips": len(violin.highest),
        "mean": float(violin.highest.mean()),
        **_quantiles("", violin.highest),
        "threshold": violin.threshold,
        "below.clips": len(violin.below),
        "below.share": violin.share_below,
        **_quantiles("below.", violin.below),
    }


def _quantiles(prefix: str, values: npt.NDArray[np.float64]) -> Cells:
    found = np.quantile(values, QUANTILES).tolist() if len(values) else [""] * len(QUANTILES)
    return {
        f"{prefix}q{100 * each:02.0f}": value for each, value in zip(QUANTILES, found, strict=True)
    }


def violin_section(found: Sequence[Violin], figure: Path | None) -> list[Block]:
    """What the violins say, in a sentence, a figure and a table; nothing without any."""
    if not found or figure is None:
        return []
    threshold, columns = found[0].threshold, _by_division(found)
    text = (
        "Of each test clip the highest probability of a class; of an ensemble, of the mean of its"
        " networks' probabilities, whatever it sums. The second row has only the clips below"
        f" {threshold:g}. {' '.join(map(_summary, columns.values()))} The mean of several networks"
        " is less sure than each of them where they disagree: fewer clips below the threshold mean"
        " surer, not more often right. All quantiles are in `tables/violins.csv`."
    )
    lines = [
        {
            "name": f"`{violin.name}`",
            **({"test clips of": _title(violin.division)} if len(columns) > 1 else {}),
            "mean": f"{violin.highest.mean():.3f}",
            "median": f"{np.median(violin.highest):.3f}",
            f"clips below {threshold:g}": f"{len(violin.below):,}",
            "%": percent(violin.share_below),
            "kind": violin.kind,
        }
        for violin in found
    ]
    return [
        Heading("How sure the networks are"),
        text,
        Picture("Highest probability of a class, test clips", f"figures/{figure.name}", False),
        Table(lines),
    ]


def _by_division(found: Sequence[Violin]) -> dict[Division, list[Violin]]:
    columns: dict[Division, list[Violin]] = {}
    for violin in found:
        columns.setdefault(violin.division, []).append(violin)
    return columns


def _summary(own: Sequence[Violin]) -> str:
    """Of one division every ensemble that is drawn beside its dense network; the last row where
    there is none such.
    """
    drawn = {violin.name: violin for violin in own}
    sentences = []
    for violin in own:
        dense = next((drawn[name] for name in violin.against if name in drawn), None)
        if dense is not None:
            sentences.append(f"{_below(violin)}, its dense network {_below(dense)}.")
    return " ".join(sentences) or f"{_below(own[-1])}."


def _below(violin: Violin) -> str:
    return (
        f"`{violin.name}` is below it on {len(violin.below):,} of {len(violin.highest):,} clips"
        f" ({percent(violin.share_below)} %)"
    )


def _title(division: Division) -> str:
    return f"{Path(division.store).name} {division.protocol}"


def draw_violins(found: Sequence[Violin], path: Path) -> Path | None:
    """A column of two panels for each division: all clips, and those below the threshold; None
    without a violin.
    """
    if not found:
        return None
    from matplotlib.patches import Patch

    columns = _by_division(found)
    widths = [max(3.2, 1.2 + 0.75 * len(own)) for own in columns.values()]
    with DRAWING:
        figure = blank_figure(max(6.5, sum(widths)), 7.0)
        panels = figure.subplots(2, len(columns), squeeze=False, width_ratios=widths)
        for (division, own), (upper, lower) in zip(columns.items(), panels.T, strict=True):
            counts = [f"{len(violin.below):,}\n{percent(violin.share_below)} %" for violin in own]
            violin_panels(upper, lower, own, KIND_COLOURS, counts, letters=7)
            upper.set_title(f"{_title(division)}: {len(own[0].highest):,} test clips", fontsize=9)
            lower.tick_params(axis="x", labelsize=8)
        kinds = [kind for kind in KIND_COLOURS if any(violin.kind == kind for violin in found)]
        figure.legend(
            handles=[Patch(color=KIND_COLOURS[kind], alpha=0.45, label=kind) for kind in kinds],
            loc="outside upper center",
            ncols=len(kinds),
            fontsize=8,
            frameon=False,
        )
        panels[0, 0].set_ylabel("highest probability, all clips")
        panels[1, 0].set_ylabel(f"highest probability, clips below {found[0].threshold:g}")
        return save_figure(figure, path)


def violin_panels(
    upper: Axes,
    lower: Axes,
    own: Sequence[Violin],
    colours: Mapping[ViolinKind, str],
    counts: Sequence[str],
    letters: float,
) -> None:
    """All clips above; those below the threshold underneath, with `counts` over each violin, in
    letters of so many points.
    """
    _violin_panel(upper, own, [violin.highest for violin in own], colours)
    _violin_panel(lower, own, [violin.below for violin in own], colours)
    threshold = own[0].threshold
    upper.set_xticks(range(len(own)), [""] * len(own))
    upper.set_ylim(0, 1.02)
    lower.set_ylim(0, 1.15 * threshold)
    lower.axhline(threshold, color="black", linewidth=0.7, linestyle=":")
    for place, count in enumerate(counts):
        lower.annotate(
            count,
            (place, threshold),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=letters,
        )
    lower.set_xticks(range(len(own)), [violin.name for violin in own], rotation=35, ha="right")


def _violin_panel(
    axes: Axes,
    own: Sequence[Violin],
    values: Sequence[npt.NDArray[np.float64]],
    colours: Mapping[ViolinKind, str],
) -> None:
    """Violins of equal width with quartiles; a dot for a single clip, nothing for none."""
    for place, (violin, each) in enumerate(zip(own, values, strict=True)):
        colour = colours[violin.kind]
        if len(each) and np.ptp(each) > 0:
            parts = axes.violinplot([each], [place], widths=0.8, showextrema=False)
            bodies: Any = parts["bodies"]  # a list, whatever matplotlib's types say
            for body in bodies:
                body.set_facecolor(colour)
                body.set_alpha(0.45)
            low, median, high = np.quantile(each, (0.25, 0.5, 0.75))
            axes.vlines(place, low, high, color=colour, linewidth=4)
            axes.plot(place, median, "o", color="white", markeredgecolor=colour, markersize=5)
        elif len(each):
            axes.plot(place, each[0], "o", color=colour, markersize=5)
    axes.set_xlim(-0.6, len(own) - 0.4)
    axes.grid(alpha=0.3, axis="y")
