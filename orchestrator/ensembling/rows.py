"""One line of the results: a member or an ensemble with its accuracies and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean, stdev
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.build import Ensemble
from orchestrator.ensembling.evaluate import (
    Accuracy,
    BoolArray,
    accuracy,
    accuracy_on_selection,
    log_softmax,
    ranks,
)
from orchestrator.ensembling.members import Member, SeedScores
from orchestrator.ensembling.results import LevelRow, Row, SeedSpread, Size
from orchestrator.ensembling.sealed import TestLabels
from orchestrator.ensembling.statistics.calibration import calibration
from orchestrator.ensembling.statistics.diversity import Diversity, diversity
from orchestrator.ensembling.statistics.intervals import bootstrap
from trainables.contract.scores import Scores

Entry = Member | Ensemble

SEED = 0
"""Of what is drawn in the final evaluation; written down beside it."""


def evaluated_row(entry: Entry, dense: Sequence[Member], truth: TestLabels) -> Row:
    """One line of the results."""
    networks = entry.members if isinstance(entry, Ensemble) else (entry,)
    logits = entry.has_probabilities if isinstance(entry, Ensemble) else True
    size = size_of(networks)
    # a masked network has as many parameters as a dense one, zeros included; one of several levels
    # says nothing of it
    single = dense or [
        network for network in networks if network.config.sparsity.network == "single"
    ]
    dense_params = max((network.result.cost.params for network in single), default=None)
    common: dict[str, Any] = {
        "name": entry.name,
        "axes": dict(entry.axes),
        "division": entry.division,
        "trials": tuple(network.trial for network in networks),
        "selection": _on_selection(entry.selection, logits),
        "test": accuracy(entry.test.logits, truth.labels, logits=logits),
        "clean": _clean(entry.test, truth, logits),
        "size": size,
        "share_of_dense": size.nonzero_params / dense_params if dense_params else None,
        "seeds": _spread(list(entry.by_seed.values()), truth),
        "bootstrap": bootstrap(hits_of(entry.test, truth.labels), truth.subjects, SEED),
        "calibration": (
            calibration(np.exp(log_softmax(entry.test.logits)), truth.labels) if logits else None
        ),
    }
    if isinstance(entry, Member):
        return Row(kind="member", dense=entry.dense, levels=_level_rows(entry, truth), **common)
    return Row(
        kind="ensemble",
        dense=False,
        weights=entry.weights,
        temperatures=entry.temperatures,
        method=entry.method,
        combine=entry.combine,
        budget=dict(entry.limits),
        missing=entry.missing,
        left_out=entry.left_out,
        diversity=_diversity(networks, truth),
        **common,
    )


def _diversity(networks: Sequence[Member], truth: TestLabels) -> Diversity | None:
    """Of the networks of an ensemble, each once, whatever its weight."""
    firsts = np.stack([network.test.logits.argmax(axis=1) for network in networks])
    return diversity(firsts.astype(np.int64), truth.labels)


def _on_selection(scores: Scores | None, logits: bool = True) -> Accuracy | None:
    return (
        None
        if scores is None or scores.labels is None
        else accuracy_on_selection(scores.logits, scores.labels, logits=logits)
    )


def _clean(test: Scores, truth: TestLabels, logits: bool = True) -> Accuracy | None:
    """Accuracy on the test clips without a copy; None when all clips are such, or none is."""
    part = truth.clean_part
    return None if part is None else accuracy(test.logits[part], truth.labels[part], logits=logits)


def size_of(networks: Sequence[Member]) -> Size:
    costs = [network.result.cost for network in networks]
    return Size(
        params=sum(cost.params for cost in costs),
        nonzero_params=sum(cost.nonzero_params for cost in costs),
        deploy_params=sum(cost.deploy_params for cost in costs),
        deploy_nonzero_params=sum(cost.deploy_nonzero_params for cost in costs),
        deploy_gmacs=sum(cost.deploy_gmacs for cost in costs),
        peak_mb=max(cost.deploy_peak_mb for cost in costs),
        latency_ms=_total([cost.deploy_latency_ms for cost in costs]),
        batch64_latency_ms=_total([cost.deploy_batch64_latency_ms for cost in costs]),
        sparse_latency_ms=_total([cost.sparse_latency_ms for cost in costs]),
        latency_device=_words(cost.latency_device for cost in costs),
        latency_threads=max(cost.latency_threads or 0 for cost in costs) or None,
        latency_measured=_words(cost.latency_measured for cost in costs),
    )


def _total(figures: Sequence[float | None]) -> float | None:
    """Their sum; None where one of them was not measured."""
    known = [figure for figure in figures if figure is not None]
    return sum(known) if len(known) == len(figures) else None


def _words(each: Iterable[str | None]) -> str | None:
    """Every different one; None without any."""
    return ", ".join(sorted({word for word in each if word is not None})) or None


def _level_rows(member: Member, truth: TestLabels) -> tuple[LevelRow, ...]:
    """Each level by itself, of the first seed and over all that have scores of it."""
    return tuple(
        LevelRow(
            level=level,
            selection=_on_selection(scores.selection),
            test=accuracy(scores.test.logits, truth.labels, logits=True),
            clean=_clean(scores.test, truth),
            seeds=_spread(
                [run.levels[level] for run in member.seeds if level in run.levels], truth
            ),
        )
        for level, scores in member.seeds[0].levels.items()
    )


def _spread(by_seed: Sequence[SeedScores], truth: TestLabels) -> SeedSpread | None:
    """Mean and standard deviation over the seeds; None with a single one."""
    if len(by_seed) < 2:
        return None
    hits = [hits_of(each.test, truth.labels) for each in by_seed]
    tests = [float(each.mean()) for each in hits]
    part = truth.clean_part
    clean = None if part is None else [float(each[part].mean()) for each in hits]
    held = [each.selection for each in by_seed if each.selection is not None]
    selections = [
        float(hits_of(each, each.labels).mean()) for each in held if each.labels is not None
    ]
    complete = len(selections) == len(by_seed)
    return SeedSpread(
        seeds=len(by_seed),
        selection_mean=fmean(selections) if complete else None,
        selection_std=stdev(selections) if complete else None,
        test_mean=fmean(tests),
        test_std=stdev(tests),
        clean_mean=fmean(clean) if clean else None,
        clean_std=stdev(clean) if clean else None,
    )


def hits_of(scores: Scores, labels: npt.NDArray[np.int64]) -> BoolArray:
    """(N,): whether the first choice is right."""
    right: BoolArray = ranks(scores.logits, labels) == 0
    return right
