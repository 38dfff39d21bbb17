"""A model is registered as a server wants it, each bundle once, and what ships is the champion."""

from __future__ import annotations

import contextlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from orchestrator.ensembling.bundle import Bundle
from orchestrator.ensembling.collect import collect
from orchestrator.ensembling.final import finalize
from orchestrator.tracking.model import example_of, register, signature_of, take_title
from orchestrator.tracking.pages import PARENT, model_note
from tests.orchestrator.fake_run import Trial, make_run, make_sweep
from trainables.contract.config import DataConfig
from trainables.data.store.description import Description
from trainables.deploy.predict import _recordings


class Page(list):
    """As MLflow's own."""


class Server:
    """As much of a registry as `register` speaks to; like an MLflow server it takes `models:/ID`
    only together with that id.
    """

    def __init__(self):
        self.models = {}
        self.versions = []
        self.aliases = {}

    def search_registered_models(self, rule, page_token=None):
        if rule.startswith("name LIKE "):
            begins = rule.removeprefix("name LIKE ").strip("'").removesuffix("%")
            found = [model for name, model in self.models.items() if name.startswith(begins)]
        else:
            found = [model for name, model in self.models.items() if rule == f"name = '{name}'"]
        for model in found:
            own = {alias: v for (name, alias), v in self.aliases.items() if name == model.name}
            model.aliases = own
        page = Page(found)
        page.token = None
        return page

    def create_registered_model(self, name):
        self.models[name] = SimpleNamespace(name=name, description=None, tags={})
        return self.models[name]

    def update_registered_model(self, name, description):
        self.models[name].description = description

    def set_registered_model_tag(self, name, key, value):
        self.models[name].tags[key] = value

    def get_model_version(self, name, version):
        return next(v for v in self.versions if (v.name, v.version) == (name, version))

    def get_run(self, run):
        return SimpleNamespace(data=SimpleNamespace(tags={PARENT: run.partition("/")[0]}))

    def delete_registered_model_alias(self, name, alias):
        del self.aliases[name, alias]

    def search_model_versions(self, rule):
        return [version for version in self.versions if rule == f"name = '{version.name}'"]

    def create_model_version(self, name, source, run_id, tags, description, model_id):
        assert source == f"models:/{model_id}"
        number = str(1 + len(self.versions))
        version = SimpleNamespace(
            name=name, run_id=run_id, tags=tags, description=description, version=number
        )
        self.versions.append(version)
        return version

    def set_registered_model_alias(self, name, alias, version):
        self.aliases[name, alias] = version


@pytest.fixture
def logged(monkeypatch):
    """The ids of the models that were logged; MLflow itself is left out."""
    ids = []

    def log_model(**options):
        ids.append(f"m-{len(ids)}")
        assert options["signature"] is not None
        return SimpleNamespace(model_uri=f"models:/{ids[-1]}", model_id=ids[-1])

    mlflow = SimpleNamespace(
        pyfunc=SimpleNamespace(log_model=log_model),
        start_run=lambda run_id: contextlib.nullcontext(),
        set_tracking_uri=lambda uri: None,
    )
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    for name in ("signature_of", "example_of"):
        monkeypatch.setattr(f"orchestrator.tracking.model.{name}", lambda bundle: bundle)
    monkeypatch.setattr("orchestrator.tracking.model.Bundle", SimpleNamespace(load=str))
    return ids


def test_each_bundle_is_registered_once_with_the_id_of_its_model(tmp_path, logged):
    server, file = Server(), tmp_path / "bundle.json"
    champions = []
    for content in ("one", "one", "two", "one"):
        file.write_text(content)
        register(server, "http://host", "run", "sweep.final", tmp_path, "what it is")
        champions.append(server.aliases["sweep.final", "champion"])
    assert server.models["sweep.final"].description == "what it is"
    assert len(server.versions) == len(logged) == 2
    assert {version.run_id for version in server.versions} == {"run"}
    assert champions == ["1", "1", "2", "1"]  # what ships now, even where it is an older one


def test_a_description_follows_the_evaluations_until_a_person_changes_it(tmp_path, logged):
    server = Server()
    (tmp_path / "bundle.json").write_text("one")
    for note in ("75 % right", "80 % right", "80 % right"):
        register(server, "http://host", "run", "sweep.final", tmp_path, note)
        assert server.models["sweep.final"].description == note
    theirs = "80 % right, and used in the lab"
    server.update_registered_model("sweep.final", theirs)
    register(server, "http://host", "run", "sweep.final", tmp_path, "85 % right")
    assert server.models["sweep.final"].description == theirs


def test_only_what_a_sweep_ships_is_its_champion(tmp_path, logged):
    server = Server()
    (tmp_path / "bundle.json").write_text("one")
    for name, run in [
        ("sweep.old", "parent/1"),
        ("sweep.new", "parent/2"),
        ("sweep.more.final", "other/1"),  # of the sweep `sweep.more`
        ("sweeper.final", "parent/3"),
    ]:
        register(server, "http://host", run, name, tmp_path, "")
    take_title(server, "parent", "sweep", "sweep.new")
    champions = {name for name, alias in server.aliases}
    assert champions == {"sweep.new", "sweep.more.final", "sweeper.final"}


@pytest.mark.parametrize("channels", ["xyz", "xyc", "xy"])
def test_the_example_is_a_clip_that_the_model_takes(channels):
    about = {"name": "n", "classes": ["a", "b"], "layout": "coco17", "channels": channels}
    description = Description.model_validate(
        about | {"pipeline": "ctr", "protocols": {"p": {"column": "c", "train": [1], "test": [2]}}}
    )
    data = DataConfig(store="s", protocol="p", frames=16)
    example = example_of(Bundle(description, {"net": data}, {"trial": "net"}, {}))
    (clip,) = _recordings(example, 1, description)
    assert clip.shape == (1, 16, 17, 3)
    if channels == "xyc":
        assert 0 <= example[..., 2].min() <= example[..., 2].max() <= 1


def test_a_signature_says_clips_in_and_a_column_per_class_out(tmp_path):
    run = make_run(tmp_path, [Trial("joint", 0.6)])
    evaluation = finalize(run, make_sweep(), collect(run, make_sweep()), {})
    (row,) = evaluation.rows
    bundle = Bundle(
        Description.model_validate(
            {
                "name": "pairs",
                "layout": "ucla20",
                "classes": ["sit", "stand"],
                "pipeline": "ctr",
                "protocols": {"xsub": {"column": "subject", "train": [1], "test": [3]}},
            }
        ),
        {row.trials[0]: DataConfig(store="s", protocol="xsub", frames=16)},
        {"trial": row.trials[0]},
        {},
    )
    signature, example = signature_of(bundle), example_of(bundle)
    assert signature.outputs.input_names() == ["sit", "stand"]
    assert signature.inputs.inputs[0].shape == (-1, -1, -1, 20, 3)
    assert (example.shape, example.dtype) == ((1, 1, 16, 20, 3), np.float32)
    note = model_note(row, evaluation, "sweep.final")
    assert "100.00" in note
    assert "of 30 test clips" in note
    assert 'load_model("models:/sweep.final@champion")' in note
