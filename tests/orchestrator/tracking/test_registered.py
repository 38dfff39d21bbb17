"""A registered model is fetched once, by alias or version; what is none is named."""

from __future__ import annotations

import errno
import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from orchestrator.ensembling.find_model import find_model
from orchestrator.tracking import registered
from orchestrator.tracking.registered import fetched
from trainables.contract.disk import write_json
from trainables.contract.errors import UserError

WEIGHTS = b"weights"
BUNDLE = {
    "description": {
        "name": "pairs",
        "layout": "ucla20",
        "classes": ["sit", "stand"],
        "pipeline": "ctr",
        "protocols": {"xsub": {"column": "subject", "train": [1], "test": [3]}},
    },
    "members": {"net": {"store": "s", "protocol": "xsub", "frames": 16}},
    "digests": {"net": hashlib.sha256(WEIGHTS).hexdigest()},
    "recipe": {"trial": "net"},
}


class Refused(Exception):
    """As MLflow's own."""


class Page(list):
    """As MLflow's own."""


class Registry:
    """As much of a registry as is asked."""

    names = (*(f"a{number}" for number in range(7)), "other/net", "sweep.final")

    def search_registered_models(self, rule=None, page_token=None):
        """Three at a time."""
        found = [name for name in self.names if rule in (None, f"name = '{name}'")]
        first = int(page_token or 0)
        page = Page(SimpleNamespace(name=name) for name in found[first : first + 3])
        page.token = str(first + 3) if first + 3 < len(found) else None
        return page

    def get_registered_model(self, name):
        return SimpleNamespace(aliases={"champion": "2"})

    def search_model_versions(self, rule):
        name = rule.removeprefix("name = ").strip("'")
        return [
            SimpleNamespace(name=name, version=number, source=f"models:/m-{number}")
            for number in ("1", "2", "10")
        ]


@pytest.fixture
def downloads(monkeypatch, tmp_path):
    """What was downloaded; the store is a file that is there, the models hold one bundle."""
    done, bundles = [], {"count": 1}

    def download_artifacts(artifact_uri, dst_path, tracking_uri):
        done.append(artifact_uri)
        for number in range(bundles["count"]):
            folder = Path(dst_path) / "artifacts" / f"model{number}"
            write_json(folder / "bundle.json", BUNDLE)
            (folder / "net.pt").write_bytes(WEIGHTS)
        return dst_path

    (tmp_path / "mlflow.db").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("ORCHESTRATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(registered, "open_client", lambda uri: Registry())
    monkeypatch.setattr(registered, "load_mlflow", lambda: (Refused, OSError))
    artifacts = SimpleNamespace(download_artifacts=download_artifacts)
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(artifacts=artifacts))
    return SimpleNamespace(done=done, bundles=bundles, cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("models:/sweep.final@champion", "models:/sweep.final/2"),
        ("models:/sweep.final/1", "models:/sweep.final/1"),
        ("models:/sweep.final/latest", "models:/sweep.final/10"),
        ("models:/other/net/1", "models:/other/net/1"),
    ],
)
def test_it_is_fetched_once_as_a_bundle(downloads, text, source):
    first, again = (fetched(find_model(text)) for _ in range(2))
    assert downloads.done == [source]
    assert first == again
    assert (first.kind, first.name) == ("bundle", text)
    assert sorted(path.name for path in first.path.iterdir()) == ["bundle.json", "net.pt"]
    assert [path.name for path in first.path.parent.iterdir()] == [first.path.name]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models:/unheard@champion", "must be a model .*a6', 'other/net', 'sweep.final'"),
        ("models:/sweep.final@best", "must be an alias of sweep.final, it has 'champion'"),
        ("models:/sweep.final/7", "must be a version of sweep.final, it has '1', '2', '10'"),
    ],
)
def test_what_is_not_registered_is_refused_with_what_is(downloads, text, message):
    with pytest.raises(UserError, match=f"{text}: {message}"):
        fetched(find_model(text))
    assert downloads.done == []


@pytest.mark.parametrize("count", [0, 2])
def test_a_model_that_no_sweep_registered_is_refused_and_not_kept(downloads, count):
    downloads.bundles["count"] = count
    with pytest.raises(UserError, match="must be a model that a sweep registered, got another"):
        fetched(find_model("models:/sweep.final/1"))
    assert list((downloads.cache / "registered").iterdir()) == []


@pytest.mark.parametrize("damage", ["net.pt", "bundle.json"])
def test_a_model_that_was_changed_in_the_cache_is_fetched_again(downloads, damage):
    found = find_model("models:/sweep.final/1")
    path = fetched(found).path
    (path / damage).unlink()
    assert fetched(found).path == path
    assert (path / "net.pt").read_bytes() == WEIGHTS
    assert len(downloads.done) == 2


def test_a_cache_that_takes_no_file_is_said(downloads, monkeypatch):
    def refused(path, target):
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(UserError, match=r"cannot be had from .* Permission denied"):
        fetched(find_model("models:/sweep.final/1"))
