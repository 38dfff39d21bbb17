"""A searched leaf as Optuna sees it, and back."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from orchestrator.sweep import Parameter
from orchestrator.trials.space import rounded

FEWEST_RANKS = 3  # of two numbers the order says nothing


@dataclass(frozen=True)
class Leaf(ABC):
    """Values of one leaf and Optuna's parameters, to and fro."""

    parameter: Parameter

    @property
    @abstractmethod
    def distribution(self) -> BaseDistribution: ...

    @abstractmethod
    def value(self, parameter: Any) -> Any:
        """What a trial gets where the sampler says `parameter`."""

    @abstractmethod
    def suggested(self, value: Any) -> Any:
        """What the sampler would have said for a trial's value; None: it could not have."""


class Choice(Leaf):
    """Listed values of any kind, without an order."""

    @cached_property
    def _labels(self) -> tuple[str, ...]:
        return tuple(map(json.dumps, self.parameter.values))

    @cached_property
    def distribution(self) -> BaseDistribution:
        return CategoricalDistribution(self._labels)

    def value(self, parameter: Any) -> Any:
        return self.parameter.values[self._labels.index(parameter)]

    def suggested(self, value: Any) -> Any:
        label = json.dumps(value)
        return label if label in self._labels else None


class Rank(Leaf):
    """Listed numbers, of which close ones are alike: their ranks."""

    @cached_property
    def _ordered(self) -> list[Any]:
        return sorted(self.parameter.values, key=float)

    @cached_property
    def distribution(self) -> BaseDistribution:
        return IntDistribution(0, len(self._ordered) - 1)

    def value(self, parameter: Any) -> Any:
        return self._ordered[parameter]

    def suggested(self, value: Any) -> Any:
        return self._ordered.index(value) if _is_number(value) and value in self._ordered else None


@dataclass(frozen=True)
class _Range(Leaf):
    @cached_property
    def ends(self) -> tuple[float, float]:
        assert self.parameter.min is not None
        assert self.parameter.max is not None
        return self.parameter.min, self.parameter.max

    def holds(self, value: Any) -> bool:
        return _is_number(value) and self.ends[0] <= value <= self.ends[1]


class Real(_Range):
    """Real numbers, on a linear or a logarithmic scale; trials get six digits."""

    @cached_property
    def distribution(self) -> BaseDistribution:
        return FloatDistribution(*self.ends, log=self.parameter.distribution == "log_uniform")

    def value(self, parameter: Any) -> Any:
        return rounded(parameter, *self.ends)

    def suggested(self, value: Any) -> Any:
        return float(value) if self.holds(value) else None


class Steps(_Range):
    """Real numbers so far apart: how many steps from the smallest."""

    @cached_property
    def _step(self) -> float:
        assert self.parameter.step is not None
        return self.parameter.step

    @cached_property
    def distribution(self) -> BaseDistribution:
        low, high = self.ends
        return IntDistribution(0, math.floor((high - low) / self._step + 1e-9))

    def value(self, parameter: Any) -> Any:
        return rounded(self.ends[0] + self._step * parameter, *self.ends)

    def suggested(self, value: Any) -> Any:
        if not self.holds(value):
            return None
        steps = round((value - self.ends[0]) / self._step)
        return steps if self.value(steps) == value else None


class Whole(_Range):
    """Whole numbers, on a linear or a logarithmic scale."""

    @cached_property
    def distribution(self) -> BaseDistribution:
        low, high = map(int, self.ends)
        if self.parameter.distribution == "int_log_uniform":
            return IntDistribution(low, high, log=True)
        step = int(self.parameter.step or 1)
        return IntDistribution(low, low + (high - low) // step * step, step=step)

    def value(self, parameter: Any) -> Any:
        return int(parameter)

    def suggested(self, value: Any) -> Any:
        known = isinstance(value, int) and self.holds(value)
        return value if known and self.distribution._contains(value) else None


def leaf_of(parameter: Parameter) -> Leaf:
    """The kind of leaf that a parameter is."""
    if parameter.values:
        numbers = all(map(_is_number, parameter.values))
        ranked = numbers and len(set(parameter.values)) >= FEWEST_RANKS
        return Rank(parameter) if ranked else Choice(parameter)
    if parameter.distribution in ("int_uniform", "int_log_uniform"):
        return Whole(parameter)
    return Real(parameter) if parameter.step is None else Steps(parameter)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
