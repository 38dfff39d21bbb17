"""Compiled code of kernels that is kept on disk: beside their file or, where that cannot be
written, in numba's folder of the user.

Needs numba, so it is imported only where `rows.compiled()`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core.caching import FunctionCache

log = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])


def _digest_of(folder: Path) -> str:
    """Of all Python files there."""
    files = sorted(folder.glob("*.py"))
    named = (f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files)
    return hashlib.sha256("\n".join(named).encode()).hexdigest()


SOURCES = _digest_of(Path(__file__).parent)
"""Of the files that kernels are made of, as they were when this was imported."""


class KeptCode(FunctionCache):  # type: ignore[misc]  # numba has no types
    """numba's own looks at the kernel's file alone; a kernel here calls what stands in others, and
    would go on with what they were.
    """

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (*super()._index_key(sig, codegen), SOURCES)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """None where it is to be compiled, which takes a while and is said."""
        found = super().load_overload(sig, target_context)
        if found is None:
            _say_that_kernels_are_compiled()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """A full disk costs the kept code, not the trial."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            log.warning("%s: compiled kernels are not kept: %s", self.cache_path, error)


@cache
def _say_that_kernels_are_compiled() -> None:
    """Once per process."""
    log.warning(
        "compiling kernels for kept weights: it takes some ten seconds, once on this machine"
    )


def kernel(function: Function) -> Function:
    """Compiled for arguments of each kind, without Python's lock; kept on disk where there is a
    place.
    """
    compiled = numba.njit(nogil=True, boundscheck=False, error_model="numpy")(function)
    try:
        compiled._cache = KeptCode(function)  # as `cache=True` does with numba's own
    except RuntimeError as error:  # no folder can be written
        log.debug("compiled kernels are not kept: %s", error)
    made: Function = compiled
    return made
