"""What `ensemble` prints of score files, and on request of single classes and clips.

Knows how to print, not how to evaluate.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from orchestrator.cli.printing.tables import Column, console, print_fitted
from trainables.contract.names import printable

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.ensembling.classes import Predictions
    from orchestrator.ensembling.evaluate import Paired
    from orchestrator.ensembling.score_files import ChosenWeights, FilesEvaluation

MOST_LINES = 30
"""Of confusions and of misclassified clips; files have them all."""


def print_files_evaluation(found: FilesEvaluation, *, details: bool, as_json: bool) -> None:
    """Accuracies of score files and of their ensemble, and how the files were understood."""
    from orchestrator.ensembling.score_files import ENSEMBLE

    if as_json:
        content = found.to_json()
        if details:
            content["details"] = found.predictions.to_json(ENSEMBLE)
        print(json.dumps(content, indent=2))
        return
    rows = dict(found.members)
    if found.chosen is not None:
        rows["mean of all"] = found.chosen.mean
        rows[f"{found.chosen.method} ({found.combine})"] = found.ensemble
    else:
        rows[f"ensemble ({found.combine})"] = found.ensemble
    for given, other in found.others:
        rows[f"with weights {','.join(f'{weight:g}' for weight in given.values())}"] = other
    accuracies = list(rows.values())
    errors = [f"{100 * each.top1:.2f} ± {100 * each.top1_error:.2f}" for each in accuracies]
    weights = [
        f"{weight:g}" if found.chosen is None else f"{weight:.3f}"
        for weight in found.weights.values()
    ]
    out = console()
    print_fitted(
        out,
        ("scores", list(rows)),
        [
            Column("weight", [*weights, *[""] * (len(rows) - len(weights))], 2),
            Column("top-1 %", errors, 0),
            Column("95 % interval", [_percent(each.interval) for each in accuracies], 2),
            Column("right", [str(each.right) for each in accuracies], 1),
            Column("top-5 %", [f"{100 * each.top5:.2f}" for each in accuracies], 3),
            Column("mean class %", [f"{100 * each.mean_class:.2f}" for each in accuracies], 4),
        ],
        f"{found.ensemble.clips} clips, aligned {found.aligned}"
        + (": the files do not all name their clips" if found.aligned == "by position" else ""),
        "--json has every figure",
    )
    if found.chosen is not None:
        _print_chosen(found.chosen, out)
    if len(found.against_best) > 1:
        out.print(f"{len(found.against_best)} files are equally good, and the best", soft_wrap=True)
    for name, gain in found.against_best.items():
        out.print(_difference(name, gain), soft_wrap=True)
    for text in found.notes:
        out.print(f"note: {text}", soft_wrap=True)
    if details:
        print_details(found.predictions, ENSEMBLE)


def _print_chosen(chosen: ChosenWeights, out: Console) -> None:
    out.print(
        f"weights chosen by {chosen.method}: each of {chosen.folds} folds of the clips is scored"
        f" with weights chosen on the others (seed {chosen.seed}); shown is their mean",
        soft_wrap=True,
    )
    out.print(_difference("mean of all", chosen.against_mean), soft_wrap=True)


def _difference(name: str, gain: Paired) -> str:
    return (
        f"ensemble - {name}: {100 * gain.difference:+.2f} ± {100 * gain.error:.2f} points (sign"
        f" test p = {gain.p_value:.2g})"
    )


def _percent(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}"


def print_details(predictions: Predictions, name: str) -> None:
    """Accuracy by class, the most frequent confusions and misclassified clips of one network or
    ensemble.
    """
    out, names = console(), predictions.classes
    classes = sorted(predictions.by_class(name), key=lambda each: each.accuracy)
    print_fitted(
        out,
        ("class", [each.name for each in classes]),
        [
            Column("clips", [str(each.clips) for each in classes], 2),
            Column("right", [str(each.right) for each in classes], 1),
            Column("%", [f"{100 * each.accuracy:.2f}" for each in classes], 0),
            Column(
                "most often taken for",
                [f"{each.taken_for} ({each.taken})" if each.taken else "" for each in classes],
                3,
            ),
        ],
        f"{name} by class, the lowest accuracy first",
        "--json has every figure",
    )
    confusions = predictions.confusions(name)
    out.print(f"Most frequent confusions, of {len(confusions)}:")
    for label, first, clips in confusions[:MOST_LINES]:
        out.print(
            f"  {names[label]} taken for {names[first]}: {clips}",
            soft_wrap=True,
        )
    wrong = predictions.misclassified(name)
    out.print(f"Misclassified clips, {len(wrong)} of {len(predictions.ids)}:")
    for clip, label, first in wrong[:MOST_LINES]:
        out.print(
            f"  {printable(clip)}: {names[label]} taken for {names[first]}",
            soft_wrap=True,
        )
    if len(wrong) > MOST_LINES:
        out.print(f"  and {len(wrong) - MOST_LINES} more: --json has all", soft_wrap=True)
