"""What trials took, and what they share, reaches the journal and what is expected of the others."""

import pytest

from orchestrator.record.journal import read_journal
from tests.orchestrator.fake_run import Trial as Made
from tests.orchestrator.fake_run import result_of
from tests.orchestrator.tuning.callback_scene import Scene, Told, told
from trainables.contract.disk import write_json
from trainables.ray_trainable import (
    BEGAN,
    BRANCHED,
    CPU_S,
    SHARED,
    SHARED_EPOCHS,
    SHARED_S,
    WALL_S,
)


@pytest.fixture
def scene(tmp_path):
    return Scene(tmp_path)


@pytest.mark.parametrize(("epochs", "told"), [(2, [(64.0, 60.0, 0)]), (1, [])])
def test_what_a_whole_trial_took_is_passed_on(tmp_path, epochs, told):
    scene = Scene(tmp_path)
    remaining = Told()
    scene.callback._remaining = remaining
    scene.tell("start")
    for epoch in range(2 - epochs, 2):  # another attempt had trained the others
        scene.tell("result", {"epoch": epoch, "train_loss": 1.0})
    scene.tell("result", {"complete": True, WALL_S: 64.0, CPU_S: 60.0})
    scene.finish()
    scene.tell("complete")
    assert [trial.proposal for (trial,) in remaining.named("know")] == [scene.proposal]
    assert [call[1:] for call in remaining.named("finished")] == told
    assert remaining.named("end") == [("st_gcn-1",)]
    [finished] = [
        event
        for event in read_journal(scene.context.journal.path)
        if event["event"] == "trial_finished"
    ]
    assert ("wall_s" in finished) == bool(told)


def test_what_a_trial_shares_is_written_down_and_its_epochs_are_tracked_as_its_own(scene):
    scene.tell("start")
    scene.tell("result", {BRANCHED: "0123456789abcdef", SHARED_EPOCHS: 2, SHARED_S: 4.0})
    for epoch in range(2):
        scene.tell("result", {"epoch": epoch, "train_loss": 1.0, SHARED: True})
    scene.tell("result", {BEGAN: "fedcba9876543210", SHARED_EPOCHS: 3, SHARED_S: 5.0})
    assert [call[1] for call in scene.tracker.named("log_epoch")] == [0, 1]
    used, trained = (event for event in told(scene) if event["event"].startswith("beginning"))
    assert (used["event"], used["beginning"], used["epochs"]) == (
        "beginning_used",
        "0123456789abcdef",
        2,
    )
    assert (trained["event"], trained["beginning"], trained["seconds"]) == (
        "beginning_trained",
        "fedcba9876543210",
        5.0,
    )
    assert scene.lines()[-1].startswith("branched  st_gcn-1 after the 2 epochs")
    [running] = scene.callback._display.snapshot().trials
    assert (running.epoch, running.seconds_left) == (2, None)  # its own pace is not known yet


def test_the_end_of_a_trial_says_what_another_one_trained_for_it(scene):
    scene.callback._remaining = remaining = Told()
    scene.tell("start")
    for epoch in range(2):
        scene.tell("result", {"epoch": epoch, "train_loss": 1.0})
    scene.tell("result", {"complete": True, WALL_S: 64.0, CPU_S: 60.0})
    result = result_of(Made("joint", 0.0)).model_dump(mode="json")
    result |= {"shared_epochs": 1, "shared_seconds": 20.5}
    write_json(scene.proposal.folder(scene.folder).result_file, result)
    scene.tell("complete")
    finished = told(scene)[-1]
    assert (finished["wall_s"], finished["cpu_s"], finished["shared_seconds"]) == (64.0, 60.0, 20.5)
    assert [call[1:] for call in remaining.named("finished")] == [(64.0, 60.0, 1)]
