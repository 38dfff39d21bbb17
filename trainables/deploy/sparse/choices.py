"""Which convolutions are faster on their kept weights: measured once per machine, kept on disk."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

from trainables.contract.disk import cache_root, write_json
from trainables.contract.errors import OrchestrateError, UserError
from trainables.cost.processor import processor_name

log = logging.getLogger(__name__)

FORM = 7
"""Of the file, the kernels and the dense execution that they are timed against: where it is
another one, all is measured anew.
"""
WORTH = 1.05
"""At least so many times as fast as the dense convolution."""
TURNS = 5


class Choices:
    """How many times as fast convolutions are on their kept weights, by what they are called."""

    def __init__(self, file: Path | None = None) -> None:
        self.file = file or _file()
        self._known: dict[str, float] | None = None

    def worth(self, name: str, sparse: Callable[[], object], dense: Callable[[], object]) -> bool:
        """Whether `sparse` is faster than `dense`; both are timed where `name` is new."""
        key = f"{processor_name()}; {_versions()}; {name}"
        known = self._load()
        if key not in known:
            known[key] = round(_ratio(sparse, dense), 3)
            self._save()
        return known[key] >= WORTH

    def _load(self) -> dict[str, float]:
        if self._known is None:
            self._known = _read(self.file)
        return self._known

    def _save(self) -> None:
        """What other processes measured meanwhile is kept; a folder that cannot be written is no
        reason to stop.
        """
        if self.file is None:
            return
        self._known = {**_read(self.file), **(self._known or {})}
        try:
            write_json(self.file, {"form": FORM, "times_as_fast": self._known})
        except (OSError, OrchestrateError) as error:
            log.debug("%s: is not written: %s", self.file, error)


def kept_share(kept: int, of: int) -> str:
    """A share of kept weights in steps of a factor of 1.25: 2^(-n / 3)."""
    return f"2^{-round(-3 * math.log2(max(kept, 1) / of))}/3"


@cache
def _versions() -> str:
    """Of what runs the two ways, and its vectors: another one may be faster."""
    from trainables.sparse.vectors import LANES

    packages = [f"{package} {version(package)}" for package in ("torch", "numba")]
    return ", ".join([*packages, f"{LANES} lanes"])


def _file() -> Path | None:
    """None where there is no folder for caches."""
    try:
        return cache_root() / "sparse" / "choices.json"
    except UserError as error:
        log.debug("choices are not kept: %s", error)
        return None


def _read(file: Path | None) -> dict[str, float]:
    """Nothing where there is no file of this form."""
    if file is None:
        return {}
    try:
        content = json.loads(file.read_text())
        if content["form"] != FORM:
            return {}
        return {str(name): float(ratio) for name, ratio in content["times_as_fast"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    except (OverflowError, RecursionError):  # damaged: no float holds it, or nested too deep
        return {}


def _ratio(sparse: Callable[[], object], dense: Callable[[], object]) -> float:
    """Least time of the one over that of the other, in turns."""
    best = [math.inf, math.inf]
    for turn in range(TURNS + 1):  # the first warms up
        for which, call in enumerate((sparse, dense)):
            started = perf_counter()
            call()
            if turn:
                best[which] = min(best[which], perf_counter() - started)
    return best[1] / best[0]
