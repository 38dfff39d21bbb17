"""A small store, and plans of a small sweep on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.planning.plan import plan
from tests.orchestrator.sweep_files import LOCAL, SMALL, loaded
from trainables.data.store.reading import write_store
from trainables.data.synthetic import SyntheticConfig, synthetic_recordings
from trainables.layouts import load_layout


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """3 classes x 12 clips of 4 subjects, two of which train in xsub."""
    path = tmp_path_factory.mktemp("plan") / "synth"
    config = SyntheticConfig(classes=3, clips_per_class=12, subjects=4, views=3, frames=8)
    recordings = synthetic_recordings(config, load_layout("ucla20"))
    write_store(path, recordings.clips, recordings.description)
    return path


@pytest.fixture
def planned(tmp_path, store):
    """Make the plan of the small sweep with overrides."""

    def make(*overrides: str):
        sweep = loaded(
            tmp_path,
            SMALL,
            f"data.store={store}",
            f"storage={tmp_path / 'runs'}",
            LOCAL,
            *overrides,
        )
        return sweep, plan(sweep)

    return make
