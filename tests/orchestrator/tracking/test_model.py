"""A model is registered as a server wants it, and each bundle once."""

from __future__ import annotations

import contextlib
import sys
from types import SimpleNamespace

import pytest

from orchestrator.tracking.model import register


class Server:
    """As much of a registry as `register` speaks to; like an MLflow server it takes `models:/ID`
    only together with that id.
    """

    def __init__(self):
        self.models = []
        self.versions = []

    def search_registered_models(self, rule):
        return [name for name in self.models if rule == f"name = '{name}'"]

    def create_registered_model(self, name):
        self.models.append(name)

    def search_model_versions(self, rule):
        return [version for version in self.versions if rule == f"name = '{version.name}'"]

    def create_model_version(self, name, source, run_id, tags=None, model_id=None):
        assert source == f"models:/{model_id}"
        self.versions.append(SimpleNamespace(name=name, run_id=run_id, tags=tags))


@pytest.fixture
def logged(monkeypatch):
    """The ids of the models that were logged; MLflow itself is left out."""
    ids = []

    def log_model(**options):
        ids.append(f"m-{len(ids)}")
        return SimpleNamespace(model_uri=f"models:/{ids[-1]}", model_id=ids[-1])

    mlflow = SimpleNamespace(
        pyfunc=SimpleNamespace(log_model=log_model),
        start_run=lambda run_id: contextlib.nullcontext(),
        set_tracking_uri=lambda uri: None,
    )
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    return ids


def test_each_bundle_is_registered_once_with_the_id_of_its_model(tmp_path, logged):
    server, file = Server(), tmp_path / "bundle.json"
    for content in ("one", "one", "two", "one"):
        file.write_text(content)
        register(server, "http://host", "run", "sweep.final", tmp_path)
    assert server.models == ["sweep.final"]
    assert len(server.versions) == len(logged) == 2
    assert {version.run_id for version in server.versions} == {"run"}
