"""Learning how many weights go and where: gates train beside the weights, then the mask is fixed.

Knows no backbone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from trainables.contract.errors import TrialFailed
from trainables.contract.sparsity import SparsityConfig
from trainables.cost.counting.count import removed_count
from trainables.sparsity.constant_channels import constant_channels
from trainables.sparsity.gates import GATES, attach_gate
from trainables.sparsity.masks import Masked, attach, maskable, prune, raw_weight
from trainables.training.schedule import Schedule

RAMP = 0.8
"""Fraction of the learning steps after which the level asked for is reached; the rest moves gates
at that level.
"""

MEMORY = 0.9, 0.99
"""Of the running means of gradients and of their squares (Adam, Kingma and Ba 2015)."""

DAMPING = 0.01
"""Added to D's denominator, in units of the usual gradient: no gate is faster than one over this by
its gradients being small.
"""


class LearnedLevel(Schedule):
    """Trains one network and finds its level on the way: with a price on what is kept, or at a
    target for all tensors together.

    Epochs 0 .. E_w - 1: gates on all weights learn beside them, by Adam (Kingma and Ba 2015): gate
    -= rate m D, with m the running mean of its gradient and D one over the running root mean
    square. Over K learning steps the rate falls linearly to 0 from WANDER sqrt(3 / K), so that its
    squares sum up to WANDER^2: noise moves a gate as far in a short run as in a long one, and what
    is not noise sqrt(K) times as far. Learning rate, momentum and weight decay of the network do
    not touch gates.

    price: the loss has + price * (expected share of weights kept), so gates come to rest where
    closing one further would cost as much loss as it saves. target: the loss stays as it is; after
    each step gates are shifted along D d, d the derivative of that share by them, to where it is 1
    - target (1 - (1 - p)^3), p the part of the ramp that is over (the ramp of Zhu and Gupta 2017).
    They come to rest where m is proportional to d: the last weight costs the same loss in every
    tensor, as it must where the target is spent best.

    At the end of epoch E_w - 1 the mask is fixed. price: what is zero stays zero. target: one shift
    of all gates makes the number exactly removed_count(all weights, target). The largest weight (or
    the most open gate) of a tensor always stays. Gated weights become the weights, removed ones are
    zero with their momentum, and gates are open for good: from epoch E_w on this is training with a
    fixed mask, BatchNorm's scales of channels that have become constant included
    (`constant_channels`).
    """

    def __init__(
        self,
        network: nn.Module,
        blocks: Sequence[nn.Module],
        config: SparsityConfig,
        warmup_epochs: int,
        steps: int,
        clips: Tensor,
        when_fixed: Callable[[], None] = lambda: None,
    ) -> None:
        """blocks: modules of the network whose 2-D convolutions are maskable; warmup_epochs: E_w,
        at least 1; steps: of an epoch; clips: of the size the network takes; when_fixed: called
        once the mask is fixed, and may refuse it.

        TrialFailed where the target leaves fewer weights than there are tensors.
        """
        self._config = config
        self._warmup = warmup_epochs
        self._steps = steps
        self._when_fixed = when_fixed
        self._layers = [layer for block in maskable(blocks) for layer in block]
        self._sizes = [layer.weight.numel() for layer in self._layers]
        self._total = sum(self._sizes)
        kept = self._total - removed_count(self._total, config.target or 0.0)
        if kept < len(self._layers):
            raise TrialFailed(
                "sparsity.target: must leave at least one weight of each of the"
                f" {len(self._layers)} convolutions, got {config.target:g} of {self._total:,}"
                f" weights, which leaves {kept}"
            )
        self._network, self._blocks, self._clips = network, blocks, clips
        norms = [
            module
            for block in blocks
            for module in block.modules()
            if isinstance(module, nn.BatchNorm2d)
        ]
        self._scales = [(norm, attach(norm, torch.ones_like(norm.weight))) for norm in norms]
        self._kind = GATES[config.gate]
        self._gates = [attach_gate(layer, self._kind) for layer in self._layers]
        self._live: Tensor | None = None  # the gates of a step that is under way, as one vector

    def begin_epoch(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        for gate in self._gates:
            gate.active = epoch >= self._warmup
        for _, scale in self._scales:
            scale.active = epoch >= self._warmup and not bool(scale.mask.all())

    def begin_step(self, epoch: int, step: int) -> None:
        """One vector of all gates for the step; values that follow from it stand in for those of
        the layers.
        """
        if epoch >= self._warmup:
            return
        self._live = self._together("gate").requires_grad_()
        for gate, value in zip(
            self._gates, self._kind.values(self._parts(self._live), self._weights()), strict=True
        ):
            gate.value = value

    def penalty(self, epoch: int) -> Tensor | None:
        """price * (expected share of weights kept) while the level is learned."""
        if self._live is None or self._config.price is None:
            return None
        return self._config.price * self._expected_share(self._live)

    @torch.no_grad()
    def after_update(self, epoch: int, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Move the gates; what stood in for a step is gone."""
        if self._live is None:
            return
        live, self._live = self._live, None
        assert live.grad is not None
        for gate in self._gates:
            gate.value = None
        # of the learning steps
        number, count = epoch * self._steps + step, self._warmup * self._steps
        mean = self._together("gate_mean").lerp_(live.grad, 1 - MEMORY[0])
        square = self._together("gate_square").lerp_(live.grad.square(), 1 - MEMORY[1])
        size = (square / (1 - MEMORY[1] ** (number + 1))).sqrt_()
        usual = size.square().mean().sqrt().clamp_min(torch.finfo(size.dtype).tiny)
        speed = 1 / (size / usual + DAMPING)
        rate = min(self._kind.WANDER * math.sqrt(3 / count), self._kind.FASTEST) * (
            1 - (number + 0.5) / count
        )
        moved = live.detach() - rate / (1 - MEMORY[0] ** (number + 1)) * (mean / usual) * speed
        if self._config.target is not None:
            ramp = min(1.0, (number + 1) / (RAMP * count))
            moved = self._hold(moved, 1 - self._config.target * (1 - (1 - ramp) ** 3), speed)
        moved.clamp_max_(self._kind.HIGHEST).clamp_min_(self._kind.lowest(self._weights()))
        for name, value in (("gate", moved), ("gate_mean", mean), ("gate_square", square)):
            for gate, part in zip(self._gates, self._parts(value), strict=True):
                getattr(gate, name).copy_(part)

    def _hold(self, gates: Tensor, goal: float, speed: Tensor) -> Tensor:
        """The gates after one Newton step, at their speeds, towards an expected share of `goal`."""
        with torch.enable_grad():
            live = gates.detach().requires_grad_()
            share = self._expected_share(live)
            (slope,) = torch.autograd.grad(share, live)
        along = slope * speed
        shift = (
            (goal - share.detach())
            / (slope * along).sum().clamp_min(torch.finfo(slope.dtype).tiny)
            * along
        )
        return gates + shift.clamp(-self._kind.FASTEST, self._kind.FASTEST)

    @torch.no_grad()
    def end_epoch(self, epoch: int, optimizer: torch.optim.Optimizer) -> None:
        """At the end of the last learning epoch: the mask is fixed."""
        if epoch != self._warmup - 1:
            return
        kept = (
            self._fixed_by_price()
            if self._config.target is None
            else self._fixed_by_target(self._config.target)
        )
        for layer, gate, stays in zip(self._layers, self._gates, kept, strict=True):
            weight = raw_weight(layer)
            gated = gate(weight)
            # one that stays though its gate is shut is taken as it is
            weight.copy_(torch.where(gated == 0, weight, gated))
            gate.mask.copy_(stays)
            gate.gate.fill_(gate.OPEN)
            gate.active = True
        constant = dict(constant_channels(self._network, self._blocks, self._clips))
        for norm, scale in self._scales:
            if norm in constant:
                scale.mask.copy_(constant[norm])
        self._forget(optimizer)
        self._when_fixed()

    def _forget(self, optimizer: torch.optim.Optimizer) -> None:
        """What was removed is zero, and so is its momentum."""
        masked: list[tuple[nn.Conv2d | nn.BatchNorm2d, Masked]] = [
            *zip(self._layers, self._gates, strict=True),
            *self._scales,
        ]
        for layer, part in masked:
            weight = raw_weight(layer)
            weight.mul_(part.mask)
            momentum = optimizer.state.get(weight, {}).get("momentum_buffer")
            if momentum is not None:
                momentum.mul_(part.mask)

    def _fixed_by_price(self) -> list[Tensor]:
        return [
            (gate(weight) != 0) | _largest(gate.margins(weight)).to(weight.device)
            for gate, weight in zip(self._gates, self._weights(), strict=True)
        ]

    def _fixed_by_target(self, target: float) -> list[Tensor]:
        """What stays of every tensor; all gates are shifted to where just that does."""
        margins = [
            gate.margins(weight).cpu()
            for gate, weight in zip(self._gates, self._weights(), strict=True)
        ]
        scores = [margin.masked_fill(_largest(margin), math.inf) for margin in margins]
        (masks,) = prune([scores], target, "global")
        boundary = max(
            (
                float(score[mask == 0].max())
                for score, mask in zip(scores, masks, strict=True)
                if (mask == 0).any()
            ),
            default=0.0,
        )
        for gate in self._gates:
            gate.gate.copy_((gate.gate - boundary).clamp_max(gate.OPEN))
        return [
            (mask == 1).to(weight.device)
            for mask, weight in zip(masks, self._weights(), strict=True)
        ]

    @torch.no_grad()
    def metrics(self) -> dict[str, float]:
        """The level as it stands: the fraction of all weights that are zero."""
        zeros = torch.stack([(layer.weight == 0).sum() for layer in self._layers]).sum()
        return {"level": int(zeros) / self._total}

    def _expected_share(self, gates: Tensor) -> Tensor:
        return self._kind.expected_kept(self._parts(gates), self._weights()) / self._total

    def _together(self, name: str) -> Tensor:
        """A buffer of all gates as one vector, a copy."""
        return torch.cat([getattr(gate, name).flatten() for gate in self._gates])

    def _weights(self) -> list[Tensor]:
        return [raw_weight(layer).detach() for layer in self._layers]

    def _parts(self, gates: Tensor) -> list[Tensor]:
        parts = torch.split(gates, [gate.gate.numel() for gate in self._gates])
        return [part.view_as(gate.gate) for part, gate in zip(parts, self._gates, strict=True)]


def _largest(margins: Tensor) -> Tensor:
    """Of the tensor's shape: True at the first of the largest."""
    return (torch.arange(margins.numel()) == int(margins.argmax())).view(margins.shape)
