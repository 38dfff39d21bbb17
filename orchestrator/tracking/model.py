"""A sweep's final model in MLflow's registry: the bundle as a pyfunc model, with the packages it
needs, what it takes and gives, and an example.
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.bundle import FILE, Bundle
from orchestrator.tracking.client import every
from orchestrator.tracking.pages import PARENT, WRITTEN, digest_of_note, is_ours
from orchestrator.tracking.runs import quoted
from trainables.data.store.description import invented_clip, layout_of

REQUIREMENTS = ["mlflow", "numpy", "pandas", "pyarrow", "pydantic", "pyyaml", "scipy", "torch"]
OF_BUNDLE = "bundle"
"""Tag of a model's version: which bundle it is of."""
CHAMPION = "champion"
"""Alias of the version that the sweep ships now."""


def register(client: Any, address: str, run: str, name: str, bundle: Path, note: str) -> None:
    """Log the bundle under `run`, register it as the next version of the model `name` and make that
    the champion; a bundle that is registered already is not logged again.

    address: of the store that `client` speaks to. note: description of the model, which takes the
    place of an earlier one of ours.
    """
    # it holds the digests of all other files
    digest = hashlib.sha256((bundle / FILE).read_bytes()).hexdigest()[:16]
    found = client.search_registered_models(f"name = {quoted(name)}")
    _describe(client, found[0] if found else client.create_registered_model(name), note)
    versions = client.search_model_versions(f"name = {quoted(name)}")
    known = next((each for each in versions if each.tags.get(OF_BUNDLE) == digest), None)
    if known is None:
        logged = _log(address, run, bundle)
        # the fluent way prints; a server takes a source of this kind for a model's id
        known = client.create_model_version(
            name,
            logged.model_uri,
            run,
            tags={OF_BUNDLE: digest},
            description=note,
            model_id=logged.model_id,
        )
    client.set_registered_model_alias(name, CHAMPION, known.version)


def _describe(client: Any, model: Any, note: str) -> None:
    """A description that a person wrote or changed stays."""
    known = model.description or ""
    if known == note or is_ours(known, model.tags):
        if known != note:
            client.update_registered_model(model.name, note)
        client.set_registered_model_tag(model.name, WRITTEN, digest_of_note(note))


def take_title(client: Any, parent: str, sweep: str, name: str) -> None:
    """What the sweep whose run is `parent` shipped before is no champion any more, now that it
    ships the model `name`.
    """
    begins = f"{sweep}."
    for model in [*every(client.search_registered_models, f"name LIKE {quoted(f'{begins}%')}")]:
        version = dict(model.aliases).get(CHAMPION)
        if version is None or model.name == name or not model.name.startswith(begins):
            continue
        run = client.get_model_version(model.name, str(version)).run_id
        if run and client.get_run(run).data.tags.get(PARENT) == parent:
            client.delete_registered_model_alias(model.name, CHAMPION)


def _log(address: str, run: str, bundle: Path) -> Any:
    """The bundle as a logged model of the run."""
    import mlflow

    packages = Path(__file__).parents[1]
    mlflow.set_tracking_uri(address)
    shipped = Bundle.load(bundle)
    # Recorded, not filtered: MLflow sets filters of its own.
    with warnings.catch_warnings(record=True), mlflow.start_run(run_id=run):
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=str(packages / "tracking" / "pyfunc_model.py"),
            artifacts={"bundle": str(bundle)},
            code_paths=[str(packages), str(packages.parent / "trainables")],
            pip_requirements=REQUIREMENTS,
            signature=signature_of(shipped),
            input_example=example_of(shipped),
        )


def signature_of(bundle: Bundle) -> Any:
    """Clips (N, M, T, V, 3), float32, any number of any length, to a column of probabilities for
    each class.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    joints = layout_of(bundle.description.layout).size
    clips = TensorSpec(np.dtype(np.float32), (-1, -1, -1, joints, 3))
    columns = [ColSpec("double", name) for name in bundle.description.classes]
    return ModelSignature(inputs=Schema([clips]), outputs=Schema(columns))


def example_of(bundle: Bundle) -> npt.NDArray[np.float32]:
    """A clip that nobody recorded, (1, 1, T, V, 3), of as many frames as the networks see; no clip
    of the data set, whose licence may forbid to pass it on.
    """
    frames, about = next(iter(bundle.members.values())).frames, bundle.description
    return invented_clip(layout_of(about.layout), about.channels, persons=1, frames=frames)[None]
