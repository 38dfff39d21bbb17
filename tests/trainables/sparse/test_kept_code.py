"""What of compiled kernels is kept on disk, and when it is made anew."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import numba
import pytest
from numba.core.caching import FunctionCache, NullCache

from trainables.sparse import gradient_kernels, kept_code, kernels, wide_kernels
from trainables.sparse.vectors import lanes_of

CODEGEN = SimpleNamespace(magic_tuple=lambda: ("processor",))


def doubled(x):
    return 2 * x


@pytest.mark.parametrize(
    "function",
    [
        kernels.multiply,
        kernels.run,
        gradient_kernels.sum_products,
        wide_kernels.convolve_wide,
    ],
)
def test_code_is_made_anew_where_any_file_of_kernels_changes(function, monkeypatch):
    """A kernel calls functions of other files."""
    before = function._cache._index_key("arguments", CODEGEN)
    assert before == function._cache._index_key("arguments", CODEGEN)
    monkeypatch.setattr(kept_code, "SOURCES", "changed")
    assert function._cache._index_key("arguments", CODEGEN) != before


def test_the_digest_takes_in_every_file(tmp_path):
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("one = 1\n")
    before = kept_code._digest_of(tmp_path)
    (tmp_path / "b.py").write_text("one = 2\n")
    assert kept_code._digest_of(tmp_path) != before


def test_without_a_folder_kernels_are_compiled_anew(monkeypatch):
    def no_folder(_function):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(kept_code, "KeptCode", no_folder)
    made = kept_code.kernel(doubled)
    assert made.py_func is doubled
    assert isinstance(made._cache, NullCache)


def test_a_full_disk_costs_what_is_kept_and_nothing_else(monkeypatch, caplog):
    def full(_self, _sig, _data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FunctionCache, "save_overload", full)
    made = kept_code.kernel(doubled)
    assert isinstance(made._cache, kept_code.KeptCode)
    made._cache.save_overload("arguments", None)
    assert "No space left on device" in caplog.text


def test_compiling_is_said_once(monkeypatch, caplog, tmp_path):
    """Where nothing is kept yet."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    kept_code._say_that_kernels_are_compiled.cache_clear()
    cache = kept_code.KeptCode(doubled)
    context = numba.core.registry.cpu_target.target_context
    for _ in range(2):
        assert cache.load_overload((numba.float64,), context) is None
    assert caplog.text.count("compiling kernels") == 1


@pytest.mark.parametrize(("chosen", "lanes"), [("+avx2,+fma", 8), ("+avx2,+avx512f", 16), ("", 8)])
def test_vectors_are_those_of_the_processor_that_is_compiled_for(chosen, lanes):
    """NUMBA_CPU_FEATURES may leave out what this machine has."""
    assert lanes_of(chosen) == lanes
