"""Which cells of tables are figures."""

from __future__ import annotations

import pytest

from orchestrator.report.content import is_figure


@pytest.mark.parametrize(
    "text",
    [
        *("1.26691e-05", "-3", "+0.51", "1,400", "93.33 ± 1.50", "**1.50 ± 0.10**", "0.53 x"),
        *("n/a", "78.68 to 98.15", "12 %", "12%", ""),
    ],
)
def test_figures(text):
    assert is_figure(text)


@pytest.mark.parametrize("text", ["n/a/n", "e", "nan", "joint", "4x4 0", "1.2.3", "2026-11-30"])
def test_words(text):
    assert not is_figure(text)
