"""Selection with replacement (Caruana et al. 2004, 2006): again and again the source that helps the
sum most, and of the sums on the way the best.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.ensembling.strategies.losses import MeanLoss, Vector, mean_log_loss
from orchestrator.ensembling.strategies.rivals import Rivals, Sum
from orchestrator.ensembling.strategies.rules import Rules, cap_problem
from orchestrator.ensembling.strategies.sources import Choice, Sources
from orchestrator.ensembling.strategies.temperatures import CHANGES_NOTHING, Softened
from orchestrator.sweep.presets import Combine
from orchestrator.sweep.strategies import Refusal, StrategyCard
from trainables.contract.errors import UserError

Bools = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]

DIGITS = 6  # of a log-loss: what differs by less is equally good
SHARE_OF_MEMBERS = 0.5  # of the sources that a bag over members may choose from


class Options(BaseModel):
    """How sources are selected."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # what is to be best; of sums with as many clips right the one with the lower log-loss
    metric: Literal["top1", "log_loss"] = "top1"
    rounds: int = Field(default=50, ge=1, le=1000)  # sources in a sum, at most
    bags: int = Field(default=1, ge=1, le=1000)  # selections whose mean weights are taken
    # what a bag draws, where there are several: as many clips with replacement, or half the members
    bag_over: Literal["clips", "members"] = "clips"
    cap: float = Field(default=1.0, gt=0.0, le=1.0)  # the share of the weight of one family
    temperature: bool = (
        False  # whether each source is softened first, so that its log-loss is least
    )
    seed: int = Field(default=0, ge=0)  # of the bags


def refusals(options: Options, combine: Combine, families: int) -> Iterator[Refusal]:
    """What cannot be kept, whatever the scores are."""
    if options.temperature and combine == "normalised":
        yield "options.temperature", CHANGES_NOTHING
    if families and (problem := cap_problem(options.cap, families, options.rounds)):
        yield "options.cap", problem


CARD = StrategyCard(
    name="greedy",
    module="orchestrator.ensembling.strategies.greedy:choose",
    about="again and again the source that helps the sum most, within a budget",
    options=Options,
    needs_selection=True,
    keeps_budget=True,
    refusals=refusals,
)


def choose(sources: Sources, options: Options) -> Choice:
    """Weights with sum 1; UserError where the budget or the cap admits no ensemble.

    Equally good sources: one that is in the sum already, then the one with the lower log-loss, then
    the first. The budget is kept by every sum on the way, and over all bags together: a later bag
    may use what an earlier one has paid for.

    Within a budget the selection is made several times, of all sources and of smaller ones alone
    (`Rules.beginnings`), and the best by the metric is taken; of those as good as it the one with
    the lower log-loss, then the one that takes less of the budget.
    """
    if not len(sources.labels):
        raise UserError("greedy: must have clips that were held out, got none")
    softened = Softened.of(sources, options.temperature)
    rivals = Rivals.of(softened, options.rounds)
    rules = Rules.of(sources, options.cap, options.rounds)
    tried = [_weights(softened, rivals, each, options) for each in rules.beginnings()]
    found = [weights for weights in tried if weights.any()]
    if not found:
        raise UserError(f"greedy: {rules.why_empty()}")
    best = found[0]
    if len(found) > 1:
        best = min(found, key=lambda each: (*_badness(softened, each, options), rules.share(each)))
    chosen = {
        name: float(weight) for name, weight in zip(sources.members, best, strict=True) if weight
    }
    return Choice(chosen, {name: t for name, t in softened.named().items() if name in chosen})


def _weights(softened: Softened, rivals: Rivals, rules: Rules, options: Options) -> Vector:
    """The mean over all bags, (S,); all 0 where no bag has a sum that keeps the rules."""
    weights, filled = np.zeros(len(rules.allowed)), 0
    for counts, allowed in _bags(softened.sources, options):
        state = Sum(rivals, counts), MeanLoss(softened, rivals.own, counts)
        bag = _selected(*state, rules.among(rules.allowed & allowed), options)
        if bag:
            rules = rules.spend(bag)
            weights += np.bincount(bag, minlength=len(weights)) / len(bag)
            filled += 1
    return weights / max(filled, 1)


def _badness(softened: Softened, weights: Vector, options: Options) -> tuple[int, float]:
    """Clips that the weighted mean gets wrong, 0 where none are counted, and its log-loss."""
    sources = softened.sources
    mean = np.zeros(sources.values.shape[1:], np.float32)
    for source in np.flatnonzero(weights):
        mean += np.float32(weights[source]) * softened.summands(int(source), slice(None))
    wrong = int((mean.argmax(axis=1) != sources.labels).sum()) if options.metric == "top1" else 0
    return wrong, round(mean_log_loss(mean, sources), DIGITS)


def _bags(sources: Sources, options: Options) -> Iterator[tuple[Integers, Bools]]:
    """How often each clip counts, (N,), and which sources may be chosen, (S,), bag by bag."""
    clips, members = len(sources.labels), len(sources.members)
    draw = np.random.default_rng(options.seed)
    for _ in range(options.bags):
        counts, allowed = np.ones(clips, np.int64), np.ones(members, np.bool_)
        if options.bags > 1 and options.bag_over == "clips":
            counts = np.bincount(draw.integers(clips, size=clips), minlength=clips)
        elif options.bags > 1:
            few = math.floor(members * (1 - SHARE_OF_MEMBERS))
            allowed[draw.choice(members, few, replace=False)] = False
        yield counts, allowed


def _selected(total: Sum, loss: MeanLoss, rules: Rules, options: Options) -> list[int]:
    """The sources of the best sum on the way, each as often as it was added; none where the rules
    admit none. Of equally good sums the shortest.
    """
    bag: list[int] = []
    kept: list[int] = []
    least = (math.inf, math.inf)
    for _ in range(options.rounds):
        admitted = np.flatnonzero(rules.admitted(bag))
        if not len(admitted):
            break
        source, wrong = _best(admitted, bag, total, loss, options.metric)
        bag.append(source)
        total.add(source)
        loss.add(source)
        if rules.kept(bag) and wrong <= least[0]:
            badness = (wrong, round(loss.now(), DIGITS))
            if badness < least:
                kept, least = bag.copy(), badness
    return kept


def _best(
    candidates: Integers, bag: Sequence[int], total: Sum, loss: MeanLoss, metric: str
) -> tuple[int, int]:
    """The source to add, and how many clips the sum then gets wrong; 0 where none are counted."""
    wrong, losses = 0, None
    if metric == "top1":
        right = total.right()[candidates]
        wrong = loss.clips - int(right.max())
        candidates = candidates[right == right.max()]
    else:
        losses = loss.of(candidates).round(DIGITS)
        candidates = candidates[losses == losses.min()]
    used = candidates[np.isin(candidates, bag)]
    candidates = used if len(used) else candidates
    if len(candidates) > 1 and losses is None:
        candidates = candidates[[loss.of(candidates).round(DIGITS).argmin()]]
    return int(candidates[0]), wrong
