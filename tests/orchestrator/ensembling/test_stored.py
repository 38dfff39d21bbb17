"""Score tables that are read from disk when they are used, in bounded memory."""

from __future__ import annotations

import os

import numpy as np

from orchestrator.ensembling.members import SeedScores
from orchestrator.ensembling.stored import Stored, Tables
from trainables.contract.scores import Scores

IDS = ("a", "b", "c")
BYTES = 3 * 4 * 4  # of one table's logits


def table(path, value: float) -> Scores:
    scores = Scores(IDS, np.full((3, 4), value, np.float32))
    scores.save(path)
    return scores


def test_the_tables_used_last_stay_in_memory(tmp_path):
    paths = [tmp_path / f"{i}.parquet" for i in range(3)]
    for i, path in enumerate(paths):
        table(path, i)
    tables = Tables(most_bytes=2 * BYTES)
    first = tables.load(paths[0])
    assert tables.load(paths[0]) is first
    second, _ = tables.load(paths[1]), tables.load(paths[0])
    assert tables.load(paths[2]).logits[0, 0] == 2  # the second was used longest ago
    assert tables.load(paths[0]) is first
    assert tables.load(paths[1]) is not second
    assert second.ids is first.ids  # the names of the clips are there once


def test_a_table_larger_than_all_that_may_stay_is_read(tmp_path):
    table(tmp_path / "t.parquet", 7)
    assert Tables(most_bytes=1).load(tmp_path / "t.parquet").logits[0, 0] == 7


def test_a_table_that_was_written_anew_is_read_anew(tmp_path):
    path, tables = tmp_path / "t.parquet", Tables()
    table(path, 1)
    assert tables.load(path).logits[0, 0] == 1
    table(path, 2)
    os.utime(path, ns=(1, 1))
    assert tables.load(path).logits[0, 0] == 2


def test_the_clips_of_a_table_are_read_without_its_scores(tmp_path, monkeypatch):
    path = tmp_path / "t.parquet"
    table(path, 1)
    monkeypatch.setattr(Scores, "load", lambda *_: 1 / 0)
    scores = SeedScores(None, Stored(path))
    assert (scores.test_ids, scores.selection_ids) == (IDS, None)
