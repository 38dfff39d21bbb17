"""Sweeps on real Ray nodes in which something dies, or is broken from the start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.record.journal import read_journal

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import drill
from faults import MAIN, make_store
from postgres import NoPostgres, programs
from servers import RayNodes, wait_for

pytestmark = [
    pytest.mark.full,
    # MLflow's tables use an option that its database layer has deprecated.
    pytest.mark.filterwarnings(
        "ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"
    ),
]


def has_postgres() -> bool:
    try:
        programs()
    except NoPostgres:
        return False
    return True


def test_a_short_drill_finds_nothing_missing_and_nothing_double(tmp_path):
    """MLflow is away at the start and killed, the driver is killed, a second one is refused."""
    seen = drill.drill(tmp_path, 8, sqlite=not has_postgres(), short=True)
    assert [what for what, holds, _ in seen.checks if not holds] == []
    assert len(seen.faults) == 4


BROKEN = """
import os
import sys
import time
from pathlib import Path

here = Path(__file__).parent


class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "trainables.run":
            (here / f"came-{os.getpid()}").touch()
            while not (here / "fail").exists():
                time.sleep(0.1)
            raise RuntimeError("CUDA error: uncorrectable ECC error encountered")


sys.meta_path.insert(0, Broken())
"""
"""Read by every Python that starts on a node whose every trial fails, once the test says so: when
one has failed the node is left alone, and the others are to be there by then.
"""


def test_a_node_whose_trials_all_fail_is_excluded_and_costs_no_trial(tmp_path):
    make_store(tmp_path)
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(BROKEN)
    text = drill.SWEEP.replace("STORE", str(tmp_path / "store")).replace("EACH", "6")
    (tmp_path / "drill.yaml").write_text(text)
    with drill.short_folder() as rays:
        cluster = RayNodes(rays, tmp_path / "nodes.log")
        try:
            cluster.start(cpus=0)  # no trial runs beside those of the broken node
            whole = cluster.environment
            cluster.environment = whole | {"PYTHONPATH": f"{site}:{whole.get('PYTHONPATH', '')}"}
            cluster.start(cpus=3)
            cluster.environment = whole
            cluster.wait(2)
            command = [*MAIN, "sweep", "drill.yaml", "--address", cluster.address]
            command += ["--set", "tracking.uri=none", "--set", "failure.max_restarts=1"]
            with (tmp_path / "said").open("w") as said:
                driver = subprocess.Popen(command, cwd=tmp_path, env=whole, stderr=said)
            try:
                wait_for(lambda: len(list(site.glob("came-*"))) == 3, "three trials there", 240)
                cluster.start(cpus=1)
                cluster.wait(3)
                (site / "fail").touch()
                code = driver.wait(300)
            finally:
                driver.kill()
                driver.wait()
        finally:
            cluster.end()
    output = (tmp_path / "said").read_text()
    assert code == 0, output
    assert output.count("EXCLUDED  node ") == 1
    kinds = [each["event"] for each in read_journal(tmp_path / "runs/drill/journal.jsonl")]
    assert kinds.count("node_excluded") == 1
    assert kinds.count("trial_finished") == 12
