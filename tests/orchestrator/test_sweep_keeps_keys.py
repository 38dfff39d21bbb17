"""A whole sweep whose store and folder lie in a bucket: the keys of the bucket open it, for the
driver and for workers, and are nowhere to be seen afterwards.
"""

import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.object_store import KEYS, ObjectStore
from tests.orchestrator.whole_sweeps import SWEEP, command, small_store
from trainables.remote.filesystem import opened

# MLflow's tables use an option that its database layer has deprecated.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"
)

PLANTED = [
    form
    for secret in (*KEYS.values(), "MLFLOWplanted1", "hunter2")
    for form in {secret, quote(secret, safe="")}
]


def seen(folder: Path) -> list[str]:
    """Where a planted secret is: files below the folder, or their names."""
    return [
        f"{path}: {secret}"
        for path in folder.rglob("*")
        for secret in PLANTED
        if secret in path.name or (path.is_file() and secret.encode() in path.read_bytes())
    ]


@pytest.mark.full
def test_a_sweep_in_a_bucket_tells_its_keys_nobody(
    tmp_path: Path, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, folder = object_store.bucket(), tmp_path / "here"
    folder.mkdir()
    monkeypatch.setenv("ORCHESTRATE_CACHE", str(folder / "cache"))
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "MLFLOWplanted1")
    (folder / "tiny.yaml").write_text(SWEEP.replace("200]", "3]"))
    places = ["--set", f"storage={bucket}/runs", "--set", f"data.store={bucket}/data"]
    cluster = ["--partition", "p", "--time", "1:00:00", "--cpus", "1", "--dry-run"]
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="ray") as rays_own:
        monkeypatch.setenv("RAY_TMPDIR", rays_own)
        done = [
            command(
                "data", "push", str(small_store(tmp_path / "data")), f"{bucket}/data", cwd=folder
            ),
            command("plan", "tiny.yaml", *places, cwd=folder),
            command("sweep", "tiny.yaml", *places, cwd=folder),
            command("doctor", "tiny.yaml", *places, "--json", cwd=folder),
            command("launch", "slurm", "tiny.yaml", *places, *cluster, cwd=folder),
        ]
        assert [each.returncode for each in done] == [0] * len(done), done
        refused = [
            command("sweep", "tiny.yaml", "--set", f"{place}=s3://me:hunter2@b/x", cwd=folder)
            for place in ("storage", "data.store")
        ]
        assert [each.returncode for each in refused] == [2, 2]
        said = "".join(each.stdout + each.stderr for each in (*done, *refused))
        assert "Final scores" in said
        assert "read, written, listed and deleted" in said
        assert "downloading" in said
        assert not [secret for secret in PLANTED if secret in said]
        assert list(Path(rays_own).rglob("raylet.out"))
        assert seen(Path(rays_own)) == []
    files, root = opened(bucket)
    files.get(root, str(tmp_path / "bucket"), recursive=True)
    assert list((tmp_path / "bucket").rglob("result.json"))
    assert (folder / "mlflow.db").is_file()
    assert list((folder / "cache" / "stores").glob("data-*/joints.npy"))
    assert seen(tmp_path) == []
