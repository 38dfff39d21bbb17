"""Cells: the grid of cell axes, with names that can be folders."""

from __future__ import annotations

import re

from orchestrator.cells import expand
from tests.orchestrator.sweep_files import SMALL, loaded


def test_one_cell_per_point_of_the_grid(tmp_path) -> None:
    cells = expand(loaded(tmp_path, SMALL))
    assert [cell.id for cell in cells] == ["joint-level0", "joint-level0.8", "bone-level0", "bone-level0.8"]
    assert cells[1].axes == {"data.stream": "joint", "sparsity.level": 0.8}


def test_a_sweep_without_axes_has_one_cell(tmp_path) -> None:
    (cell,) = expand(loaded(tmp_path, SMALL, "parameters={}"))
    assert (cell.id, dict(cell.axes)) == ("all", {})


def test_ids_are_safe_short_and_unique(tmp_path) -> None:
    streams = "[joint, {hops: 5}, {hops: 6}, {hops: 5, motion: true}]"
    sweep = loaded(tmp_path, SMALL, f"parameters.data.stream={streams}", "parameters.model.stages={values: [[1, 1], [11]], axis: cell}")
    ids = [cell.id for cell in expand(sweep)]
    assert len(set(ids)) == len(ids) == 16
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,80}", each) for each in ids)


def test_values_that_look_alike_get_different_ids(tmp_path) -> None:
    sweep = loaded(tmp_path, SMALL, "parameters.model.layout={values: ['a b', a_b], axis: cell}", "parameters.data.stream=joint")
    ids = [cell.id for cell in expand(sweep)]
    assert len(set(ids)) == 4


def test_ids_do_not_depend_on_other_values(tmp_path) -> None:
    before = {cell.id for cell in expand(loaded(tmp_path, SMALL))}
    after = {cell.id for cell in expand(loaded(tmp_path, SMALL, "parameters.sparsity.level=[0.95, 0.8, 0]"))}
    assert before < after
