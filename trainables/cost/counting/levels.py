"""Networks of several levels by arithmetic: sums over the single networks they are made of.

Knows no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from trainables.contract.config import TrialConfig
from trainables.contract.sparsity import SparsityConfig
from trainables.cost.counting.count import GIGA, Count, FormCost, count
from trainables.layouts import Layout


def count_trial(
    config: TrialConfig, layout: Layout, *, classes: int, persons: int, merges: Sequence[bool] = ()
) -> Count:
    """Cost of all the networks that a trial trains, as one; the lowest level first where levels are
    nested.

    merges: of each network in turn, the gate last, whether its deploy form makes the convolutions
    around an adjacency one; all do unless given.
    """

    def single(number: int, *, gate: bool = False) -> Count:
        return count(
            config.model.gate if gate else config.model,
            layout,
            classes=classes,
            persons=persons,
            frames=config.data.frames,
            stream=config.data.stream_config,
            merge=merges[number] if merges else True,
        )

    sparsity, levels = config.sparsity, len(config.sparsity.levels)
    if sparsity.network == "single":
        return single(0)
    members = [single(number) for number in range(levels)]
    gate = single(levels, gate=True) if sparsity.network == "mixture" else None

    def form(name: Literal["training", "released", "deploy"]) -> FormCost:
        costs = [getattr(member, name) for member in members]
        return _together(
            sparsity,
            costs,
            getattr(gate, name) if gate else None,
            config.model.width,
            shared=name == "training",
        )

    return Count(
        form("training"), form("released"), form("deploy"), members[0].apart, members[0].pieces
    )


def training_share(sparsity: SparsityConfig) -> float:
    """Part of the training form's work on a clip that a training step does: nested levels are
    trained two at a time.
    """
    return 2 / len(sparsity.levels) if sparsity.network == "nested" else 1.0


def _together(
    sparsity: SparsityConfig,
    members: Sequence[FormCost],
    gate: FormCost | None,
    width: int,
    *,
    shared: bool,
) -> FormCost:
    """One form of the whole: nested levels one after the other, experts beside each other, a gate
    and the experts that it chooses.

    shared: nested levels are one set of weights.
    """
    first, levels = members[0], len(members)
    if sparsity.network == "nested":
        work = _sum(members)
        return replace(work, params=first.params, leaf_params=first.leaf_params) if shared else work
    bodies, head = (
        [_headless(member) for member in members],
        FormCost(first.head_params, first.head_params, first.head_gmacs, first.head_gmacs),
    )
    if gate is not None:
        chosen = sparsity.active / levels
        run = [
            replace(body, gmacs=chosen * body.gmacs, leaf_gmacs=chosen * body.leaf_gmacs)
            for body in bodies
        ]
        return _sum([*run, _headless(gate), _linear(width * levels, width * levels), head])
    own_heads = levels * first.head_params if sparsity.expert_losses else 0  # held, not run
    return _sum([*bodies, _linear(own_heads, 0), _fusion(sparsity, levels, width), head])


def _fusion(sparsity: SparsityConfig, experts: int, width: int) -> FormCost:
    match sparsity.fusion:
        case "concat":
            return _linear((experts * width + 1) * width, experts * width**2)
        case "weighted":
            return _linear(experts, 0)
    return NOTHING


NOTHING = FormCost(0, 0, 0.0, 0.0)


def _headless(cost: FormCost) -> FormCost:
    return _sum(
        [cost], minus=FormCost(cost.head_params, cost.head_params, cost.head_gmacs, cost.head_gmacs)
    )


def _linear(params: int, macs: int) -> FormCost:
    return FormCost(params, params, macs / GIGA, macs / GIGA)


def _sum(costs: Sequence[FormCost], *, minus: FormCost = NOTHING) -> FormCost:
    return FormCost(
        params=sum(cost.params for cost in costs) - minus.params,
        leaf_params=sum(cost.leaf_params for cost in costs) - minus.leaf_params,
        gmacs=sum(cost.gmacs for cost in costs) - minus.gmacs,
        leaf_gmacs=sum(cost.leaf_gmacs for cost in costs) - minus.leaf_gmacs,
        features=sum(cost.features for cost in costs),
        largest_output=max(cost.largest_output for cost in costs),
        operations=sum(cost.operations for cost in costs),
    )
