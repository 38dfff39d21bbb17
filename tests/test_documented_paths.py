"""Questions have answers, and code that is shown is run by the tests."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_twenty_questions_have_answers():
    rows = re.findall(r"^\| (.+\?) \| `(.+)` \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    assert len(rows) >= 20
    assert all((ROOT / path).is_file() or (ROOT / path).is_dir() for _, path in rows)


def test_parts_of_your_own_are_shown_as_the_tests_run_them():
    text = (ROOT / "docs/extending.md").read_text()
    shown = re.findall(r"```python\n# (\S+)\n(.*?)```", text, re.S)
    assert len(shown) == 9
    for path, code in shown:
        assert code == (ROOT / "tests/outside" / path).read_text(), path
