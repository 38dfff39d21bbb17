"""Questions have answers, and code that is shown is run by the tests."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_twenty_questions_have_answers():
    rows = re.findall(r"^\| (.+\?) \| `(.+)` \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    assert len(rows) >= 20
    assert all((ROOT / path).is_file() or (ROOT / path).is_dir() for _, path in rows)


def test_every_room_is_named():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    packages = [ROOT / "orchestrator", ROOT / "trainables"]
    rooms = [file.parent for package in packages for file in package.glob("*/__init__.py")]
    assert len(rooms) >= 20
    assert not [room for room in rooms if f"`{room.relative_to(ROOT)}/`" not in text]


def test_parts_of_your_own_are_shown_as_the_tests_run_them():
    text = (ROOT / "docs/extending.md").read_text()
    shown = re.findall(r"```python\n# (\S+)\n(.*?)```", text, re.S)
    assert len(shown) == 9
    for path, code in shown:
        assert code == (ROOT / "tests/outside" / path).read_text(), path
