"""Tables that may lie in a file: the same numbers, and the same choice."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from orchestrator.ensembling import spill
from orchestrator.ensembling.cross_fitting import cross_fitted, part_of
from orchestrator.ensembling.spill import Rows, release
from orchestrator.ensembling.strategies import losses
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


def on_disk(sources):
    """The same sources with their scores in a file."""
    rows = Rows(sources.values.shape[2], 0)
    for table in sources.values:
        rows.append(table)
    return replace(sources, values=rows.table().reshape(sources.values.shape))


@pytest.mark.parametrize("combine", ["logits", "normalised"])
def test_weights_of_sums_do_not_depend_on_it_either(monkeypatch, combine):
    """All classes of a few sources are in memory at once; what differs is the order of additions,
    in single precision.
    """
    sources = replace(made(5, 200, 6), combine=combine)
    there = simplex(sources, SimplexOptions()).weights
    monkeypatch.setattr(spill, "LIMIT", 0)
    monkeypatch.setattr(losses, "LARGEST", 2 * 200 * 6)
    assert simplex(on_disk(sources), SimplexOptions()).weights == pytest.approx(there, abs=1e-4)


def test_clips_of_a_table_on_disk(monkeypatch):
    """Cross-fitting takes parts of the clips again and again: neither they nor the whole table may
    stay in memory.
    """
    sources = made(5, 200, 6)
    some = np.random.default_rng(0).random(200) < 0.7
    fitted = cross_fitted(sources, lambda part: choose(part, Options()), 3, 0)
    monkeypatch.setattr(spill, "LIMIT", 0)
    mapped = on_disk(sources)
    part = part_of(mapped, some)
    assert isinstance(part.values, np.memmap)
    np.testing.assert_array_equal(part.values, sources.values[:, some])
    assert part.ids == tuple(np.array(sources.ids)[some])
    again = cross_fitted(mapped, lambda part: choose(part, Options()), 3, 0)
    np.testing.assert_array_equal(again.rows, fitted.rows)


def test_pages_of_a_map_are_let_go():
    """Of 8 MB that were read next to nothing stays in the memory of the process."""
    rows = Rows(1024, 0)
    rows.append(np.ones((2048, 1024), np.float32))
    table = rows.table()
    before = resident()
    assert table.sum() == table.size
    assert resident() - before > table.nbytes / 2
    release(table)
    assert resident() - before < table.nbytes / 4


def resident() -> int:
    """Bytes of files that are mapped into the memory of this process."""
    found = re.search(r"RssFile:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return 1024 * int(found[1])
