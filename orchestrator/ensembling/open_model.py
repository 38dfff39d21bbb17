"""A found model, opened for new clips: by its own networks, or a file that holds them all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.bundle import open_bundle
from orchestrator.ensembling.find_model import FoundModel
from orchestrator.ensembling.publishing import program_of
from trainables.contract.errors import UserError
from trainables.data.store.description import Description, Joints

if TYPE_CHECKING:
    from trainables.deploy.export.exported import Exported


class Model(Protocol):
    """What predicts, and what it was trained on."""

    @property
    def description(self) -> Description: ...

    def predict(self, clips: Sequence[Joints]) -> npt.NDArray[np.float64]:
        """Class probabilities (N, K) of N clips (M, T, V, 3), each of a length of its own."""


class ExportedModel:
    """A file that `orchestrate export` wrote, in the runtime that it is for."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @cached_property
    def _exported(self) -> Exported:
        from trainables.deploy.export.exported import open_exported

        return open_exported(self._file)

    @property
    def description(self) -> Description:
        return self._exported.about.description

    def predict(self, clips: Sequence[Joints]) -> npt.NDArray[np.float64]:
        """As `Model.predict`; clips of equal length run together."""
        of_length: dict[int, list[int]] = defaultdict(list)
        for number, clip in enumerate(clips):
            of_length[clip.shape[1]].append(number)
        rows = np.empty((len(clips), len(self.description.classes)))
        for numbers in of_length.values():
            persons = max(len(clips[number]) for number in numbers)
            together = np.zeros((len(numbers), persons, *clips[numbers[0]].shape[1:]), np.float32)
            for at, number in enumerate(numbers):
                together[at, : len(clips[number])] = clips[number]
            rows[numbers] = self._exported.probabilities(together.transpose(0, 4, 2, 3, 1))
        return rows


def open_model(found: FoundModel) -> Model:
    """The model, ready to predict; UserError where it cannot be read. One that is registered must
    have been fetched.
    """
    if found.kind == "exported" and found.path is not None:
        return ExportedModel(found.path)
    if found.kind == "published" and found.path is not None:
        return ExportedModel(program_of(found.path))
    if found.kind == "registered":
        raise UserError(f"{found.name}: must be fetched from its registry first")
    return open_bundle(found)
