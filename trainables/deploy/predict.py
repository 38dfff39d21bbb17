"""Logits of deploy forms for raw clips and for stores, through the same store and batches that
trials are scored with. Knows no ensemble.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from trainables.contract.config import DataConfig
from trainables.contract.errors import UserError
from trainables.contract.scores import Scores
from trainables.data.batches.batches import Batches, Dealing
from trainables.data.readers.arrays import joints_of
from trainables.data.readers.checks import Problems
from trainables.data.readers.clip_files import Wanted, as_taken
from trainables.data.store.description import Channels, Description, Joints, layout_of
from trainables.data.store.in_memory import store_in_memory
from trainables.data.store.reading import Store
from trainables.data.store.writing import without_absent
from trainables.deploy.form import DeployForm
from trainables.layouts import Layout
from trainables.models.multilevel import MultiLevel
from trainables.training.evaluate import score

ShippedForm = DeployForm | MultiLevel
BATCH = 64


def score_clips(
    networks: Sequence[tuple[ShippedForm, DataConfig]],
    clips: Iterable[Any],
    description: Description,
) -> list[npt.NDArray[np.float32]]:
    """One array (N, K) of logits per network, row i for clip i.

    networks: deploy forms and what each sees, all of one data set. clips: raw recordings, each
    (T, V, C) or (M, T, V, C), in the units the data set was imported in and with its coordinates:
    C = 3, or 2 where the third is not known; a single actor is taken twice where all that trained
    were. description: of the data set the networks were trained
    on; its layout, coordinates and pipeline are used. UserError names every clip that no such
    recording is.
    """
    persons = networks[0][0].spec.persons
    recorded = _recordings(clips, persons, description)
    store = store_in_memory(recorded, description.model_copy(update={"persons": persons}))
    every = np.arange(len(recorded))
    return [
        _score(network, store, every, data, torch.device("cpu"))[1] for network, data in networks
    ]


def score_store(
    model: nn.Module,
    store: Store,
    indices: npt.NDArray[np.int64],
    data: DataConfig,
    device: torch.device,
) -> Scores:
    """Unlabelled scores of the clips at `indices` of a store, as `data` says they are seen."""
    positions, logits = _score(model.to(device), store, indices, data, device)
    return Scores.of(store.column("id")[positions].tolist(), logits)


def _score(
    model: nn.Module,
    store: Store,
    indices: npt.NDArray[np.int64],
    data: DataConfig,
    device: torch.device,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Positions in the store and logits (N, K) of the clips at `indices`, ascending."""
    batches = Batches(store, indices, data, Dealing(BATCH, device=device))
    positions, logits = score(model, batches.epoch(0))
    return positions.numpy(), logits.numpy()


def _recordings(clips: Iterable[Any], persons: int, description: Description) -> list[Joints]:
    """The clips as a store takes them, in order; UserError lists all that are none."""
    layout, problems, recorded = layout_of(description.layout), Problems(), list[Joints]()
    wanted = Wanted.of(description)
    for number, clip in enumerate(_listed(clips)):
        try:
            joints = _recording(f"clip {number}", clip, layout, description.channels)
            if len(joints) > persons:
                raise UserError(
                    f"clip {number}: must have at most {persons} persons, got {len(joints)}"
                )
        except UserError as error:
            problems.add(str(error))
            continue
        recorded.append(as_taken(joints, wanted))
    problems.raise_any()
    if not recorded:
        raise UserError("clips: must be at least one, got none")
    return recorded


def _listed(clips: Iterable[Any]) -> Iterator[Any]:
    """One after another; UserError where they are no list of anything."""
    if not isinstance(clips, str | bytes | Mapping):
        with suppress(TypeError):  # an array without dimensions says so only here
            return iter(clips)
    raise UserError(f"clips: must be arrays, one per clip, got {type(clips).__name__}")


def _recording(place: str, clip: Any, layout: Layout, channels: Channels) -> Joints:
    """One clip as it would be imported, (M, T, V, 3), without last persons that are all zero."""
    try:
        values = np.asarray(clip)
    except ValueError as error:
        raise UserError(
            f"{place}: must be an array (frames, joints, coordinates), got lists of different"
            " lengths"
        ) from error
    # a store's own clips of image coordinates without confidence have a third number, which is 0
    if channels == "xy" and values.ndim and values.shape[-1] == 3 and not values[..., 2].any():
        values = values[..., :2]
    return without_absent(joints_of(place, values, layout, channels))
