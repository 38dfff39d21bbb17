"""The reliability diagram: how often networks and ensembles are right, by how sure they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from orchestrator.ensembling.statistics.calibration import BINS, Calibration
from orchestrator.report.figures import DRAWING, save_figure
from trainables.figures import blank_figure


def draw_reliability(found: Mapping[str, Calibration], path: Path) -> Path:
    """A panel for each name: in every bin of confidence the share of clips that is right, beside
    the diagonal of perfect calibration; below, how many clips a bin holds.
    """
    with DRAWING:
        figure = blank_figure(3.6 * len(found), 4.4)
        panels = figure.subplots(
            2, len(found), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1)
        )
        for column, (name, each) in enumerate(found.items()):
            upper, lower = panels[:, column]
            middles = [
                (min(int(part.confidence * BINS), BINS - 1) + 0.5) / BINS for part in each.bins
            ]
            upper.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle="--")
            upper.bar(
                middles,
                [part.right for part in each.bins],
                width=0.94 / BINS,
                color="tab:blue",
                alpha=0.45,
            )
            upper.plot(
                [part.confidence for part in each.bins],
                [part.right for part in each.bins],
                "o-",
                color="tab:blue",
                markersize=3,
                linewidth=1.0,
            )
            upper.set_title(
                f"{name}\nECE {100 * each.ece:.2f} % (by chance {100 * each.ece_by_chance:.2f} %)",
                fontsize=8,
            )
            upper.grid(alpha=0.3)
            lower.bar(middles, [part.clips for part in each.bins], width=0.94 / BINS, color="grey")
            lower.set_yscale("log")
            lower.set_xlabel("confidence: highest probability")
            lower.grid(alpha=0.3, axis="y")
        panels[0, 0].set_ylabel("share of the clips that is right")
        panels[0, 0].set_xlim(0, 1)
        panels[0, 0].set_ylim(0, 1)
        panels[1, 0].set_ylabel("clips")
        return save_figure(figure, path)
