"""Sweeps on real Ray nodes: something dies, or is broken from the start, or is sent from there."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from orchestrator.record.journal import read_journal

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import drill
from faults import MAIN, make_store
from postgres import NoPostgres, programs
from servers import RayNodes, TrackingServer, wait_for

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
                wait_for(lambda: len(list(site.glob("came-*"))) == 3, "three trials there", 900)
                cluster.start(cpus=1)
                cluster.wait(3)
                (site / "fail").touch()
                code = driver.wait(900)
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


NOTED = """
import os
import sys
import time

def note(event, arguments):
    if event == "http.client.send" and bytes(arguments[1][:4]) == b"PUT ":
        with open(os.environ["NOTES"], "a") as notes:
            notes.write(os.environ["WHO"] + " " + arguments[1].split()[1].decode() + "\\n")
        while os.environ["WHO"] == "node" and not os.path.exists(os.environ["NOTES"] + ".go"):
            time.sleep(0.05)

sys.addaudithook(note)
"""
"""Read by every Python of a node, and of the driver: who uploads what. What a node uploads stalls
until the test lets it go.
"""


def test_nodes_send_the_files_of_their_trials_and_no_trial_waits_for_a_store_that_stalls(tmp_path):
    """All trials finish, on one slot of each node, before the first of their files has arrived."""
    make_store(tmp_path)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(NOTED)
    text = drill.SWEEP.replace("STORE", str(tmp_path / "store")).replace("EACH", "2")
    (tmp_path / "drill.yaml").write_text(text)
    with drill.short_folder() as rays:
        cluster = RayNodes(rays, tmp_path / "nodes.log")
        tracking = TrackingServer(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path, cluster.host)
        path = f"{tmp_path / 'site'}:{cluster.environment.get('PYTHONPATH', '')}"
        seen = {"PYTHONPATH": path, "NOTES": str(tmp_path / "notes")}
        try:
            tracking.start()
            cluster.environment |= {**seen, "WHO": "node"}
            cluster.start()  # the driver joins one of them
            cluster.start()
            cluster.wait(2)
            tracking.wait()
            command = [*MAIN, "sweep", "drill.yaml", "--address", cluster.address]
            command += ["--set", f"tracking.uri={tracking.address}", "--set", "train.epochs=10"]
            environment = cluster.environment | {"WHO": "driver"}
            journal = tmp_path / "runs/drill/journal.jsonl"

            def finished() -> bool:
                assert driver.poll() is None, (tmp_path / "said").read_text()
                kinds = [event["event"] for event in read_journal(journal)]
                return kinds.count("trial_finished") == 4

            with (tmp_path / "said").open("w") as said:
                driver = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=said)
            try:
                wait_for(finished, "four finished trials", 900)
                (tmp_path / "notes.go").touch()
                assert driver.wait(900) == 0, (tmp_path / "said").read_text()
            finally:
                driver.kill()
                driver.wait()
            runs = drill.runs_of_trials(tracking.address)
        finally:
            cluster.end()
            tracking.kill()
    sent = [line.split() for line in (tmp_path / "notes").read_text().splitlines()]
    times = Counter((who, place) for who, place in sent if any(f"/{run}/" in place for run in runs))
    assert "node" in {who for who, _ in times}
    assert set(times.values()) == {1}
    assert all(files >= drill.ARTIFACTS for files in runs.values())
