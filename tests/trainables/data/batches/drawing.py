"""What training draws for its clips, in the order in which the pipelines draw it."""

from __future__ import annotations

import numpy as np

from tests import naive_data
from trainables.data.batches.transforms import crop_training, sample_training


def drawn(
    pipeline: str, lengths: np.ndarray, frames: int, rng: np.random.Generator
) -> list[naive_data.Draws]:
    """For clips of these lengths, brought to `frames` frames."""
    if pipeline == "ctr":
        first, kept = crop_training(lengths, rng)
        angles = rng.uniform(-0.3, 0.3, size=(len(lengths), 3))
        return [
            naive_data.Draws(first=first[i], kept=kept[i], angles=tuple(angles[i]))
            for i in range(len(lengths))
        ]
    degrees = rng.integers(-60, 60, size=(len(lengths), 2), endpoint=True)
    scale = rng.uniform(0.5, 1.5, size=len(lengths))
    sampled = sample_training(lengths, frames, rng)
    return [
        naive_data.Draws(degrees=tuple(degrees[i]), scale=scale[i], frames=sampled[i])
        for i in range(len(lengths))
    ]
