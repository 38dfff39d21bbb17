"""The clips of one trial: its store, how that splits, and batches of each part on the trial's
device. Knows no network.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from trainables.contract.config import TrialConfig
from trainables.contract.scores import Scores
from trainables.data.batches.batches import Batches, Dealing
from trainables.data.store.cache import open_store
from trainables.data.store.reading import Split, Store

Part = Literal["selection", "test"]


@dataclass(frozen=True)
class Inputs:
    """What a trial's network sees."""

    config: TrialConfig
    store: Store
    split: Split
    device: torch.device

    @classmethod
    def open(cls, config: TrialConfig, device: torch.device, root: Path) -> Inputs:
        """root: where a relative `data.store` starts."""
        store = open_store(config.data.store, root)
        return cls(config, store, store.split(config.data.protocol, config.data.selection), device)

    @property
    def held_out(self) -> bool:
        """Whether there are clips to choose on."""
        return len(self.split.selection) > 0

    def training(self) -> Batches:
        """Clips to train on, with augmentation and labels."""
        config = self.config
        return self._batches(
            self.split.train,
            config.train.batch_size,
            training=True,
            persons=config.collapses_persons(self.store.info.persons),
        )

    def selection(self) -> Batches | None:
        """Clips to choose the epoch on, one view of each, with labels; None: none are held out."""
        if not self.held_out:
            return None
        return self._batches(self.split.selection, self.config.train.eval_batch_size, views=1)

    def scored(self) -> dict[Part, Batches]:
        """Clips to score, all their views, without labels, by part of the split."""
        size = self.config.train.eval_batch_size
        parts: dict[Part, np.ndarray] = {"selection": self.split.selection, "test": self.split.test}
        return {
            part: self._batches(clips, size, labelled=False)
            for part, clips in parts.items()
            if part == "test" or self.held_out
        }

    def scores(self, index: Tensor, logits: Tensor, labels: Tensor | None = None) -> Scores:
        """Logits (N, K) of the clips at `index` (N,) of the store, under their ids."""
        ids = self.store.column("id")[index.numpy()].tolist()
        return Scores.of(ids, logits.numpy(), None if labels is None else labels.numpy())

    def labels(self, index: Tensor) -> Tensor:
        """(N,) int64: the classes of the clips at `index` (N,) of the store."""
        return torch.from_numpy(self.store.column("label")[index.numpy()])

    def _batches(
        self,
        clips: np.ndarray,
        size: int,
        *,
        training: bool = False,
        labelled: bool = True,
        views: int | None = None,
        persons: bool = False,
    ) -> Batches:
        return Batches(
            self.store,
            clips,
            self.config.data,
            Dealing(
                size,
                device=self.device,
                training=training,
                seed=self.config.seed,
                labelled=labelled,
                views=views,
                persons=persons,
            ),
        )
