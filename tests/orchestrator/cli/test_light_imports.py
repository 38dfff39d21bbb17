"""Commands that only look at files load no heavy library; held by
what is imported, not by seconds.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.orchestrator.sweep_files import SMALL, written
from trainables.data.store.reading import write_store
from trainables.data.synthetic import SyntheticConfig, synthetic_recordings
from trainables.layouts import load_layout

HEAVY = ("torch", "ray", "mlflow", "pandas")
PROBE = """
import sys
from orchestrator import cli
sys.argv = ["orchestrate", *sys.argv[1:]]
try:
    cli.main()
except SystemExit as end:
    assert not end.code, end.code
print("LOADED", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("light")
    config = SyntheticConfig(classes=2, clips_per_class=12, subjects=4, views=3, frames=8)
    recordings = synthetic_recordings(config, load_layout("ucla20"))
    write_store(path / "nowhere", recordings.clips, recordings.description)
    ensembles = "ensembles: [{name: e, over: data.stream, method: weights, weights: pyskl}]\n"
    written(path, SMALL + ensembles)
    return path


NETWORKS = ["models", "models --json", "models --help", "bench --help", "import-weights --help"]
FILES = ["schema", "validate s.yaml", "plan s.yaml", "plan s.yaml --json"]


@pytest.mark.parametrize(
    "arguments", ["--help", "validate --help", "data --help", *FILES, *NETWORKS]
)
def test_light_commands_stay_light(folder, arguments: str) -> None:
    found = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments.split()],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    loaded = found.stdout.rpartition("LOADED ")[2].split()
    assert "typer" in loaded
    assert not set(HEAVY) & set(loaded)
    if arguments == "--help":
        assert not {"pydantic", "numpy", "pyarrow", "yaml", "rich"} & set(loaded)
