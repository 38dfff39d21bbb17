"""Weights of training forms as files: the same network again, or one clear error."""

from __future__ import annotations

import pytest
import torch

from tests.naive_models import narrow_backbone, random_clips
from trainables.contract.backbones import BACKBONES
from trainables.contract.errors import UserError
from trainables.deploy.form import deploy, save_deploy
from trainables.deploy.weights import FORMAT, load_weights, save_weights


@pytest.mark.parametrize("name", sorted(BACKBONES.own))
def test_the_network_again(name, tmp_path):
    network = narrow_backbone(name, persons=2)
    save_weights(network, tmp_path / "w.pt")
    state = torch.random.get_rng_state()
    again = load_weights(tmp_path / "w.pt")
    assert torch.equal(state, torch.random.get_rng_state())
    assert again.spec == network.spec
    assert again.training
    clips = random_clips(2, 3, 8, 25, 2)
    with torch.no_grad():
        assert torch.equal(again.eval()(clips), network.eval()(clips))


def test_damaged_and_other_files_are_refused(tmp_path):
    network = narrow_backbone()
    save_weights(network, tmp_path / "w.pt")
    save_deploy(deploy(network), tmp_path / "d.pt")
    (tmp_path / "text.pt").write_text("weights")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "w.pt").read_bytes()[:2000])
    content = torch.load(tmp_path / "w.pt", weights_only=True)
    torch.save(
        {**content, "state": {**content["state"], "head.fc.bias": torch.zeros(3)}},
        tmp_path / "shape.pt",
    )
    torch.save({**content, "state": {}}, tmp_path / "empty.pt")
    torch.save({**content, "spec": {}}, tmp_path / "spec.pt")
    torch.save({"format": FORMAT}, tmp_path / "bare.pt")
    for name, message in (
        ("none", "no such file"),
        ("text", "another kind of file"),
        ("cut", "another kind of file"),
        ("d", f"of format '{FORMAT}', got something else"),
        ("shape", "must hold weights that fit"),
        ("empty", "must hold weights that fit"),
        ("spec", "must hold weights that fit"),
        ("bare", "must hold weights that fit"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            load_weights(tmp_path / f"{name}.pt")
        assert str(caught.value).startswith(str(tmp_path / f"{name}.pt"))
