"""How much a pickle may grow to as it is read, counted part by part."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from trainables.contract import pickles
from trainables.contract.pickles import DEEPEST, check_extent


def test_containers_inside_each_other_are_counted() -> None:
    def deep(times: int) -> list[Any]:
        return [deep(times - 1)] if times > 1 else []

    check_extent(deep(DEEPEST - 1), 0)
    with pytest.raises(pickle.UnpicklingError, match="nested more than 100 times"):
        check_extent(deep(102), 0)


def test_a_part_that_is_held_many_times_is_counted_once(monkeypatch) -> None:
    counted = []
    extent = pickles._extent

    def counting(part: Any, extents: dict[int, int]) -> int:
        counted.append(part)
        return extent(part, extents)

    monkeypatch.setattr(pickles, "_extent", counting)
    check_extent([[1.0] * 100] * 50, 0)
    assert len(counted) == 100 + 50 + 1


@pytest.mark.parametrize(
    ("content", "size"),  # with the reference to the whole
    [
        ([1.0] * 9, 80),
        ([[1.0] * 4] * 2, 2 * (32 + 8) + 8),
        (["abc", b"de", np.zeros(5)], 3 + 2 + 40 + 4 * 8),
        ({"a": 1.5}, 1 + 3 * 8),
        ([3, True, None], 4 * 8),
    ],
)
def test_the_bytes_of_content_are_those_of_its_parts(monkeypatch, content: Any, size: int) -> None:
    monkeypatch.setattr(pickles, "FREE", size)
    check_extent(content, 0)
    monkeypatch.setattr(pickles, "FREE", size - 1)
    with pytest.raises(pickle.UnpicklingError, match=f"grow to more than {size - 1}"):
        check_extent(content, 0)


def test_a_larger_file_may_hold_more(monkeypatch) -> None:
    monkeypatch.setattr(pickles, "FREE", 1)
    check_extent([1.0] * 399, 100)
    with pytest.raises(pickle.UnpicklingError, match="its 100 bytes grow to more than 3200"):
        check_extent([1.0] * 400, 100)


def test_what_functions_are_given_is_counted(monkeypatch) -> None:
    monkeypatch.setattr(pickles, "FREE", 1000)
    budget = pickles._Budget(3)
    budget.spend("a" * 100, b"b" * 99, 5, [1] * 10, 0.5)  # 100 + 99 + 800
    budget.spend("c")
    with pytest.raises(pickle.UnpicklingError, match="its 3 bytes grow to more than"):
        budget.spend("d")


@pytest.mark.parametrize("number", [-(2**63), 2**64 - 1])
def test_numbers_of_64_bits_are_read_larger_ones_are_not(number: int) -> None:
    check_extent([number], 0)
    with pytest.raises(pickle.UnpicklingError, match="more than 64 bits"):
        check_extent([number + (1 if number > 0 else -1)], 0)
