"""A whole sweep whose files lie in a bucket, with real Ray and an S3 server: its worker is killed,
then its driver, and the machine's cache with it.
"""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.object_store import ObjectStore
from tests.orchestrator.whole_sweeps import (
    command,
    line,
    small_store,
    wait_until,
    workers_of,
)
from trainables.contract.scores import Scores
from trainables.remote.objects import Objects

SWEEP = """
version: 1
name: tiny
data: {store: data, protocol: xsub, frames: 8, selection: {fraction: 0.3}}
parameters:
  train.epochs: {values: [2, 900], axis: cell}
model: {backbone: hpi_gcn_op, channels: 8, stages: [1], groups: 4}
train: {batch_size: 4, lr: 0.05, warmup_epochs: 0}
resources: {gpus: 0}
tracking: {uri: none}
storage: ${STORAGE:-runs}
ensembles:
  - {name: both, over: train.epochs}
"""


@pytest.fixture
def folder(tmp_path):
    small_store(tmp_path / "data")
    (tmp_path / "tiny.yaml").write_text(SWEEP)
    return tmp_path


def start(folder):
    return subprocess.Popen(
        line("sweep", "tiny.yaml"),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def scores_of(read):
    """The tables of test logits. read: the content of files by their names in the sweep."""
    return {name: content for name, content in read.items() if name.endswith("s.test.parquet")}


def below(run):
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for path in run.rglob("*")
        if path.is_file()
    }


def logits(content, tmp_path):
    file = tmp_path / "table.parquet"
    file.write_bytes(content)
    return Scores.load(file).logits.tobytes()


@pytest.mark.full
def test_a_sweep_in_a_bucket_survives_its_worker_its_driver_and_its_machine(
    folder: Path, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert command("sweep", "tiny.yaml", cwd=folder).returncode == 0
    expected = scores_of(below(folder / "runs/tiny"))
    assert len(expected) == 2

    storage = f"{object_store.bucket()}/runs"
    objects = Objects(f"{storage}/tiny")
    monkeypatch.setenv("STORAGE", storage)
    monkeypatch.setenv("ORCHESTRATE_CACHE", str(folder / "cache"))

    def checkpoint():
        """The version of the long trial's checkpoint in the bucket."""
        found = objects.list("trials")
        last = [name for name in found if "epochs900" in name and name.endswith("/last.pt")]
        return found[last[0]].version if last else None

    def restarted():
        return b"trial_restarted" in objects.read("journal.jsonl")

    driver = start(folder)
    wait_until(checkpoint, driver, seconds=300)
    [os.kill(worker, signal.SIGKILL) for worker in workers_of(driver.pid)]
    wait_until(restarted, driver)
    before = checkpoint()
    wait_until(lambda: checkpoint() != before, driver)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    shutil.rmtree(folder / "cache")
    assert not any("epochs900" in name and "result" in name for name in objects.list("trials"))

    again = command("sweep", "tiny.yaml", cwd=folder)
    assert again.returncode == 0, again.stderr
    assert "Final scores" in again.stdout
    there = {name: objects.read(name) for name in objects.list()}
    found = scores_of(there)
    assert found.keys() == expected.keys()
    for name, content in expected.items():
        assert logits(found[name], tmp_path) == logits(content, tmp_path), name
    assert not [name for name in there if ".attempt" in name or name.endswith(".partial")]
    attempts = folder / "cache" / "attempts"
    assert not list(attempts.glob("*/*"))

    shutil.rmtree(folder / "cache")
    for arguments in (["status", "tiny"], ["report", "tiny"], ["ensemble", "tiny"]):
        said = command(*arguments, "--storage", storage, cwd=folder)
        assert said.returncode == 0, said.stderr
    back = folder / "back" / "tiny"
    objects.fetch({name: back / name for name in objects.list()})
    said = command("sweep", "tiny.yaml", "--set", f"storage={back.parent}", cwd=folder)
    assert said.returncode == 0, said.stderr
    assert "complete" in said.stderr or "continuing" in said.stderr
