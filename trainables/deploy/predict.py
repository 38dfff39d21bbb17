"""Logits of deploy forms for raw clips and for stores, through the same store and batches that
trials are scored with. Knows no ensemble.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from trainables.contract.config import DataConfig
from trainables.contract.errors import UserError
from trainables.contract.scores import Scores
from trainables.data.batches.batches import Batches
from trainables.data.store.reading import Clip, Description, Store, write_store
from trainables.deploy.form import load_deploy
from trainables.training.evaluate import score

BATCH = 64


def score_clips(
    members: Sequence[tuple[Path, DataConfig]],
    clips: Sequence[npt.NDArray[np.float32]],
    description: Description,
) -> list[npt.NDArray[np.float32]]:
    """One array (N, K) of logits per member, row i for clip i.

    members: deploy form and what it sees. clips: raw recordings, each (T, V, 3) or (M, T, V, 3), in
    the units the data set was imported in. description: of the data set the members were trained
    on; its layout and pipeline are used.
    """
    models = [load_deploy(path) for path, _ in members]
    persons = max(model.spec.persons for model in models)
    recorded = [
        Clip(id=f"{number:09d}", label=0, joints=_as_recording(clip, persons, number))
        for number, clip in enumerate(clips)
    ]
    found = []
    with TemporaryDirectory() as folder:
        write_store(
            Path(folder) / "clips", recorded, description.model_copy(update={"persons": persons})
        )
        store = Store.open(Path(folder) / "clips")
        for model, (_, data) in zip(models, members, strict=True):
            batches = Batches(
                store,
                np.arange(len(clips)),
                data,
                batch_size=BATCH,
                device=torch.device("cpu"),
                training=False,
                seed=0,
                labelled=False,
            )
            found.append(score(model, batches.epoch(0))[1].numpy())
    return found


def score_store(
    model: nn.Module,
    store: Store,
    indices: npt.NDArray[np.int64],
    data: DataConfig,
    device: torch.device,
) -> Scores:
    """Unlabelled scores of the clips at `indices` of a store, as `data` says they are seen."""
    batches = Batches(
        store,
        indices,
        data,
        batch_size=BATCH,
        device=device,
        training=False,
        seed=0,
        labelled=False,
    )
    index, logits = score(model.to(device), batches.epoch(0))
    return Scores.of(store.column("id")[index.numpy()].tolist(), logits.numpy())


def _as_recording(
    clip: npt.NDArray[np.float32], persons: int, number: int
) -> npt.NDArray[np.float32]:
    """The clip as (M, T, V, 3), M at most `persons`."""
    joints = np.asarray(clip, dtype=np.float32)
    if joints.ndim == 3:
        joints = joints[None]
    if joints.ndim != 4 or joints.shape[3] != 3 or joints.shape[0] > persons:
        raise UserError(
            f"clip {number}: must be (frames, joints, 3) or (up to {persons} persons, frames,"
            f" joints, 3), got {np.shape(clip)}"
        )
    return joints
