"""Constraints: every name that an expression reads is found, wherever it stands."""

import pytest

from orchestrator.sweep.constraints import holds, leaf_names


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
    "expression", ["f(1) + seed", "seed + f(1)", "seed or f(1)", "seed < f(1)", "1 < seed in 'a'"]
)
def test_what_is_no_arithmetic_is_refused_on_either_side(expression):
    with pytest.raises(ValueError, match="names, numbers, text"):
        leaf_names(expression)


LEAVES = {"model.channels": 64, "model.groups": 3, "train.lr": 0.1, "data.stream": "bone"}


@pytest.mark.parametrize(
    ("expression", "true"),
    [
        ("model.channels % model.groups == 1", True),
        ("model.channels % model.groups == 0 or model.groups == 3", True),
        ("model.channels % model.groups == 0 or model.groups == 4", False),
        ("model.channels > 60 and model.groups > 3", False),
        ("model.channels > 60 and model.groups >= 3", True),
        ("1 < model.groups < 3", False),
        ("1 < model.groups <= 3", True),
        ("not data.stream == 'joint'", True),
        ("data.stream != 'bone'", False),
        ("-train.lr < 0", True),
        ("model.channels // model.groups + 2 * model.groups - 1 == 26", True),
        ("model.channels / 2 == +32", True),
    ],
)
def test_what_expressions_are_worth(expression, true):
    assert holds(expression, LEAVES) is true


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("data.stream < 3", "has no value for data.stream='bone': '<' not supported"),
        ("3 % (model.groups - 3) == 0", "has no value for model.groups=3: .* by zero"),
    ],
)
def test_an_expression_without_a_value_says_of_what(expression, said):
    with pytest.raises(ValueError, match=said):
        holds(expression, LEAVES)


@pytest.mark.parametrize(
    "expression",
    [
        "f(1)",
        "a.b[0] > 1",
        "2 ** 9",
        "(lambda: 1)",
        "x if y else z",
        "a.b +",
        "[1] == [1]",
        "'a'.upper",
    ],
)
def test_expressions_that_are_refused(expression: str) -> None:
    with pytest.raises(ValueError, match="must"):
        leaf_names(expression)
