"""Starting from another trial's weights: which folder, which file, and everything that can be wrong
with it.
"""

import pytest
import torch
from torch import nn

from tests.orchestrator.fake_run import Trial, result_of
from tests.trainables.sparsity.small import attached, network
from trainables.contract.artifacts import TrialDir
from trainables.contract.config import ModelConfig, SparsityConfig, TrialConfig
from trainables.contract.errors import UserError
from trainables.sparsity.source import source_folder, start_from
from trainables.training.checkpoint import save_tensors

MODEL = ModelConfig(backbone="st_gcn")


@pytest.fixture
def trial(tmp_path):
    """A finished trial as far as its weights go: the best epoch's are ones, the last one's twos."""
    folder = TrialDir(tmp_path / "trial")
    config = TrialConfig.model_validate(
        {"data": {"store": "s", "protocol": "p"}, "model": {"backbone": "st_gcn"}}
    )
    folder.path.mkdir()
    folder.config_file.write_text(config.model_dump_json())
    folder.result_file.write_text(result_of(Trial("joint", 0.0)).model_dump_json())
    for path, value in ((folder.best_file, 1.0), (folder.checkpoint_file, 2.0)):
        save_tensors(
            path,
            {
                "model": {
                    name: torch.full_like(tensor, value)
                    for name, tensor in network().state_dict().items()
                }
            },
        )
    return folder


def refused(model, folder, config=MODEL):
    with pytest.raises(UserError) as caught:
        start_from(model, config, folder.path)
    return [
        problem.removeprefix(f"sparsity.from: {folder.path}").removeprefix(": ")
        for problem in caught.value.problems
    ]


def test_what_the_trial_ships_is_what_training_starts_from(trial):
    model = network()
    start_from(model, MODEL, trial.path)
    assert all((tensor == 1).all() for tensor in model.state_dict().values())
    trial.best_file.unlink()
    start_from(model, MODEL, trial.path)
    assert all((tensor == 2).all() for tensor in model.state_dict().values())


def test_a_trial_that_keeps_its_last_epoch(trial):
    config = trial.load_config()
    trial.config_file.write_text(
        config.model_copy(
            update={"train": config.train.model_copy(update={"keep": "last"})}
        ).model_dump_json()
    )
    model = network()
    start_from(model, MODEL, trial.path)
    assert all((tensor == 2).all() for tensor in model.state_dict().values())


@pytest.mark.parametrize("generator", ["fixed_random", "score_trainable", "rewinding"])
def test_masks_of_the_trial_are_written_into_its_weights(trial, generator):
    theirs = network()
    schedule = attached(theirs, generator=generator, rewind_epoch=1)
    schedule.masks[0].copy_(torch.arange(18).view(schedule.masks[0].shape) % 2)
    save_tensors(trial.best_file, {"model": theirs.state_dict()})
    model = network()
    start_from(model, MODEL, trial.path)
    expected = theirs.state_dict()["0.parametrizations.weight.original"] * schedule.masks[0]
    assert torch.equal(model[0].weight, expected)
    assert int((model[0].weight == 0).sum()) == 9
    assert torch.equal(model[1].running_mean, theirs[1].running_mean)


def test_a_folder_that_is_none_or_not_finished(trial, tmp_path):
    assert refused(network(), TrialDir(tmp_path / "no")) == [
        "must be the folder of a finished trial, got no such folder"
    ]
    trial.result_file.write_text("{}")
    assert refused(network(), trial) == [
        "must be the folder of a finished trial, got a folder without a readable result"
    ]


def test_another_architecture(trial):
    other = ModelConfig(backbone="st_gcn", strides=(1, 1, 2), dropout=0.5)
    said = (
        "must be a trial of the same architecture, but model.strides is [1, 2, 2] there and [1, 1,"
        " 2] here"
    )
    assert refused(network(), trial, other) == [said]
    start_from(network(), MODEL.model_copy(update={"dropout": 0.5}), trial.path)  # no part of it


def test_every_tensor_that_does_not_fit_is_named(trial):
    model = nn.Sequential(*network(), nn.Linear(2, 2))
    model[6] = nn.Linear(48, 3)
    assert refused(model, trial) == [
        "6.bias: must have shape (3,), got (2,)",
        "6.weight: must have shape (3, 48), got (2, 48)",
        "7.bias: must be there",
        "7.weight: must be there",
    ]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short"])
def test_damaged_weights(trial, content):
    trial.best_file.write_bytes(content)
    with pytest.raises(UserError, match=r"best\.pt: not a readable checkpoint"):
        start_from(network(), MODEL, trial.path)
    trial.best_file.unlink()
    trial.checkpoint_file.unlink()
    with pytest.raises(
        UserError, match=r"last\.pt: must hold the weights of a finished trial, got no such file"
    ):
        start_from(network(), MODEL, trial.path)


def test_a_damaged_configuration(trial):
    trial.config_file.write_text('{"data": 1}')
    with pytest.raises(
        UserError, match=r"sparsity.from: .*config.json: must be a trial's configuration"
    ):
        start_from(network(), MODEL, trial.path)


def test_which_folder_it_is(tmp_path):
    def of(level=0.5, given=None, **sparsity):
        return source_folder(
            SparsityConfig.model_validate({"level": level, **sparsity}), given, tmp_path
        )

    assert of() is None
    assert of(**{"from": "runs/a"}) == tmp_path / "runs" / "a"
    assert of(**{"from": str(tmp_path / "b")}) == tmp_path / "b"
    assert of(given=tmp_path / "c", **{"from": "dense"}) == tmp_path / "c"
    assert of(level=0.0, **{"from": "dense"}) is None
    with pytest.raises(
        UserError,
        match="'dense' is known within a sweep alone; a trial needs the folder of a finished one",
    ):
        of(**{"from": "dense"})


def test_masks_on_fused_kernels_cannot_be_written_into_weights(trial):
    state = network().state_dict() | {"blocks.0.temporal.body.masked.mask": torch.ones(2)}
    save_tensors(trial.best_file, {"model": state})
    assert refused(network(), trial) == [
        "must not be of sparsity.sharing fused, whose masks are on kernels that its weights make"
    ]
