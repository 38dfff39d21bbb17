"""Tables that may lie in a file: the same numbers, and the same choice."""

from __future__ import annotations

import numpy as np
import pytest

from orchestrator.ensembling import spill
from orchestrator.ensembling.spill import Rows, release
from orchestrator.ensembling.strategies.greedy import Options, choose
from orchestrator.ensembling.strategies.simplex import Options as SimplexOptions
from orchestrator.ensembling.strategies.simplex import choose as simplex
from tests.orchestrator.ensembling.strategies.made_sources import made


@pytest.mark.parametrize("limit", [0, 100, 10_000])
def test_rows_come_back_as_they_were_added(limit):
    draw, rows, parts = np.random.default_rng(0), Rows(5, limit), []
    for count in (3, 0, 7, 1):
        parts.append(draw.normal(size=(count, 5)).astype(np.float32))
        rows.append(parts[-1])
    table = rows.table()
    assert isinstance(table, np.memmap) == (limit < 220)
    np.testing.assert_array_equal(table, np.concatenate(parts))
    release(table[3:].reshape(-1))  # of any view
    np.testing.assert_array_equal(table, np.concatenate(parts))


def test_no_rows_are_a_table_too():
    assert Rows(4).table().shape == (0, 4)


def test_what_is_chosen_does_not_depend_on_where_the_tables_lie(monkeypatch):
    sources = made(5, 200, 6, digits=1)
    there = choose(sources, Options(bags=3)).weights, simplex(sources, SimplexOptions()).weights
    monkeypatch.setattr(spill, "LIMIT", 0)
    rows = Rows(6)
    for table in sources.values:
        rows.append(table)
    values = rows.table().reshape(5, 200, 6)
    assert isinstance(values, np.memmap)
    mapped = type(sources)(sources.members, values, sources.labels, sources.ids, {})
    assert choose(mapped, Options(bags=3)).weights == there[0]
    assert simplex(mapped, SimplexOptions()).weights == there[1]
