"""How much a trial does, by hand."""

import numpy as np
import pytest

from orchestrator.planning.expected import Expected
from orchestrator.planning.pace import CPU_PACE, FIELDS, Pace, Work, step_work, trial_work
from orchestrator.planning.sizes import Sizes
from tests.trainables.trial_configs import config_of
from trainables.data.store.cache import open_store
from trainables.data.store.reading import Split


@pytest.fixture
def sizes(store) -> Sizes:
    return Sizes(open_store(str(store)))


def split_of(train: int, selection: int, test: int) -> Split:
    return Split(*(np.arange(number) for number in (train, selection, test)))


def test_seconds_are_amounts_times_their_cost():
    work = Work(steps=3, gflops=2.0) + Work(trials=1) * 2
    assert work == Work(trials=2, steps=3, gflops=2.0)
    assert work.seconds(Pace(trials=0.5, steps=2.0, gflops=10.0, epochs=99.0)) == 1 + 6 + 20


def test_what_a_step_does(sizes, store):
    dense, sparse = config_of(store), config_of(store, 0.8)
    cost = sizes.count(dense)
    step = step_work(dense, cost)
    # 6 clips x 3 passes x 2 operations of each multiply-accumulate
    assert step.gflops == pytest.approx(6 * 3 * 2 * cost.training.gmacs)
    assert step.meganumbers == pytest.approx(6 * cost.training.features / 1e6)
    assert step.megaweights == pytest.approx(cost.training.params / 1e6)
    assert (step.steps, step.operations, step.masked) == (1, cost.training.operations, 0)
    assert step_work(sparse, cost).masked == sum(map(len, cost.kernels))


def test_operations_are_convolutions_and_joint_mixings(sizes, store):
    cost = sizes.count(config_of(store))
    # every convolution may be masked, except those before the blocks
    assert cost.training.operations > sum(map(len, cost.kernels))
    assert cost.deploy.operations < cost.training.operations


def test_what_a_trial_does(sizes, store):
    config = config_of(store, batch_size=4, eval_batch_size=5)
    cost = sizes.count(config)
    work = trial_work(config, sizes, split_of(train=11, selection=6, test=12))
    assert work.epochs == 4
    # two whole batches of four, and two batches of selection clips, of a third of the work
    assert work.epoch.steps == 2
    assert work.epoch.operations == pytest.approx((2 + 2 / 3) * cost.training.operations)
    assert work.epoch.gflops == pytest.approx((2 * 4 * 3 + 6) * 2 * cost.training.gmacs)
    # the deploy form scores all 18 clips, the training form the 6 it is compared on
    assert work.once.gflops == pytest.approx(2 * (18 * cost.deploy.gmacs + 6 * cost.training.gmacs))
    assert (work.once.trials, work.once.steps, work.epoch.epochs) == (1, 0, 1)


def test_clips_are_scored_once_for_every_view(sizes, store):
    config = config_of(store)
    split = split_of(train=11, selection=6, test=12)
    one = trial_work(config, sizes, split)
    data = config.data.model_copy(update={"pipeline": "pyskl", "views": 3})
    three = trial_work(config.model_copy(update={"data": data}), sizes, split)
    assert three.once.gflops == pytest.approx(3 * one.once.gflops)
    assert three.epoch == one.epoch  # while training one view of each clip is looked at


def test_an_epoch_that_passes_over_the_clips_again_has_more_steps_and_nothing_else(sizes, store):
    config, split = config_of(store, batch_size=4), split_of(train=8, selection=6, test=12)
    thrice = config.model_copy(update={"data": config.data.model_copy(update={"repeat": 3})})
    one, three = (trial_work(each, sizes, split) for each in (config, thrice))
    assert (one.epoch.steps, three.epoch.steps) == (2, 6)
    assert three.once == one.once


def test_fewer_clips_than_a_batch_are_a_step(sizes, store):
    config = config_of(store, batch_size=100)
    assert trial_work(config, sizes, split_of(5, 1, 1)).epoch.steps == 1


def test_expected_seconds_are_those_of_the_work(sizes, store):
    split = split_of(11, 6, 12)
    expected = Expected(sizes, split, CPU_PACE)
    config = config_of(store, 0.8)
    work = trial_work(config, sizes, split)
    found = expected.of(config)
    assert found.kind == "hpi_gcn_op/single/fixed_random/fast"
    whole = work.once + work.epoch * 4
    assert found.seconds == pytest.approx(whole.seconds(CPU_PACE))
    assert found.seconds > expected.of(config_of(store)).seconds  # masks cost


def test_every_cost_is_positive():
    assert all(getattr(CPU_PACE, name) >= 0 for name in FIELDS)
