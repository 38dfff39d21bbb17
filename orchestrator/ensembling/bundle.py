"""A sweep's final model as one folder that predicts from raw clips: its deploy forms, what each
sees, and how their scores are combined.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.combine import combine_rows
from orchestrator.ensembling.find_model import BUNDLE, FoundModel
from orchestrator.ensembling.recipes import check_recipe
from orchestrator.ensembling.results import FinalEvaluation, Row
from orchestrator.ensembling.trained_on import description_of
from orchestrator.record.copies import fetch, here
from trainables.contract.artifacts import TrialDir
from trainables.contract.config import DataConfig
from trainables.contract.errors import UserError
from trainables.contract.foreign_files import FAILURES, reason
from trainables.contract.names import name_problem
from trainables.data.store.description import Description, layout_of
from trainables.data.store.writing import sha256

if TYPE_CHECKING:
    from trainables.deploy.predict import ShippedForm

FILE = BUNDLE


def open_bundle(found: FoundModel) -> Bundle:
    """The networks of a trial, an ensemble or a bundle's folder, and how they are combined, where
    they lie. UserError where a file is missing or changed, or the store's description is nowhere.
    """
    path, run, row = found.path, found.run, found.row
    if path is None or found.kind in ("exported", "published", "registered"):
        raise UserError(
            f"{found.place}: must be a trial, an ensemble or a folder that a sweep ships, got"
            f" {'an' if found.kind == 'exported' else 'a'} {found.kind} model"
        )
    if found.kind == "bundle":
        fetch([path])
        return Bundle.load(path)
    if found.kind == "trial":
        return Bundle.of_trial(TrialDir(path), run, row)
    evaluation = None if run is None else FinalEvaluation.load(run)
    if run is None or evaluation is None or row is None:
        raise UserError(f"{path}: must be an ensemble of a final evaluation, which is not there")
    return Bundle.of_row(run, evaluation, row)


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
    """Networks, what each sees and how their logits are combined, ready to predict.

    The networks are read at the first prediction and kept.
    """

    def __init__(
        self,
        description: Description,
        members: dict[str, DataConfig],
        recipe: dict[str, Any],
        files: dict[str, Path],
    ) -> None:
        self.description = description
        self.members = members  # trial -> what its network sees
        self.recipe = recipe
        self.files = files  # trial -> its deploy form

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
        check_recipe(f"{folder / FILE}: recipe", recipe, members)
        _check_members(folder, members, digests)
        _check_digests(folder, digests)
        return cls(
            description, members, recipe, {trial: folder / f"{trial}.pt" for trial in members}
        )

    @classmethod
    def of_row(cls, run: Path, evaluation: FinalEvaluation, row: Row) -> Bundle:
        """A member or ensemble of a sweep's final evaluation, from the folders of its trials."""
        folders = {trial: TrialDir(run / "trials" / trial) for trial in row.trials}
        files = {trial: _deploy_file(folder) for trial, folder in folders.items()}
        members = {trial: folder.load_config().data for trial, folder in folders.items()}
        results = [folder.load() for folder in folders.values()]
        description = description_of(row.division.store, results, run)
        return cls(description, members, _recipe(evaluation, row.name), files)

    @classmethod
    def of_trial(cls, folder: TrialDir, run: Path | None = None, row: Row | None = None) -> Bundle:
        """The network of a finished trial; run: the sweep's folder, where it lies in one; row: what
        its final evaluation says of it, which knows where the store was moved to.
        """
        trial = folder.path.absolute().name
        file = _deploy_file(folder)
        data = folder.load_config().data
        description = description_of(
            row.division.store if row else data.store, [folder.load()], run
        )
        return cls(description, {trial: data}, {"trial": trial}, {trial: file})

    @cached_property
    def _networks(self) -> list[tuple[ShippedForm, DataConfig]]:
        from trainables.deploy.form import load_deploy
        from trainables.deploy.sparse.runtime import run_sparse

        layout, networks = layout_of(self.description.layout), []
        for trial, data in self.members.items():
            form = load_deploy(self.files[trial])
            has = (form.spec.joints, form.spec.classes)
            if has != (layout.size, len(self.description.classes)):
                raise UserError(
                    f"{self.files[trial]}: must be a network for {layout.size} joints and"
                    f" {len(self.description.classes)} classes, as {self.description.name} has, got"
                    f" {has[0]} and {has[1]}"
                )
            networks.append((run_sparse(form) or form, data))
        return networks

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
        scores = combined(self.recipe, logits).astype(np.float64)
        shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities: npt.NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
        return probabilities


def _deploy_file(folder: TrialDir) -> Path:
    """The deploy form of a finished trial, checked to be the one that it wrote."""
    result = folder.load()
    folder.checked(folder.config_file, result)
    return folder.checked(here(folder.deploy_file), result)


def _check_members(folder: Path, members: dict[str, DataConfig], digests: dict[str, str]) -> None:
    """Members are called like files of this folder, and all have a digest or, as before 0.3, none
    has.
    """
    problems = [
        f"{folder / FILE}: members: a name {problem}"
        for name in members
        if (problem := name_problem(name)) is not None
    ]
    if digests and digests.keys() != members.keys():
        problems.append(f"{folder / FILE}: digests must be of all members and of nothing else")
    if problems:
        raise UserError.of(problems)


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


def combined(
    recipe: dict[str, Any], logits: dict[str, npt.NDArray[np.float32]]
) -> npt.NDArray[np.float32]:
    if "trial" in recipe:
        return logits[recipe["trial"]]
    rows, weights = [], []
    for weight, source, *temperature in recipe["sources"]:
        own = combined(source, logits)
        rows.append(own / np.float32(temperature[0]) if temperature else own)
        weights.append(weight)
    return combine_rows(rows, weights, recipe["combine"])
