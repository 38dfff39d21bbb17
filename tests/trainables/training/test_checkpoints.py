"""Which weights are kept, and what a process that dies leaves of them."""

import math
from dataclasses import replace

import pytest
import torch

from tests.trainables.training.small_fit import (
    Clips,
    fit_of,
    network,
    outside,
    ranked,
)
from trainables.contract.errors import Interrupted, UserError
from trainables.training import loop


def test_best_epoch_is_never_from_the_dense_warm_up(tmp_path):
    reports = []
    progress = fit_of(network(), sparse=True).run(
        Clips(), Clips(2), outside(tmp_path, reports=reports)
    )
    assert [row["epoch"] for row in reports] == [0, 1, 2, 3]
    late = [row for row in reports if row["epoch"] >= 2]
    best = max(late, key=lambda row: (row["selection_top1"], -row["selection_loss"]))
    assert progress.best_epoch == best["epoch"]
    assert torch.load(tmp_path / "best.pt", weights_only=True)["epoch"] == progress.best_epoch


def test_the_first_sparse_epoch_can_be_the_best(tmp_path, monkeypatch):
    ranked(monkeypatch, 0.9, 0.8, 0.7, 0.6)
    progress = fit_of(network(), sparse=True).run(Clips(), Clips(2), outside(tmp_path))
    assert progress.best_epoch == 2


@pytest.mark.parametrize(
    ("top1", "losses", "best"),
    [
        ((0.5, 0.5, 0.5, 0.5), (0.9, 0.3, 0.4, 0.8), 1),  # of equal ones that of the lowest loss
        ((0.5, 0.5, 0.5, 0.5), (0.3, 0.3, 0.3, 0.3), 0),  # and the first
        ((0.1, 0.2, 0.4, 0.3), (0.1, 0.2, 0.9, 0.1), 2),
    ],
)
def test_which_epoch_is_the_best(tmp_path, monkeypatch, top1, losses, best):
    values = iter(zip(top1, losses, strict=True))

    def evaluate(fit, *_):
        top, loss = next(values)
        return {"selection_top1": top, "selection_loss": loss}

    monkeypatch.setattr(loop.Fit, "_evaluate", evaluate)
    progress = fit_of(network(), False).run(Clips(), Clips(2), outside(tmp_path))
    assert (progress.best_epoch, progress.best_top1, progress.best_loss) == (
        best,
        top1[best],
        losses[best],
    )


@pytest.mark.parametrize("write", ["save_checkpoint", "keep_best"])
@pytest.mark.parametrize("epoch", [0, 2, 3])
def test_the_best_weights_are_those_of_the_epoch_that_is_said_wherever_a_process_dies(
    tmp_path, monkeypatch, write, epoch
):
    """Killed around the checkpoint of a new best epoch; the second process trains otherwise, as on
    a GPU, and its epoch is no longer the best.
    """
    from trainables.training import loop

    killed, kept = fit_of(network(), False), getattr(loop, write)

    def dies(*arguments):
        if killed.progress.history[-1]["epoch"] == epoch:
            raise SystemExit("killed")
        kept(*arguments)

    ranked(monkeypatch, 0.1, 0.2, 0.3, 0.4)
    monkeypatch.setattr(loop, write, dies)
    with pytest.raises(SystemExit):
        killed.run(Clips(), Clips(2), outside(tmp_path))
    monkeypatch.setattr(loop, write, kept)
    told = []
    ranked(monkeypatch, *(0.0 if other == epoch else 0.1 * (other + 1) for other in range(3)), 0.0)
    model = network()
    progress = fit_of(model, False, seed=4).run(Clips(), Clips(2), outside(tmp_path, reports=told))
    best = torch.load(tmp_path / "best.pt", weights_only=True)
    assert best["epoch"] == progress.best_epoch
    rows = {row["epoch"]: row["selection_top1"] for row in progress.history}
    assert progress.best_top1 == rows[progress.best_epoch] == max(rows.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.pt", "last.pt"]


def test_best_weights_that_were_lost_are_not_shipped(tmp_path, monkeypatch):
    """As version 0.2 left them, killed between its two files: `best.pt` is ahead."""
    ranked(monkeypatch, 0.9, 0.1, 0.2, 0.3)
    fit_of(network(), False, epochs=1).run(Clips(), Clips(2), outside(tmp_path))
    state = torch.load(tmp_path / "best.pt", weights_only=True)
    torch.save({**state, "epoch": 1}, tmp_path / "best.pt")
    progress = fit_of(network(), False).run(Clips(), Clips(2), outside(tmp_path))
    assert progress.best_epoch == 3
    assert torch.load(tmp_path / "best.pt", weights_only=True)["epoch"] == 3


@pytest.mark.parametrize("every", [0.0, math.inf])
def test_short_epochs_share_a_checkpoint(tmp_path, monkeypatch, every):
    """The last one has one, and so does a trial that is asked to stop; what lies between is trained
    again, to the same weights.
    """
    ranked(monkeypatch, 0.1, 0.4, 0.3, 0.2)
    written = []
    save = loop.save_checkpoint
    monkeypatch.setattr(
        loop, "save_checkpoint", lambda *state: written.append(state[3].epoch) or save(*state)
    )

    def rarely(folder, **options):
        return replace(outside(folder, **options), checkpoint_every_s=every)

    whole = network()
    fit_of(whole, False).run(Clips(), Clips(2), rarely(tmp_path / "whole"))
    assert written == ([1, 2, 3, 4] if every == 0.0 else [4])

    def dies(metrics):
        if metrics["epoch"] == 2:
            raise SystemExit("killed")

    with pytest.raises(SystemExit):
        fit_of(network(), False).run(
            Clips(), Clips(2), replace(rarely(tmp_path / "parts"), report=dies)
        )
    with pytest.raises(Interrupted):  # at the first step of the last epoch
        fit_of(network(), False).run(
            Clips(), Clips(2), rarely(tmp_path / "parts", stop_after=0 if every == 0.0 else 9)
        )
    model = network()
    progress = fit_of(model, False).run(Clips(), Clips(2), rarely(tmp_path / "parts"))
    assert progress.best_epoch == 1
    names = sorted(path.name for path in (tmp_path / "parts").iterdir())
    assert names == ["best.pt", "last.pt"]
    one, other = (
        torch.load(tmp_path / name / "best.pt", weights_only=True) for name in ("whole", "parts")
    )
    assert one["epoch"] == other["epoch"] == 1
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
        assert torch.equal(one["model"][name], other["model"][name])


def test_a_damaged_checkpoint_is_named(tmp_path):
    (tmp_path / "last.pt").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(UserError, match=r"last\.pt: not a readable checkpoint"):
        fit_of(network(), False).run(Clips(), None, outside(tmp_path))
