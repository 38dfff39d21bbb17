"""Whether kernels can be compiled here."""

from __future__ import annotations

import sys

import pytest

from trainables.sparse import rows


@pytest.fixture(autouse=True)
def _asked_anew():
    rows._import_problem.cache_clear()
    yield
    rows._import_problem.cache_clear()


def test_numba_compiles():
    assert rows.compiled()


@pytest.mark.parametrize("error", ["ImportError", "AttributeError", "OSError"])
def test_a_numba_that_does_not_fit_numpy_is_as_good_as_none(tmp_path, monkeypatch, error):
    """Installed, so it is found, but it refuses to be imported."""
    (tmp_path / "numba.py").write_text(f"raise {error}('Numba needs NumPy 2.2 or less.')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    assert not rows.compiled()
    assert rows.without_numba("run dense here") == (
        "numba is installed here but cannot be imported (Numba needs NumPy 2.2 or less), so sparse"
        " networks run dense here: upgrading numba lets them compute with their kept weights alone"
    )


def test_a_missing_numba_is_to_be_installed(monkeypatch):
    monkeypatch.setattr(rows, "find_spec", lambda _name: None)
    assert not rows.compiled()
    assert "pip install 'orchestrate[sparse]'" in rows.without_numba("run dense here")
