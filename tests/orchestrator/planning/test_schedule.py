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
