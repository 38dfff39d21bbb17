"""Gates on weights that find out during training which of them go.

Knows no model and no schedule.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from trainables.sparsity.masks import Masked

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1
"""Temperature and stretch of hard concrete gates, as their paper has them."""

SOFTNESS = 0.2
"""Width of the band around a threshold in which a weight is expected to be kept in part; in root
mean squares of the tensor.
"""


def soft_threshold(weight: Tensor, threshold: Tensor) -> Tensor:
    """sign(w) max(|w| - t, 0) (Kusupati et al. 2020, STR): exactly 0 where |w| <= t, exactly w at t
    = 0; t (): not negative.

    d/dw = 1[|w| > t], d/dt = -sign(w) 1[|w| > t].
    """
    return weight - weight.clamp(-threshold, threshold)


def hard_concrete(gate: Tensor, noise: Tensor | None = None) -> Tensor:
    """z in [0, 1] of gates log(alpha) (Louizos, Welling and Kingma 2018): min(1, max(0, s (zeta -
    gamma) + gamma)).

    With noise log(u) - log(1 - u) of uniform numbers u, in training, s = sigmoid((noise +
    log(alpha)) / beta); without s = sigmoid(log(alpha)).
    """
    s = torch.sigmoid(gate) if noise is None else torch.sigmoid((gate + noise) / BETA)
    return (s * (ZETA - GAMMA) + GAMMA).clamp(0.0, 1.0)


def logistic_noise(like: Tensor) -> Tensor:
    """log(u) - log(1 - u) from the global generator of the device, which the training loop seeds
    for every step.
    """
    return torch.logit(torch.rand_like(like), eps=1e-6)


def root_mean_square(weight: Tensor) -> Tensor:
    """() positive, also of a tensor of zeros."""
    norm: Tensor = torch.linalg.vector_norm(weight)
    return (norm / math.sqrt(weight.numel())).clamp_min(torch.finfo(weight.dtype).tiny)


class Gate(Masked):
    """weight -> gated weight while a level is learned, weight * mask once the mask is `active`.

    `gate` is a buffer, not a parameter of the network: how far it is open, more is more; with
    running means of its gradients and of their squares. `value` stands in for what follows from it
    while a training step runs, and is None otherwise, so that the module copies, moves and saves
    like any other.
    """

    gate: Tensor
    gate_mean: Tensor
    gate_square: Tensor
    value: Tensor | None

    START: ClassVar[float]
    """Where a gate begins: open."""
    OPEN: ClassVar[float]
    """A gate that leaves its weight bit for bit as it is."""
    HIGHEST: ClassVar[float]
    """No gate opens further while it learns."""
    WANDER: ClassVar[float]
    """How far, in standard deviations, gradients of nothing but noise move a gate in all steps
    together, however many those are.
    """
    FASTEST: ClassVar[float]
    """How far a gate can move in one step, by gradients and by a shift that holds a level."""

    def __init__(self, weight: Tensor, gate: Tensor) -> None:
        super().__init__(torch.ones_like(weight))
        self.register_buffer("gate", gate)
        self.register_buffer("gate_mean", torch.zeros_like(gate))
        self.register_buffer("gate_square", torch.zeros_like(gate))
        self.value = None

    def forward(self, weight: Tensor) -> Tensor:
        if self.active:
            return weight * self.mask
        return self.apply_value(weight, self.settled(weight) if self.value is None else self.value)

    @staticmethod
    @abstractmethod
    def apply_value(weight: Tensor, value: Tensor) -> Tensor:
        """The gated weight."""

    @abstractmethod
    def settled(self, weight: Tensor) -> Tensor:
        """The value that follows from the gate, nothing drawn."""

    @abstractmethod
    def margins(self, weight: Tensor) -> Tensor:
        """How much further the gate could close before each weight is zero, float64 of the weight's
        shape; not positive: it is.
        """

    @staticmethod
    @abstractmethod
    def values(gates: Sequence[Tensor], weights: Sequence[Tensor]) -> Sequence[Tensor]:
        """Those of all tensors in a training step, differentiable by the gates."""

    @staticmethod
    @abstractmethod
    def lowest(weights: Sequence[Tensor]) -> Tensor:
        """No gate of these tensors closes further while it learns, or it would never open again:
        nothing reaches the loss through it.
        """

    @staticmethod
    @abstractmethod
    def expected_kept(gates: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        """(): how many of all weights are expected to be kept, differentiable by the gates."""


class ThresholdGate(Gate):
    """One learned threshold t = -gate rms(W) per tensor: soft_threshold(W, t).

    The gate is (), not positive, in units of the tensor's weights.

    A weight is expected to be kept with sigmoid((|w| / rms(W) + gate) / SOFTNESS), the soft count
    of Azarian et al. 2020 (LTP); only thresholds learn from it. rms(W) is a measure here: no
    gradient goes through it.
    """

    START, OPEN, HIGHEST, WANDER, FASTEST = 0.0, 0.0, 0.0, 0.3, 0.2

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight, weight.new_full((), self.START))

    @staticmethod
    def apply_value(weight: Tensor, value: Tensor) -> Tensor:
        return soft_threshold(weight, value)

    def settled(self, weight: Tensor) -> Tensor:
        return root_mean_square(weight.detach()) * -self.gate

    def margins(self, weight: Tensor) -> Tensor:
        exact = weight.detach().double()
        return exact.abs() / root_mean_square(exact) + self.gate.double()

    @staticmethod
    def values(gates: Sequence[Tensor], weights: Sequence[Tensor]) -> Sequence[Tensor]:
        return [
            root_mean_square(weight) * -gate for gate, weight in zip(gates, weights, strict=True)
        ]

    @staticmethod
    def lowest(weights: Sequence[Tensor]) -> Tensor:
        """Just below the largest weight of each tensor."""
        return torch.stack(
            [-0.99 * weight.abs().max() / root_mean_square(weight) for weight in weights]
        )

    @staticmethod
    def expected_kept(gates: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        sizes = [weight.abs() / root_mean_square(weight) for weight in weights]
        return torch.stack(
            [
                torch.sigmoid((size + gate) / SOFTNESS).sum()
                for gate, size in zip(gates, sizes, strict=True)
            ]
        ).sum()


class HardConcreteGate(Gate):
    """One gate log(alpha) per weight: w z with z = hard_concrete(log(alpha)).

    A weight is expected to be kept with P(z > 0) = sigmoid(log(alpha) - beta log(-gamma / zeta)),
    the L0 term of the paper.
    """

    # START: a dropout rate of 0.3
    START, OPEN, HIGHEST, WANDER, FASTEST = 0.85, 100.0, 10.0, 2.0, 1.0
    SHUT: ClassVar[float] = math.log(-GAMMA / ZETA)
    """From this gate down z is 0 without noise."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight, torch.full_like(weight, self.START))

    @staticmethod
    def apply_value(weight: Tensor, value: Tensor) -> Tensor:
        return weight * value

    def settled(self, weight: Tensor) -> Tensor:
        return hard_concrete(self.gate)

    def margins(self, weight: Tensor) -> Tensor:
        return self.gate.double() - self.SHUT

    @staticmethod
    def values(gates: Sequence[Tensor], weights: Sequence[Tensor]) -> Sequence[Tensor]:
        flat = torch.cat([gate.flatten() for gate in gates])
        parts = torch.split(
            hard_concrete(flat, logistic_noise(flat)), [gate.numel() for gate in gates]
        )
        return [part.view_as(weight) for part, weight in zip(parts, weights, strict=True)]

    @staticmethod
    def lowest(weights: Sequence[Tensor]) -> Tensor:
        return weights[0].new_full((), -HardConcreteGate.HIGHEST)

    @staticmethod
    def expected_kept(gates: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        return torch.sigmoid(
            torch.cat([gate.flatten() for gate in gates]) - BETA * HardConcreteGate.SHUT
        ).sum()


GATES: dict[str, type[ThresholdGate] | type[HardConcreteGate]] = {
    "threshold": ThresholdGate,
    "hard_concrete": HardConcreteGate,
}
"""sparsity.gate -> what is attached to a weight."""


def attach_gate(layer: nn.Conv2d, kind: type[ThresholdGate] | type[HardConcreteGate]) -> Gate:
    """Put an open gate on the layer's weight.

    The Parameter object stays the one an optimiser holds.
    """
    gate = kind(layer.weight.detach())
    parametrize.register_parametrization(layer, "weight", gate)
    return gate
