"""What tests of whole sweeps share."""

from __future__ import annotations

from collections.abc import Sized
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

PNG = b"\x89PNG\r\n\x1a\n"
DRAWING = {
    "report.pictures": ("confusion", "curves", "levels", "reliability", "size_accuracy"),
    "report.sections.fronts": ("front",),
    "report.writing": ("violins",),
    "report.figures": ("confusion", "curves", "kept"),  # as the tracker takes them
}
"""What draws the pictures of reports: module -> functions, without their `draw_`."""


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of whole sweeps, which do not change it."""
    from tests.orchestrator.whole_sweeps import small_store

    return small_store(tmp_path_factory.mktemp("store") / "data")


@pytest.fixture
def drawn_pictures() -> None:
    """With `quick_end`: the pictures are drawn, and not written."""


@pytest.fixture
def quick_end(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps end without the pictures of their reports and with few draws of how lucky ensembles
    are: most of the time that an end takes, and the subject of tests of their own.
    """

    def unwritten(figure: object, content: BytesIO, **options: object) -> None:
        content.write(PNG)

    def undrawn(first: Any, *arguments: Any) -> Path | None:
        if isinstance(first, Sized) and not len(first):  # nothing to draw
            return None
        *_, path = (each for each in (first, *arguments) if isinstance(each, Path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)
        return path

    if "drawn_pictures" in request.fixturenames:
        monkeypatch.setattr("matplotlib.figure.Figure.savefig", unwritten)
    else:
        for module, names in DRAWING.items():
            for name in names:
                monkeypatch.setattr(f"orchestrator.{module}.draw_{name}", undrawn)
    monkeypatch.setattr("orchestrator.report.beside._started", lambda: None)  # patched here alone
    monkeypatch.setattr("orchestrator.ensembling.whole_choice.MOST_ENSEMBLE_DRAWS", 5)
