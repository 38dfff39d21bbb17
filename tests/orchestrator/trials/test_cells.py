"""Cells: the grid of cell axes, with names that can be folders."""

from __future__ import annotations

import hashlib
import re

import pytest

from orchestrator.trials.cells import _digest, deciding_combinations, expand
from orchestrator.trials.space import all_trials
from tests.orchestrator.sweep_files import SMALL, loaded


def test_one_cell_per_point_of_the_grid(tmp_path) -> None:
    cells = expand(loaded(tmp_path, SMALL))
    assert [cell.id for cell in cells] == [
        "joint-level0",
        "joint-level0.8",
        "bone-level0",
        "bone-level0.8",
    ]
    assert cells[1].axes == {"data.stream": "joint", "sparsity.level": 0.8}


def test_a_sweep_without_axes_has_one_cell(tmp_path) -> None:
    (cell,) = expand(loaded(tmp_path, SMALL, "parameters={}"))
    assert (cell.id, dict(cell.axes)) == ("all", {})


def test_ids_are_safe_short_and_unique(tmp_path) -> None:
    streams = "[joint, {hops: 5}, {hops: 6}, {hops: 5, motion: true}]"
    sweep = loaded(
        tmp_path,
        SMALL,
        f"parameters.data.stream={streams}",
        "parameters.model.stages={values: [[1, 1], [11]], axis: cell}",
    )
    ids = [cell.id for cell in expand(sweep)]
    assert len(set(ids)) == len(ids) == 16
    assert all(re.fullmatch(r"[A-Za-z0-9._-]{1,80}", each) for each in ids)


def test_an_id_of_eighty_characters_stays_a_longer_one_ends_with_a_digest(tmp_path) -> None:
    long, longer = "x" * 74, "x" * 75
    sweep = loaded(
        tmp_path,
        SMALL,
        f"parameters={{model.layout: {{values: [{long}, {longer}], axis: cell}}}}",
    )
    digest = hashlib.sha256(f'{{"model.layout": "{longer}"}}'.encode()).hexdigest()[:8]
    assert [cell.id for cell in expand(sweep)] == [
        f"layout{long}",
        f"layout{'x' * 65}-{digest}",
    ]


def test_the_digest_of_a_point_knows_no_order_of_the_axes() -> None:
    point = {"b": 1, "a": [2, "c"]}
    assert _digest(point) == _digest(dict(reversed(point.items())))
    assert _digest(point) == hashlib.sha256(b'{"a": [2, "c"], "b": 1}').hexdigest()[:8]


def test_values_that_look_alike_get_different_ids(tmp_path) -> None:
    sweep = loaded(
        tmp_path,
        SMALL,
        "parameters.model.layout={values: ['a b', a_b], axis: cell}",
        "parameters.data.stream=joint",
    )
    ids = [cell.id for cell in expand(sweep)]
    assert len(set(ids)) == 4


def test_ids_do_not_depend_on_other_values(tmp_path) -> None:
    before = {cell.id for cell in expand(loaded(tmp_path, SMALL))}
    after = {
        cell.id
        for cell in expand(loaded(tmp_path, SMALL, "parameters.sparsity.level=[0.95, 0.8, 0]"))
    }
    assert before < after


def test_an_axis_without_effect_makes_no_cells(tmp_path) -> None:
    """Level 0 has no penalty, and without a warm-up there is none either."""
    penalty = "parameters.sparsity.penalty={values: [group_lasso, none], axis: cell}"
    warmup = "parameters.sparsity.warmup={values: [0.5, 0.0], axis: cell}"
    cells = expand(loaded(tmp_path, SMALL, "parameters.data.stream=[joint]", warmup, penalty))
    assert [cell.id for cell in cells] == [
        "joint-level0",
        "joint-level0.8-warmup0.5-penaltygroup_lasso",
        "joint-level0.8-warmup0.5-penaltynone",
        "joint-level0.8-warmup0",
    ]
    assert cells[0].axes == {"data.stream": "joint", "sparsity.level": 0.0}


def test_an_axis_that_some_trial_of_the_cell_uses_stays(tmp_path) -> None:
    penalty = "parameters.sparsity.penalty={values: [group_lasso, none], axis: cell}"
    level = "parameters.sparsity.level={values: [0, 0.8], axis: trial}"
    assert [
        cell.id
        for cell in expand(
            loaded(tmp_path, SMALL, "parameters.data.stream=[joint]", level, penalty)
        )
    ] == [
        "joint-penaltygroup_lasso",
        "joint-penaltynone",
    ]


def test_a_network_of_several_levels_is_one_cell_beside_single_ones_at_each(tmp_path) -> None:
    network = "parameters.sparsity.network={values: [single, nested], axis: cell}"
    sweep = loaded(
        tmp_path, SMALL, "parameters.data.stream=[joint]", network, "sparsity.levels=[0.6, 0.9]"
    )
    assert [cell.id for cell in expand(sweep)] == [
        "joint-level0-networksingle",
        "joint-networknested",
        "joint-level0.8-networksingle",
    ]
    single, nested, _ = (trial.config.sparsity for trial in all_trials(sweep))
    assert (single.levels, nested.levels, nested.level) == ((), (0.6, 0.9), 0.0)


def test_a_constraint_on_axes_alone_drops_cells(tmp_path) -> None:
    def ids(*constraints: str) -> list[str]:
        axes = "parameters.model.kernel_size={values: [5, 9], axis: cell}"
        return [
            cell.id
            for cell in expand(
                loaded(
                    tmp_path,
                    SMALL,
                    "parameters.data.stream=[joint]",
                    "parameters.sparsity.level=[0]",
                    "parameters.model.channels=[8, 16]",
                    axes,
                    f"constraints=[{', '.join(constraints)}]",
                )
            )
        ]

    assert len(ids()) == 2
    (left,) = ids("model.kernel_size == 5")
    assert "kernel_size5" in left
    # what is searched within a cell may still meet it
    assert len(ids("model.kernel_size < model.channels")) == 2
    # where nothing is left, every cell says so
    assert len(ids("model.kernel_size > 9")) == 2
    # text < number has no value, which is said of the trials
    assert len(ids("model.backbone < 5")) == 2


@pytest.mark.parametrize(
    ("levels", "deciding"),
    [
        ("{min: 0.0, max: 0.9, axis: trial}", [0.9]),
        ("{values: [0.5, 0.0, 0.8], axis: trial}", [0.8]),
        ("{values: [learned, 0.0, 0.8], axis: trial}", ["learned", 0.8]),
    ],
)
def test_of_numbers_the_largest_decides_what_has_an_effect(tmp_path, levels, deciding) -> None:
    more = ["sparsity.target=0.5", "sparsity.warmup=1"] if "learned" in levels else []
    more += ["method={name: random, trials_per_cell: 2}"] if "min" in levels else []
    sweep = loaded(
        tmp_path, SMALL, f"parameters={{sparsity.level: {levels}}}", *more, "train.epochs=3"
    )
    assert deciding_combinations(sweep, sweep.parameters) == [
        {"sparsity.level": level} for level in deciding
    ]
