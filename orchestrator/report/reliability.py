"""The reliability diagram: how often networks and ensembles are right, by how sure they are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from orchestrator.ensembling.statistics.calibration import BINS, Calibration
from orchestrator.ensembling.statistics.intervals import interval
from orchestrator.report.figures import DRAWING, save_figure
from trainables.figures import blank_figure


def draw_reliability(found: Mapping[str, Calibration], path: Path) -> Path:
    """A panel for each name: in every bin of confidence the share of clips that is right with its
    95 % interval (Wilson), beside the diagonal of perfect calibration; below, how many clips a bin
    holds.
    """
    with DRAWING:
        figure = blank_figure(3.6 * len(found), 4.4)
        panels = figure.subplots(
            2, len(found), sharex=True, sharey="row", squeeze=False, height_ratios=(3, 1)
        )
        for column, (name, each) in enumerate(found.items()):
            upper, lower = panels[:, column]
            middles = [(math.ceil(part.confidence * BINS) - 0.5) / BINS for part in each.bins]
            right = [part.right for part in each.bins]
            ends = [interval(round(part.right * part.clips), part.clips) for part in each.bins]
            upper.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle="--")
            upper.bar(middles, right, width=0.94 / BINS, color="tab:blue", alpha=0.35)
            upper.errorbar(
                [part.confidence for part in each.bins],
                right,
                yerr=[
                    [share - low for share, (low, _) in zip(right, ends, strict=True)],
                    [high - share for share, (_, high) in zip(right, ends, strict=True)],
                ],
                fmt="o",
                color="tab:blue",
                markersize=3,
                elinewidth=0.9,
                capsize=2,
            )
            upper.set_title(
                f"{name}\nECE {100 * each.ece:.2f} % (by chance {100 * each.ece_by_chance:.2f} %)",
                fontsize=8,
            )
            upper.grid(alpha=0.3)
            lower.bar(middles, [part.clips for part in each.bins], width=0.94 / BINS, color="grey")
            lower.set_yscale("log")
            lower.minorticks_off()
            lower.set_xlabel("confidence: highest probability")
            lower.grid(alpha=0.3, axis="y")
        panels[0, 0].set_ylabel("share of the clips that is right")
        panels[0, 0].set_xlim(0, 1)
        panels[0, 0].set_ylim(0, 1)
        panels[1, 0].set_ylabel("clips")
        panels[1, 0].set_ylim(bottom=0.7)  # a bin of one clip shows
        return save_figure(figure, path)
