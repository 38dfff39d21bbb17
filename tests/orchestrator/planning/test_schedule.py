"""How long trials take together."""

import pytest

from orchestrator.planning.schedule import wall_time

CHAIN = {"a": 4.0, "b": 3.0, "c": 1.0}
AFTER = {"b": ("a",)}


@pytest.mark.parametrize(
    ("times", "after", "at_once", "expected"),
    [
        (CHAIN, AFTER, 1, 8.0),
        (CHAIN, AFTER, 4, 7.0),  # b waits for a
        ({"b": 3.0, "c": 1.0}, AFTER, 2, 3.0),  # a has ended before
        ({"c": 2.0}, {}, 8, 2.0),
        ({}, AFTER, 2, 0.0),
        ({"a": 1.0, "b": 1.0, "c": 1.0}, {}, 2, 2.0),  # the last runs alone
        ({"a": 5.0, "b": 1.0, "c": 1.0, "d": 1.0}, {}, 2, 5.0),  # beside the long one
        ({"a": 1.0, "b": 2.0, "c": 1.0}, {"c": ("a", "b")}, 2, 3.0),  # waits for both
        ({"a": 1.0}, {}, 0, 1.0),
    ],
)
def test_trials_start_in_order_as_soon_as_they_can(times, after, at_once, expected):
    assert wall_time(times, after, at_once) == expected


@pytest.mark.parametrize(("at_once", "expected"), [(1, 12.0), (2, 10.0), (3, 8.0)])
def test_what_waits_for_the_beginning_of_another_starts_while_that_goes_on(at_once, expected):
    """Of `a` the first 6 of 8 are what `b` and `c` wait for, each 2 long."""
    times = {"a begins": 6.0, "b": 2.0, "c": 2.0, "a": 2.0}
    after = {"b": ("a begins",), "c": ("a begins",)}
    assert wall_time(times, after, at_once, {"a begins": "a"}) == expected
