"""Whether a classifier is as often right as it says: calibration errors, the Brier score and the
bins of a reliability diagram.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trainables.contract.config import Frozen

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

BINS = 15
CHANCE_DRAWS, CHANCE_SEED = 100, 0


class Bin(Frozen):
    """The clips whose highest probability lies in one interval; (0, 1] is cut into equal ones."""

    clips: int
    confidence: float  # mean of their highest probabilities
    right: float  # share of them that is right


class Calibration(Frozen):
    """Confidence, the highest probability of a clip, against how often it is right.

    ece: expected calibration error, sum over the bins of (clips / all clips) |right - confidence|
    (Guo et al. 2017), with 15 bins of equal width; ece_equal_mass: with 15 bins of as many clips.
    Both lean upwards where clips are few: `ece_by_chance` is what a perfectly calibrated classifier
    of these confidences has on average (equal width). brier: mean over the clips of sum_k (p_k -
    [label = k])^2 (Brier 1950), between 0 and 2.
    """

    clips: int
    ece: float
    ece_equal_mass: float
    ece_by_chance: float
    brier: float
    confidence: float  # mean over all clips
    bins: tuple[Bin, ...]  # of equal width, those that hold a clip, in rising order

    @property
    def over_confident(self) -> float:
        """Mean confidence minus accuracy."""
        return self.confidence - sum(each.clips * each.right for each in self.bins) / self.clips


def calibration(probabilities: FloatArray, labels: IntArray) -> Calibration:
    """Of probabilities (N, K), whose rows sum to 1, against labels (N,); the first choice is the
    highest one, of equal ones that of the lower class number.
    """
    confidence = probabilities.max(axis=1)
    hits = (probabilities.argmax(axis=1) == labels).astype(np.float64)
    own = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    widths, masses = equal_width(confidence), equal_mass(confidence)
    clips = np.bincount(widths, minlength=BINS)
    sure, right = (np.bincount(widths, weights=each, minlength=BINS) for each in (confidence, hits))
    return Calibration(
        clips=len(labels),
        ece=error_of_bins(widths, confidence, hits),
        ece_equal_mass=error_of_bins(masses, confidence, hits),
        ece_by_chance=_by_chance(widths, confidence),
        brier=float(((probabilities**2).sum(axis=1) - 2 * own + 1).mean()),
        confidence=float(confidence.mean()),
        bins=tuple(
            Bin(clips=int(n), confidence=float(p / n), right=float(r / n))
            for n, p, r in zip(clips, sure, right, strict=True)
            if n
        ),
    )


def equal_width(confidence: FloatArray) -> IntArray:
    """The bin of each clip, (N,): b where b / 15 < confidence <= (b + 1) / 15."""
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def equal_mass(confidence: FloatArray) -> IntArray:
    """The bin of each clip, (N,): 15 bins of equally many clips (give or take one) in the order of
    their confidence; equal ones in the order of the table.
    """
    bins = np.empty(len(confidence), dtype=np.int64)
    bins[np.argsort(confidence, kind="stable")] = (
        np.arange(len(confidence)) * BINS // len(confidence)
    )
    return bins


def error_of_bins(bins: IntArray, confidence: FloatArray, hits: npt.NDArray[Any]) -> float:
    """sum_b |sum of hits - sum of confidences in b| / N, which is the calibration error."""
    gaps = np.bincount(bins, weights=hits - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(bins))


def _by_chance(bins: IntArray, confidence: FloatArray) -> float:
    """The mean error over draws in which a clip is right with the probability it is given."""
    rng = np.random.default_rng(CHANCE_SEED)
    draws = [
        error_of_bins(bins, confidence, rng.random(len(bins)) < confidence)
        for _ in range(CHANCE_DRAWS)
    ]
    return float(np.mean(draws))
