"""What tests of whole sweeps share."""

from __future__ import annotations

from io import BytesIO

import pytest


@pytest.fixture
def quick_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps end without the pictures of their reports and with few draws of how lucky ensembles
    are: most of the time that an end takes, and the subject of tests of their own.
    """

    def not_drawn(figure: object, content: BytesIO, **options: object) -> None:
        content.write(b"\x89PNG\r\n\x1a\n")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", not_drawn)
    monkeypatch.setattr("orchestrator.ensembling.whole_choice.MOST_ENSEMBLE_DRAWS", 5)
