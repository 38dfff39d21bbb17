"""A sweep's final model as one folder that predicts from raw clips: its deploy forms, what each
sees, and how their scores are combined.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.combine import combine_rows
from orchestrator.ensembling.find_model import BUNDLE
from orchestrator.ensembling.results import FinalEvaluation, Row
from trainables.contract.artifacts import TrialDir
from trainables.contract.config import DataConfig
from trainables.contract.disk import write_json
from trainables.contract.errors import UserError
from trainables.contract.foreign_files import FAILURES, reason
from trainables.data.store.cache import open_store
from trainables.data.store.description import Description
from trainables.data.store.writing import sha256

if TYPE_CHECKING:
    from trainables.deploy.predict import Network

FILE = BUNDLE


def bundle_folder(run: Path, row: Row) -> Path:
    """Where the bundle of an ensemble or of a single network lies."""
    if row.kind == "ensemble":
        return run / "ensembles" / row.name / "model"
    return run / "trials" / row.trials[0] / "model"


def write_bundle(run: Path, evaluation: FinalEvaluation) -> Path | None:
    """Gather the bundle of the evaluation's headline anew; returns its folder, None where there is
    nothing to ship.

    The store's description is read, its clips are not; a store that is away by now is not asked
    where an earlier bundle has its description. UserError where a file is missing.
    """
    row = evaluation.headline
    if row is None:
        return None
    out = bundle_folder(run, row)
    partial = out.with_name(f".{out.name}.partial")
    folders = {trial: TrialDir(run / "trials" / trial) for trial in row.trials}
    try:
        for folder in folders.values():
            result = folder.load()
            folder.checked(folder.config_file, result)
            folder.checked(folder.deploy_file, result)
        configs = {trial: folder.load_config().data for trial, folder in folders.items()}
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for trial, folder in folders.items():
            shutil.copyfile(folder.deploy_file, partial / f"{trial}.pt")
        content = {
            "description": _description(row.division.store, out).model_dump(mode="json"),
            "members": {trial: data.model_dump(mode="json") for trial, data in configs.items()},
            "digests": {trial: sha256(partial / f"{trial}.pt") for trial in configs},
            "recipe": _recipe(evaluation, row.name),
        }
        write_json(partial / FILE, content)
        shutil.rmtree(out, ignore_errors=True)
        partial.rename(out)
    except OSError as error:
        raise UserError(f"{error.filename or out}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def _description(store: str, earlier: Path) -> Description:
    """What the store says of itself, or what it said when the bundle `earlier` was written."""
    try:
        info = open_store(store).info
    except UserError:
        if not (earlier / FILE).is_file():
            raise
        return Bundle.load(earlier).description
    return Description.model_validate(
        {name: getattr(info, name) for name in Description.model_fields}
    )


def _recipe(evaluation: FinalEvaluation, name: str) -> dict[str, Any]:
    """{"trial": id} for a network, {"combine": ..., "sources": [[weight, recipe], ...]} for an
    ensemble of networks or ensembles; a source's weight is followed by its recipe and, where it has
    one, by the temperature that its logits are divided by.
    """
    row = next(row for row in evaluation.rows if row.name == name)
    if row.kind == "member":
        return {"trial": row.trials[0]}
    return {
        "combine": row.combine,
        "sources": [
            [
                weight,
                _recipe(evaluation, source),
                *([row.temperatures[source]] if source in row.temperatures else []),
            ]
            for source, weight in row.weights.items()
        ],
    }


class Bundle:
    """A bundle, ready to predict; made by `Bundle.load`.

    Its networks are read at the first prediction and kept.
    """

    def __init__(
        self,
        folder: Path,
        description: Description,
        members: dict[str, DataConfig],
        recipe: dict[str, Any],
    ) -> None:
        self.folder = folder
        self.description = description
        self.members = members
        self.recipe = recipe

    @classmethod
    def load(cls, folder: Path | str) -> Bundle:
        """What `write_bundle` wrote; UserError where a file is missing, damaged or another one."""
        folder = Path(folder)
        try:
            content = json.loads((folder / FILE).read_text())
            members = {
                trial: DataConfig.model_validate(data) for trial, data in content["members"].items()
            }
            description = Description.model_validate(content["description"])
            recipe = content["recipe"]
            digests = dict(content.get("digests", {}))
        except FAILURES as error:
            raise UserError(
                f"{folder}: must be a bundle with a readable {FILE}, but {reason(error)}"
            ) from error
        _check_digests(folder, digests)
        return cls(folder, description, members, recipe)

    @cached_property
    def _networks(self) -> list[tuple[Network, DataConfig]]:
        from trainables.deploy.form import load_deploy
        from trainables.deploy.sparse.runtime import run_sparse

        forms = [load_deploy(self.folder / f"{trial}.pt") for trial in self.members]
        return [
            (run_sparse(form) or form, data)
            for form, data in zip(forms, self.members.values(), strict=True)
        ]

    def predict(self, clips: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
        """Class probabilities (N, K) of N raw clips, each (T, V, C) or (M, T, V, C), in the units
        and coordinates the data set was imported in. Networks run on their kept weights alone where
        that is faster here.

        UserError names every clip that no such recording is, by its position.
        """
        from trainables.deploy.predict import score_clips

        logits = dict(
            zip(self.members, score_clips(self._networks, clips, self.description), strict=True)
        )
        scores = _combined(self.recipe, logits).astype(np.float64)
        shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities: npt.NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
        return probabilities


def _check_digests(folder: Path, digests: dict[str, str]) -> None:
    """Every deploy form is the one that was gathered; bundles before 0.3 have no digests."""
    problems = []
    for trial, digest in digests.items():
        file = folder / f"{trial}.pt"
        if not file.is_file():
            problems.append(f"{file}: is missing, {FILE} names it")
        elif sha256(file) != digest:
            problems.append(f"{file}: must be the file that {FILE} names, but it was changed")
    if problems:
        raise UserError.of(problems)


def _combined(
    recipe: dict[str, Any], logits: dict[str, npt.NDArray[np.float32]]
) -> npt.NDArray[np.float32]:
    if "trial" in recipe:
        return logits[recipe["trial"]]
    rows, weights = [], []
    for weight, source, *temperature in recipe["sources"]:
        own = _combined(source, logits)
        rows.append(own / np.float32(temperature[0]) if temperature else own)
        weights.append(weight)
    return combine_rows(rows, weights, recipe["combine"])
