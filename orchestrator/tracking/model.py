"""A sweep's final model in MLflow's registry: the bundle as a pyfunc model, with the packages it
needs.
"""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

from orchestrator.ensembling.bundle import FILE
from orchestrator.tracking.runs import quoted

REQUIREMENTS = ["mlflow", "numpy", "pandas", "pyarrow", "pydantic", "pyyaml", "scipy", "torch"]
BUNDLE = "bundle"
"""Tag of a model's version: which bundle it is of."""


def register(client: Any, address: str, run: str, name: str, bundle: Path) -> None:
    """Log the bundle under `run` and register it as the next version of the model `name`; one that
    is registered already is left alone.

    address: of the store that `client` speaks to.
    """
    import mlflow

    # it holds the digests of all other files
    digest = hashlib.sha256((bundle / FILE).read_bytes()).hexdigest()[:16]
    if not client.search_registered_models(f"name = {quoted(name)}"):
        client.create_registered_model(name)
    versions = client.search_model_versions(f"name = {quoted(name)}")
    if any(version.tags.get(BUNDLE) == digest for version in versions):
        return
    packages = Path(__file__).parents[1]
    mlflow.set_tracking_uri(address)
    # Recorded, not filtered: MLflow sets filters of its own. It would like to check clips, which
    # may be of any length.
    with warnings.catch_warnings(record=True), mlflow.start_run(run_id=run):
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(packages / "tracking" / "pyfunc_model.py"),
            artifacts={"bundle": str(bundle)},
            code_paths=[str(packages), str(packages.parent / "trainables")],
            pip_requirements=REQUIREMENTS,
        )
    # The fluent way of registering prints. A server takes a source of this kind for a model's id.
    client.create_model_version(
        name, logged.model_uri, run, tags={BUNDLE: digest}, model_id=logged.model_id
    )
