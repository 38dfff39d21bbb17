"""A trial proves its deploy form: what is folded wrongly fails, what only rounds does not."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from tests import naive_models
from tests.trainables.one_trial import run_trial, write_synthetic
from tests.trainables.trial_configs import config_of
from trainables import proof
from trainables.contract.artifacts import TrialDir
from trainables.contract.errors import TrialFailed
from trainables.deploy.form import deploy, round_to_single
from trainables.proof import DEPLOY_TOLERANCE, prove_equal, prove_folding


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_synthetic(tmp_path_factory.mktemp("data") / "synth")


def test_a_folding_that_is_wrong_in_double_precision_fails_the_trial(store, tmp_path, monkeypatch):
    """By less than single precision would show."""

    def broken(model, *, frames):
        shipped = deploy(model, frames=frames)
        shipped.head.fc.weight.mul_(1 + 1e-7)
        return shipped

    monkeypatch.setattr("trainables.proof.deploy", broken)
    with pytest.raises(TrialFailed, match="deploy form must give the training form's logits"):
        run_trial(config_of(store), TrialDir(tmp_path / "trial"))


def test_a_network_that_enlarges_rounding_is_not_taken_for_one_that_is_folded_wrongly():
    """A BatchNorm that takes 1e6 away from what a bias has put there leaves the rounding of 1e6;
    folding cancels the two exactly.
    """
    model = naive_models.narrow_backbone("st_gcn", layout="coco17").float().eval()
    part = model.blocks[0].temporal
    with torch.no_grad():
        part.conv.bias += 1e6
        part.bn.running_mean += 1e6
    x = naive_models.random_clips(4, 3, 16, 17, 1).float()
    batches = SimpleNamespace(
        epoch=lambda _epoch: iter([SimpleNamespace(persons=None, x=x, index=torch.arange(4))])
    )
    folded = prove_folding(model, batches, 16)
    assert folded.rounding > DEPLOY_TOLERANCE
    difference = prove_equal(model, folded, batches).difference
    assert difference > DEPLOY_TOLERANCE
    with pytest.raises(TrialFailed, match="deploy form must give the training form's logits"):
        prove_equal(model, replace(folded, rounding=0.0), batches)
    with torch.no_grad():
        folded.form.head.fc.weight.mul_(2.0)
    with pytest.raises(TrialFailed, match="deploy form must give the training form's logits"):
        prove_equal(model, folded, batches)


def test_a_training_form_that_runs_absent_persons_once_gives_the_same_proof():
    model = naive_models.narrow_backbone("hpi_gcn_rp", persons=2).float().eval()
    x = naive_models.random_clips(6, 3, 16, 25, 2).float()
    x[:4, ..., 1] = 0  # one of the two
    x[4, ..., 0] = 0  # only the second
    parts = [SimpleNamespace(persons=None, x=x, index=torch.arange(6) + at) for at in (0, 6)]
    batches = SimpleNamespace(epoch=lambda _epoch: iter(parts))
    folded, seen = prove_folding(model, batches, 16), []
    hook = model.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    alone = prove_equal(model, folded, batches, absent_once=True)
    whole = prove_equal(model, folded, batches)
    hook.remove()
    # the first batch whole; one for the four absent ones of the second
    assert seen == [6 * 2, 6 * 2 - 3, 6 * 2, 6 * 2]
    assert not model.training
    assert torch.equal(alone.logits, whole.logits)
    with torch.no_grad():
        folded.form.head.fc.weight.mul_(2.0)
    with pytest.raises(TrialFailed, match="deploy form must give the training form's logits"):
        prove_equal(model, folded, batches, absent_once=True)


def test_a_network_whose_persons_are_not_apart_fails_where_its_card_says_they_are():
    model = naive_models.narrow_backbone("hpi_gcn_rp", persons=2).float().eval()
    x = naive_models.random_clips(4, 3, 16, 25, 2).float()
    x[..., 1] = 0
    batches = SimpleNamespace(
        epoch=lambda _epoch: iter([SimpleNamespace(persons=None, x=x, index=torch.arange(4))])
    )
    folded, apart = prove_folding(model, batches, 16), model.features

    def features(clips, persons=None):
        alone = apart(clips, persons)
        return alone if persons is not None else alone + 1.0  # what persons say of each other

    model.features = features
    with pytest.raises(TrialFailed, match="deploy form must give the training form's logits"):
        prove_equal(model, folded, batches, absent_once=True)


@pytest.mark.parametrize("broken", [True, False])
def test_a_trial_proves_both_ways_on_kept_weights(monkeypatch, broken):
    """One program, and convolution by convolution: which is faster is another machine's matter."""
    model = naive_models.narrow_backbone("st_gcn", layout="coco17", persons=1).float().eval()
    with torch.no_grad():
        for block in model.blocks:
            block.temporal.conv.weight[::2] = 0.0
    x = naive_models.random_clips(4, 3, 16, 17, 1).float()
    batches = SimpleNamespace(
        epoch=lambda _epoch: iter([SimpleNamespace(persons=None, x=x, index=torch.arange(4))])
    )
    ways, real = [], proof.run_sparse

    def run_sparse(form, *, forced, whole):
        ways.append((forced, whole))
        sparse = real(form, forced=forced, whole=whole)
        if broken and not whole:
            sparse.head.fc.weight.data.mul_(1.1)
        return sparse

    monkeypatch.setattr(proof, "run_sparse", run_sparse)
    with pytest.raises(TrialFailed) if broken else nullcontext():
        prove_folding(model, batches, 16)
    assert ways == [(True, True), (True, False)]


def test_a_deploy_form_that_differs_fails_the_trial(store, tmp_path, monkeypatch):
    def broken(form):
        round_to_single(form)
        form.head.fc.weight.mul_(1.01)

    monkeypatch.setattr("trainables.proof.round_to_single", broken)
    out = TrialDir(tmp_path / "trial")
    with pytest.raises(TrialFailed, match="deploy form must give the training form's logits"):
        run_trial(config_of(store), out)
    assert not out.is_complete()
    assert not out.test_scores.exists()
