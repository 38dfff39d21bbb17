"""A law: a sentence, the function that holds a part to it, and the settings it is held under."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainables.contract.cards import Card

if TYPE_CHECKING:
    from torch import Tensor

PartSettings = Mapping[str, Any]
"""What a law is held against: it names the part, with settings of `model`, of `sparsity`, or what
else a part of its kind needs.
"""


HEAVY = ("torch", "ray", "mlflow", "pandas")
"""What a card must not import: validate, plan and status read cards."""
LONGEST_REASON = 300


class LawBroken(AssertionError):
    """The part does not keep the law; says what was found and what is allowed."""


@dataclass(frozen=True)
class Law:
    """`hold(subject, **setting)` raises LawBroken where the subject does not keep the law."""

    says: str  # a sentence about the part
    hold: Callable[..., None]
    settings: tuple[Mapping[str, Any], ...] = ({},)


@dataclass(frozen=True)
class Verdict:
    """What became of one law."""

    law: str
    reason: str  # why the part breaks it; empty: it keeps it

    @property
    def kept(self) -> bool:
        """Whether the part keeps the law."""
        return not self.reason


def held_to(laws: Sequence[Law], subject: PartSettings) -> Iterator[Verdict]:
    """The subject held to each law, one after another; whatever goes wrong breaks the law."""
    for law in laws:
        yield Verdict(law.says, _broken(law, subject))


def _broken(law: Law, subject: PartSettings) -> str:
    for setting in law.settings:
        try:
            law.hold(subject, **setting)
        except Exception as error:
            kind = "" if isinstance(error, LawBroken) else f"{type(error).__name__}: "
            under = ", ".join(f"{name}={value}" for name, value in setting.items())
            return f"{f'with {under}: ' if under else ''}{kind}{_first_line(error)}"
    return ""


def _first_line(error: Exception) -> str:
    """What it says, without the pages that compilers add."""
    line = next(filter(None, map(str.strip, str(error).splitlines())), "no reason given")
    return line if len(line) <= LONGEST_REASON else f"{line[: LONGEST_REASON - 3]}..."


def require(kept: bool, broken: str) -> None:
    """LawBroken(broken) unless `kept`."""
    if not kept:
        raise LawBroken(broken)


def require_same(logits: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """`tolerance` holds as it is for logits up to 1 and relative to the largest logit beyond:
    adjacencies of ones make them large.
    """
    require(
        logits.shape == expected.shape,
        f"{what}: shape {tuple(logits.shape)}, expected {tuple(expected.shape)}",
    )
    scale = max(1.0, float(expected.abs().max()))
    differ = float((logits - expected).abs().max()) / scale
    require(
        differ <= tolerance,
        f"{what}: logits differ by {differ:.1e} of the largest, allowed are {tolerance:.0e}",
    )


def check_about(card: Card) -> None:
    """The card says in one line what the part is."""
    require(bool(card.about) and "\n" not in card.about, f"about must be one line: {card.about!r}")


def card_is_light(path: str) -> None:
    """Importing the card at `package.module:NAME`, in a process of its own, loads nothing heavy."""
    module = path.partition(":")[0]
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    process = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    require(
        process.returncode == 0, f"{module} cannot be imported: {process.stderr.strip()[-200:]}"
    )
    heavy = sorted(set(HEAVY) & set(process.stdout.split()))
    require(not heavy, f"{module} must import no {' and no '.join(heavy)}")
