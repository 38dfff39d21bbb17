"""Commands that only look at files load no heavy library; held by
what is imported, not by seconds.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from orchestrator.simulation.curves import save_curves
from orchestrator.sweep import load_sweep
from orchestrator.trials.space import all_trials
from tests.orchestrator.simulation.made_curves import made_curves
from tests.orchestrator.sweep_files import SMALL, written
from trainables.data.store.reading import write_store
from trainables.data.synthetic import SyntheticConfig, synthetic_recordings
from trainables.layouts import load_layout

HEAVY = ("torch", "ray", "mlflow", "pandas")
PROBE = """
import contextlib, io, json, sys
from orchestrator import cli
loaded = {}
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["orchestrate", *arguments.split()]
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            cli.main()
        except SystemExit as end:
            assert not end.code, (arguments, end.code)
    loaded[arguments] = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps(loaded))
"""
NETWORKS = ["models", "models --json", "models --help", "bench --help", "import-weights --help"]
NEW_CLIPS = ["predict --help", "export --help"]
FILES = ["schema", "validate s.yaml", "plan s.yaml", "plan s.yaml --json"]
CLEANING = ["clean --help", "doctor --help", "plot --help"]
LAUNCHED = ["launch --help", "launch ray quickstart --address http://h:8265 --dry-run"]
SIMULATED = ["simulate simulated.yaml --curves curves.parquet", "curves --help"]
COMMANDS = [
    "--help",
    "validate --help",
    "data --help",
    *FILES,
    *CLEANING,
    *LAUNCHED,
    *SIMULATED,
    *NETWORKS,
    *NEW_CLIPS,
]
"""In this order in one process: what an earlier one loads, a later one has loaded too."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("light")
    config = SyntheticConfig(classes=2, clips_per_class=12, subjects=4, views=3, frames=8)
    recordings = synthetic_recordings(config, load_layout("ucla20"))
    write_store(path / "nowhere", recordings.clips, recordings.description)
    ensembles = "ensembles: [{name: e, over: data.stream, method: weights, weights: pyskl}]\n"
    written(path, SMALL + ensembles)
    simulated = SMALL.replace("epochs: 2, milestones: [1]", "epochs: 5")
    curves = made_curves(
        all_trials(load_sweep(written(path, simulated, "simulated.yaml"))), lambda trial: (0.5, 2.0)
    )
    save_curves(curves, path / "curves.parquet")
    return path


@pytest.fixture(scope="module")
def loaded(folder):
    """Command -> the packages that are loaded after it."""
    probe = [sys.executable, "-c", PROBE, json.dumps(COMMANDS)]
    found = subprocess.run(probe, cwd=folder, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


@pytest.mark.parametrize("arguments", COMMANDS)
def test_light_commands_stay_light(loaded, arguments: str) -> None:
    assert "typer" in loaded[arguments]
    assert not set(HEAVY) & set(loaded[arguments])


def test_help_loads_nothing_of_what_commands_need(loaded) -> None:
    assert not {"pydantic", "numpy", "pyarrow", "yaml", "rich"} & set(loaded["--help"])


def test_a_process_that_loads_or_ends_looks_for_no_cycles():
    code = (
        "import atexit, gc, sys\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 1000, gc.get_threshold()[0]))\n"
        "from orchestrator.cli import main; sys.argv = ['orchestrate', '--version']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # the first that was registered is the last
    assert done.stdout.splitlines()[-1] == "True 10000"
