"""Descriptions in MLflow: names in them are no Markdown, and a person's stay."""

from __future__ import annotations

import pytest

from orchestrator.tracking.pages import (
    WRITTEN,
    digest_of_note,
    ended_note,
    is_ours,
    model_note,
    sweep_note,
)
from tests.orchestrator.tracking.mlflow_cases import evaluated

pytestmark = pytest.mark.usefixtures("quick_end")


@pytest.mark.parametrize(
    ("name", "title", "code"),
    [
        ("final", "final", "`final`"),
        ("a](http://b)", "a\\](http://b)", "`a](http://b)`"),
        ("a`b``c", "a\\`b\\`\\`c", "``` a`b``c ```"),
        ("<b>*x*_y_", "\\<b\\>\\*x\\*\\_y\\_", "`<b>*x*_y_`"),
    ],
)
def test_names_are_no_marks(tmp_path, name, title, code):
    assert sweep_note(name, "1", "run").startswith(f"**Sweep {title}**: [charts](#/")
    _, evaluation = evaluated(tmp_path)
    row = evaluation.rows[0].model_copy(update={"name": name})
    assert f"It ships {code}: " in ended_note("s", row, f"s.{name}", "1", "run")
    note = model_note(row, evaluation, f's."{name}')
    assert note.startswith(f"{code} is a network")
    assert f'load_model("models:/s.\\"{name}@champion")' in note


@pytest.mark.parametrize(
    ("now", "ours"),
    [("", True), ("**Sweep s**: links", True), ("**Sweep s**: links, and mine", False)],
)
def test_a_description_is_ours_until_a_letter_is_changed(now, ours):
    written = {WRITTEN: digest_of_note("**Sweep s**: links")}
    assert is_ours(now, written) == ours
    assert is_ours(now, {}) == (not now)
