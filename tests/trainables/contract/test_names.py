"""Foreign names: one rule for all, and nothing of them reaches a terminal as it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from trainables.contract.names import LONGEST_NAME, name_problem, printable, shown


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("", "must not be empty"),
        ("\x1b[31mred", "must be printable text without control characters, got '\\x1b[31mred'"),
        ("a\nb", "printable"),
        ("a\0", "printable"),
        ("left\u202eright", "printable"),
        ("\ud800", "printable"),
        ("walk ", "must not begin or end with white space, got 'walk '"),
        (" walk", "white space"),
        ("../a", "must not hold '/', '\\' or '..', got '../a'"),
        ("a/b", "must not hold"),
        ("a\\b", "must not hold"),
        ("a..b", "must not hold"),
        (".", "must not hold"),
        ("x" * (LONGEST_NAME + 1), "must have at most 200 characters, got 201"),
    ],
)
def test_names_that_are_refused(name: str, rule: str) -> None:
    problem = name_problem(name)
    assert problem is not None
    assert rule in problem
    assert problem.isprintable()


@pytest.mark.parametrize(
    "name", ["a", "S001C001P001R001A001", "gehen äöü", "步行", "v_1.b-c d", "x" * 200]
)
def test_names_that_are_sound(name: str) -> None:
    assert name_problem(name) is None


def test_a_class_may_be_called_with_a_slash() -> None:
    assert name_problem("eat meal/snack", file_name=False) is None
    assert name_problem("walk ", file_name=False) is not None


@pytest.mark.parametrize(
    "value",
    [
        "\x1b[2J" * 1000,
        {"a\n\x1b": ["x"] * 10_000},
        10**4000,
        np.arange(100_000),
        [[[[[[[[1]]]]]]]],
        b"\x1b" * 1000,
    ],
)
def test_values_are_shown_short_and_tame(value: Any) -> None:
    assert len(shown(value)) < 200
    assert shown(value).isprintable()


def test_deep_values_are_shown() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    assert shown(value) == "[[[[...]]]]"


def test_printable_text_stays_as_it_is() -> None:
    assert printable("wäche: 'a/b', 步行\nzwei") == "wäche: 'a/b', 步行\nzwei"
    assert printable("\x1b[31m\ta\u202e\udcff\r") == "\\x1b[31m\\ta\\u202e\\udcff\\r"
