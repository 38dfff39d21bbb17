"""Constraints: every name that an expression reads is found, wherever it stands."""

import pytest

from orchestrator.sweep.constraints import leaf_names


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("model.channels % model.groups == 0", ["model.channels", "model.groups"]),
        ("2 * (1 + train.lr) < 1", ["train.lr"]),
        ("1 < train.epochs <= train.batch_size", ["train.epochs", "train.batch_size"]),
        ("not seed == 1 or -train.lr < 0 and model.groups", ["seed", "train.lr", "model.groups"]),
    ],
)
def test_names_are_found_on_either_side_of_every_operation(expression, names):
    assert leaf_names(expression) == names


@pytest.mark.parametrize(
    "expression", ["f(1) + seed", "seed + f(1)", "seed or f(1)", "seed < f(1)"]
)
def test_what_is_no_arithmetic_is_refused_on_either_side(expression):
    with pytest.raises(ValueError, match="names, numbers, text"):
        leaf_names(expression)
