"""A Tune run describes its trials once, however often it is asked."""

from types import SimpleNamespace

import pytest
from ray.tune.execution import tune_controller
from ray.tune.execution.experiment_state import _ExperimentCheckpointManager

from orchestrator.tuning.snapshots import one_snapshot


class Syncer:
    """Stands for Tune's copying to where the run is kept."""

    def __init__(self):
        self.asked = []

    def sync_up(self, *_places):
        self.asked.append("copy")
        return True

    def wait(self):
        self.asked.append("wait")


def manager(syncer):
    """As Tune makes it."""
    storage = SimpleNamespace(
        experiment_driver_staging_path="", experiment_fs_path="", syncer=syncer
    )
    return tune_controller._ExperimentCheckpointManager(storage=storage, checkpoint_period=0)


def test_one_snapshot_is_written_and_every_copy_is_waited_for():
    written, syncer = [], Syncer()
    with one_snapshot():
        snapshots = manager(syncer)
    snapshots.sync_up_experiment_state(lambda: written.append(1))
    snapshots.sync_up_experiment_state(lambda: written.append(2))
    snapshots.sync_up_experiment_state(lambda: written.append(3), force=True, wait=True)
    assert written == [1]
    assert syncer.asked[-1] == "wait"


def test_a_snapshot_that_could_not_be_written_is_written_later():
    written = []
    with one_snapshot():
        snapshots = manager(Syncer())
    with pytest.raises(OSError, match="full"):
        snapshots.sync_up_experiment_state(fail)
    snapshots.sync_up_experiment_state(lambda: written.append(1))
    assert written == [1]


def fail():
    raise OSError("full")


def test_tune_has_its_own_again_afterwards():
    with one_snapshot():
        assert tune_controller._ExperimentCheckpointManager is not _ExperimentCheckpointManager
    assert tune_controller._ExperimentCheckpointManager is _ExperimentCheckpointManager
