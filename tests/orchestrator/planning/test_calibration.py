"""What trials took corrects what is expected of others."""

import pytest

from orchestrator.planning.calibration import (
    REMEMBERED,
    Correction,
    Observations,
    correction_of,
    kind_of,
)
from orchestrator.record.times import Factor, Times
from tests.trainables.trial_configs import config_of


def known(**factors: float) -> Correction:
    kinds = {kind.replace("__", "/"): Factor(1, value) for kind, value in factors.items()}
    return Correction(kinds)


@pytest.mark.parametrize(
    ("kind", "factor"),
    [
        ("st_gcn/single/dense", 2.0),
        ("st_gcn/single/rigl", 2.5),  # the median of its network's kinds
        ("st_gcn/nested/rigl", 3.0),  # of its backbone's
        ("aa_gcn/single/dense", 3.5),  # of all
    ],
)
def test_the_nearest_kinds_correct(kind, factor):
    found = known(
        st_gcn__single__dense=2.0, st_gcn__single__set=3.0, st_gcn__mixture__set=9.0, ctr_gcn=4.0
    )
    assert found.of(kind) == factor


def test_nothing_known_corrects_nothing():
    assert Correction().of("st_gcn/single/dense") == 1.0
    observed = Observations()
    observed.add("st_gcn", 0.0, 1.0)
    observed.add("st_gcn", 1.0, 0.0)
    assert observed.correction() == Correction()


def test_the_newest_word_counts():
    assert known(a=2.0).over(known(a=5.0, b=7.0)) == known(a=2.0, b=7.0)
    sweeps = [Times("here", {"a": Factor(2, value)}) for value in (1.0, 9.0, 2.0)]
    assert correction_of(sweeps).kinds == {"a": Factor(6, 2.0)}


def test_the_median_of_the_last_trials_counts():
    observed = Observations()
    for used in (10.0, 30.0, 20.0):
        observed.add("a", 10.0, used)
    assert observed.correction().kinds == {"a": Factor(3, 2.0)}
    for _ in range(REMEMBERED):
        observed.add("a", 10.0, 50.0)
    assert observed.correction().kinds == {"a": Factor(3 + REMEMBERED, 5.0)}


def test_kinds_are_backbone_network_generator_and_how_steps_are_computed():
    assert kind_of(config_of("store")) == "hpi_gcn_op/single/dense/fast"
    assert kind_of(config_of("store", fast="off")) == "hpi_gcn_op/single/dense"
    assert kind_of(config_of("store", 0.8)) == "hpi_gcn_op/single/fixed_random/fast"


def test_plain_trials_correct_fast_ones_until_there_are_such():
    assert known(st_gcn__single__dense=2.0).of("st_gcn/single/dense/fast") == 2.0
    both = known(st_gcn__single__dense=2.0, st_gcn__single__dense__fast=1.2)
    assert both.of("st_gcn/single/dense/fast") == 1.2
    assert both.of("st_gcn/single/dense") == 2.0
