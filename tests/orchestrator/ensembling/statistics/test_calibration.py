import numpy as np
import pytest

from orchestrator.ensembling.statistics.calibration import BINS, calibration
from tests import naive_statistics as naive


def probabilities(clips, classes, sharpness, seed=0):
    powers = np.exp(sharpness * np.random.default_rng(seed).normal(size=(clips, classes)))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("sharpness", [0.5, 2.0, 6.0])
def test_errors_match_naive(sharpness):
    rows = probabilities(130, 5, sharpness)
    labels = np.random.default_rng(1).integers(0, 5, 130)
    found, slow = calibration(rows, labels), (rows.tolist(), labels.tolist())
    assert found.ece == pytest.approx(naive.calibration_error(*slow, naive.bins_of_equal_width))
    assert found.ece_equal_mass == pytest.approx(
        naive.calibration_error(*slow, naive.bins_of_equal_mass)
    )
    assert found.brier == pytest.approx(naive.brier(*slow))
    assert sum(each.clips for each in found.bins) == 130


def test_a_sure_and_right_classifier_has_no_error_and_a_sure_and_wrong_one_all_of_it():
    labels = np.arange(8) % 4
    right, wrong = (
        calibration(np.eye(4)[labels], labels),
        calibration(np.eye(4)[1 - labels], labels),
    )
    assert (right.ece, right.ece_equal_mass, right.brier, right.ece_by_chance) == (0, 0, 0, 0)
    assert (wrong.ece, wrong.brier, wrong.over_confident) == (1, 2, 1)
    assert (len(right.bins), right.bins[0].clips) == (1, 8)


def test_a_calibrated_classifier_has_the_error_that_chance_gives_and_a_boasting_one_more():
    rng, rows = np.random.default_rng(7), probabilities(1000, 4, 2.0)
    draws = [(rng.random((1000, 1)) > rows.cumsum(axis=1)).sum(axis=1) for _ in range(30)]
    honest = [calibration(rows, labels) for labels in draws]
    # the mean of 30 errors has a standard error of about 4 %
    assert np.mean([each.ece for each in honest]) == pytest.approx(
        honest[0].ece_by_chance, rel=0.15
    )
    assert np.mean([each.over_confident for each in honest]) == pytest.approx(0.0, abs=0.01)
    boast = calibration(rows**3 / (rows**3).sum(axis=1, keepdims=True), draws[0])
    assert boast.ece > 3 * boast.ece_by_chance
    assert boast.over_confident > 0.1


@pytest.mark.parametrize("confidence", [1 / BINS, 2 / BINS, 1.0])
def test_the_upper_end_of_a_bin_belongs_to_it(confidence):
    rows = np.full((1, 40), (1 - confidence) / 39)
    rows[0, 3] = confidence
    (found,) = calibration(rows, np.array([3])).bins
    assert found.confidence == pytest.approx(confidence)
    assert calibration(rows, np.array([3])).ece == pytest.approx(1 - confidence)
