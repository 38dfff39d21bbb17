"""Commands that messages advise can be typed as they stand."""

import shlex
from pathlib import Path

import pytest

from orchestrator.record.commands import command


@pytest.mark.parametrize(
    ("run", "options", "address", "expected"),
    [
        ("runs/small", (), None, "orchestrate resume small"),
        ("runs/small", ("--yes",), None, "orchestrate resume small --yes"),
        ("elsewhere/small", (), None, "orchestrate resume small --storage elsewhere"),
        ("runs/small", (), "h:1", "orchestrate resume small --address h:1"),
        ("a b/c", (), "h:1", "orchestrate resume c --storage 'a b' --address h:1"),
    ],
)
def test_a_command_says_as_much_as_is_needed(run, options, address, expected):
    said = command("resume", Path(run), *options, address=address)
    assert said == expected
    assert shlex.join(shlex.split(said)) == said
