"""What may grow in a sweep that has run, and what may not change."""

import pytest

from orchestrator.sweep import parse_sweep
from orchestrator.sweep.growth import grown_part, growth

TEXT = """
version: 1
name: small
data: {store: nowhere, protocol: xsub}
parameters:
  sparsity.level: {values: [0.6, 0.8], axis: cell}
  model.groups: {values: [4, 8]}
  train.lr: {distribution: log_uniform, min: 0.02, max: 0.2}
  train.momentum: {distribution: uniform, min: 0.8, max: 0.9, step: 0.05}
method: {name: random, trials_per_cell: 4}
"""


def found(*changes, text=TEXT):
    return growth(parse_sweep("s.yaml", TEXT), parse_sweep("s.yaml", text, changes))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("method.trials_per_cell=6", "method.trials_per_cell: was 4, is now 6"),
        ("method.seeds=2", "method.seeds: was 1, is now 2"),
        (
            "parameters.sparsity.level.values=[0.9, 0.8, 0.6]",
            "parameters.sparsity.level.values: was [0.6, 0.8], is now [0.9, 0.8, 0.6]",
        ),
        (
            "parameters.model.groups.values=[4, 8, 16]",
            "parameters.model.groups.values: was [4, 8], is now [4, 8, 16]",
        ),
        ("parameters.train.lr.min=0.01", "parameters.train.lr.min: was 0.02, is now 0.01"),
        ("parameters.train.lr.max=0.4", "parameters.train.lr.max: was 0.2, is now 0.4"),
        (
            "parameters.train.momentum.min=0.7",
            "parameters.train.momentum.min: was 0.8, is now 0.7",
        ),
    ],
)
def test_more_trials_more_values_and_wider_ranges_are_growth(change, said):
    result = found(change)
    assert (result.grew, result.refused) == ((said,), ())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("method.trials_per_cell=3", "method.trials_per_cell: was 4, is now 3"),
        ("method.seed=1", "method.seed: was 0, is now 1"),
        (
            "parameters.model.groups.values=[4, 16]",
            "parameters.model.groups.values: was [4, 8], is now [4, 16]",
        ),
        ("parameters.train.lr.min=0.03", "parameters.train.lr.min: was 0.02, is now 0.03"),
        ("parameters.train.lr.max=0.1", "parameters.train.lr.max: was 0.2, is now 0.1"),
        (
            "parameters.train.lr.distribution=uniform",
            "parameters.train.lr: was {'distribution': 'log_uniform', 'min': 0.02, 'max': 0.2}, is"
            " now {'distribution': 'uniform', 'min': 0.02, 'max': 0.2}",
        ),
        # steps are counted from min
        (
            "parameters.train.momentum.min=0.77",
            "parameters.train.momentum.min: was 0.8, is now 0.77",
        ),
        (
            "parameters.train.momentum.step=0.025",
            "parameters.train.momentum.step: was 0.05, is now 0.025",
        ),
        (
            "parameters.model.groups.axis=cell",
            "parameters.model.groups.axis: was 'trial', is now 'cell'",
        ),
        (
            "parameters.train.weight_decay={values: [1e-4, 1e-3]}",
            "parameters.train.weight_decay: is searched now and was not",
        ),
    ],
)
def test_whatever_else_changes_is_refused(change, said):
    result = found(change)
    assert (result.grew, result.refused) == ((), (said,))


def test_a_parameter_that_is_searched_no_more_is_refused():
    text = TEXT.replace("  model.groups: {values: [4, 8]}\n", "")
    assert found(text=text).refused == ("parameters.model.groups: was searched and is not now",)


@pytest.mark.parametrize(
    "change",
    ["resources.cpus=2", "parameters.model.groups.values=[8, 4]", "train.epochs=70"],
)
def test_what_is_no_part_of_it_is_not_looked_at(change):
    result = found(change)
    assert (result.grew, result.refused) == ((), ())


def test_both_parts_are_read_back_as_they_were():
    part = grown_part(parse_sweep("s.yaml", TEXT))
    assert part == grown_part(parse_sweep("s.yaml", TEXT, ["resources.cpus=2"]))
    assert part["method"]["trials_per_cell"] == 4
    assert set(part) == {"parameters", "method"}
