"""Sweeps whose search makes trials one by one: what is wrong is said before they start."""

import pytest

from orchestrator.planning.check import checked_sweep
from trainables.contract.errors import UserError

TEXT = """
version: 1
name: small
data: {store: nowhere, protocol: xsub}
parameters:
  sparsity.level: [0.0, 0.9]
  train.lr: {min: 0.001, max: 1.0, distribution: log_uniform}
  MORE
sparsity: {from: dense}
train: {epochs: 30}
method: {name: tpe, trials_per_cell: 6}
tracking: {uri: none}
"""
WIDTH = "model.channels: {values: [32, 64], axis: trial}"
STREAMS = "data.stream: {values: [joint, bone], axis: trial}"


def checked(folder, more, *changes):
    (folder / "small.yaml").write_text(TEXT.replace("MORE", more))
    return checked_sweep(folder / "small.yaml", changes, data=False)


@pytest.mark.parametrize(("more", "leaf"), [(WIDTH, "model.channels"), (STREAMS, "data.stream")])
def test_what_a_dense_trial_need_not_have_is_not_searched_within_cells(tmp_path, more, leaf):
    with pytest.raises(UserError) as caught:
        checked(tmp_path, more)
    [problem] = caught.value.problems
    assert f"small.yaml:8 parameters.{leaf}: must be a cell axis (axis: cell)" in problem
    assert checked(tmp_path, more.replace("axis: trial", "axis: cell"))
    assert checked(tmp_path, more, "method.name=random")
    assert checked(tmp_path, more, "sparsity.from=null")


def test_asha_with_one_trial_in_a_cell_is_one_error(tmp_path):
    with pytest.raises(UserError) as caught:
        checked(tmp_path, "", "method.trials_per_cell=1", "early_terminate={type: asha}")
    [problem] = caught.value.problems
    assert "asha compares trials of one cell and needs" in problem
