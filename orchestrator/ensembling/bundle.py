"""An ensemble as one folder that predicts from raw clips: its deploy forms, what each sees, and how
their scores are combined.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.combine import combine_rows
from orchestrator.record.proposals import load_proposals
from trainables.contract.artifacts import TrialDir, write_json
from trainables.contract.config import DataConfig
from trainables.contract.errors import UserError
from trainables.data.store.cache import open_store
from trainables.data.store.description import Description

FILE = "bundle.json"


def write_bundle(run: Path, ensemble: str) -> Path:
    """Gather ensembles/NAME/model of a finished sweep; returns that folder.

    The store's description is read, its clips are not.
    """
    out = run / "ensembles" / ensemble / "model"
    shutil.rmtree(out, ignore_errors=True)
    # of equal cells the first, as collected
    trials = {proposal.cell: proposal.trial for proposal in reversed(load_proposals(run))}
    members = json.loads((out.parent / "members.json").read_text())["members"]
    trials |= {member["cell"]: member["trial"] for member in members}
    folders = {member["trial"]: TrialDir(run / "trials" / member["trial"]) for member in members}
    for folder in folders.values():
        result = folder.load()
        folder.checked(folder.config_file, result)
        folder.checked(folder.deploy_file, result)
    configs = {trial: folder.load_config().data for trial, folder in folders.items()}
    out.mkdir(parents=True)
    for trial, folder in folders.items():
        shutil.copyfile(folder.deploy_file, out / f"{trial}.pt")
    info = open_store(next(iter(configs.values())).store).info
    content = {
        "description": Description.model_validate(
            {name: getattr(info, name) for name in Description.model_fields}
        ).model_dump(mode="json"),
        "members": {trial: data.model_dump(mode="json") for trial, data in configs.items()},
        "recipe": _recipe(run, ensemble, trials),
    }
    write_json(out / FILE, content)
    return out


def _recipe(run: Path, name: str, trials: dict[str, str]) -> dict[str, Any]:
    """{"trial": id} for a member, {"combine": ..., "sources": [[weight, recipe], ...]} for an
    ensemble of members or ensembles.
    """
    path = run / "ensembles" / name / "weights.json"
    if not path.is_file():
        return {"trial": trials[name]}
    known = json.loads(path.read_text())
    return {
        "combine": known["combine"],
        "sources": [
            [weight, _recipe(run, source, trials)] for source, weight in known["weights"].items()
        ],
    }


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle, ready to predict."""

    folder: Path
    description: Description
    members: dict[str, DataConfig]
    recipe: dict[str, Any]

    @classmethod
    def load(cls, folder: Path) -> Bundle:
        """What `write_bundle` wrote."""
        try:
            content = json.loads((folder / FILE).read_text())
        except (OSError, ValueError) as error:
            raise UserError(
                f"{folder}: must be a bundle with a readable {FILE}: {error}"
            ) from error
        members = {
            trial: DataConfig.model_validate(data) for trial, data in content["members"].items()
        }
        return cls(
            folder, Description.model_validate(content["description"]), members, content["recipe"]
        )

    def predict(self, clips: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float64]:
        """Class probabilities (N, K) of raw clips, each (T, V, 3) or (M, T, V, 3)."""
        from trainables.deploy.predict import score_clips

        members = [(self.folder / f"{trial}.pt", data) for trial, data in self.members.items()]
        logits = dict(zip(self.members, score_clips(members, clips, self.description), strict=True))
        scores = _combined(self.recipe, logits).astype(np.float64)
        shifted = np.exp(scores - scores.max(axis=1, keepdims=True))
        probabilities: npt.NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
        return probabilities


def _combined(
    recipe: dict[str, Any], logits: dict[str, npt.NDArray[np.float32]]
) -> npt.NDArray[np.float32]:
    if "trial" in recipe:
        return logits[recipe["trial"]]
    weights, sources = zip(*recipe["sources"], strict=True)
    return combine_rows(
        [_combined(source, logits) for source in sources], weights, recipe["combine"]
    )
