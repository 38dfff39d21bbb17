"""The deploy form gives the training form's logits, for every backbone and shape; files come back as they were or are refused."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from tests import naive_models
from trainables.contract.config import STREAMS
from trainables.contract.errors import UserError
from trainables.layouts import load_layout
from trainables.models.backbone import DEPLOY
from trainables.models.build import BACKBONES, build_form
from trainables.models.deploy import deploy, load_deploy, save_deploy
from trainables.reparam.fusible import Fusible
from trainables.sparsity.masks import attach


def assert_same_logits(model, deployed, clips, tolerance=1e-9):
    """`tolerance` holds as it is for logits up to 1 and relative to the largest logit beyond: adjacencies of ones make them large."""
    with torch.no_grad():
        expected, logits = model.eval()(clips), deployed(clips)
    scale = max(1.0, expected.abs().max().item())
    assert (logits - expected).abs().max().item() <= tolerance * scale


@pytest.mark.parametrize("frames", [7, 8])
@pytest.mark.parametrize("layout", ["ntu25", "ucla20", "coco17"])
@pytest.mark.parametrize("persons", [1, 2])
@pytest.mark.parametrize("kernel_size", [5, 9])
@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_same_logits(name, kernel_size, persons, layout, frames):
    model = naive_models.narrow_backbone(name, layout=layout, persons=persons, kernel_size=kernel_size)
    clips = naive_models.random_clips(2, 3, frames, load_layout(layout).size, persons)
    assert_same_logits(model, deploy(model), clips)


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_same_logits_of_a_bone_stream(name):
    model = naive_models.narrow_backbone(name, stream=STREAMS["bone"], stages=(2, 1, 1))
    assert_same_logits(model, deploy(model), naive_models.random_clips(2, 3, 9, 25, 1))


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_same_logits_in_single_precision_after_training_steps(name):
    model = naive_models.narrow_backbone(name).float().train()
    clips = naive_models.random_clips(4, 3, 8, 25, 1).float()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(clips), torch.arange(4)).backward()
        optimizer.step()
    deployed = deploy(model)
    assert next(deployed.parameters()).dtype == torch.float32
    assert_same_logits(model, deployed, clips, tolerance=1e-4)  # float32, logits of untrained networks


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_nothing_but_kernels_is_left(name):
    deployed = deploy(naive_models.narrow_backbone(name))
    assert not deployed.training
    assert not any(isinstance(module, Fusible) for module in deployed.modules())
    assert not any(parameter.requires_grad for parameter in deployed.parameters())


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_trained_model_is_untouched_and_shares_no_memory(name):
    model = naive_models.narrow_backbone(name).train()
    before = copy.deepcopy(model.state_dict())
    deployed = deploy(model)
    with torch.no_grad():
        for tensor in deployed.state_dict().values():
            tensor.fill_(7)
    assert model.training
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_building_the_deploy_form_draws_no_random_number():
    model = naive_models.narrow_backbone()
    before = torch.random.get_rng_state()
    deploy(model)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_attached_masks_are_applied_and_stay_attached(name):
    model = naive_models.narrow_backbone(name)
    dense = deploy(model)
    generator = torch.Generator().manual_seed(8)
    convs = [module for module in model.blocks.modules() if isinstance(module, nn.Conv2d)]
    for conv in convs:
        attach(conv, (torch.rand(conv.weight.shape, generator=generator) > 0.5).float()).active = True
    clips = naive_models.random_clips(2, 3, 8, 25, 1)
    deployed = deploy(model)
    assert_same_logits(model, deployed, clips)
    assert not any("parametrizations" in name for name in deployed.state_dict())
    assert all(parametrize.is_parametrized(conv) for conv in convs)
    embed = next(module for module in deployed.blocks.modules() if isinstance(module, nn.Conv2d))
    assert 0 < (embed.weight == 0).sum() < embed.weight.numel()
    with torch.no_grad():
        assert not torch.allclose(dense(clips), deployed(clips))


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_file_comes_back_bit_for_bit(name, tmp_path):
    deployed = deploy(naive_models.narrow_backbone(name, persons=2, stream=STREAMS["bone"]))
    save_deploy(deployed, tmp_path / "deploy.pt")
    loaded = load_deploy(tmp_path / "deploy.pt")
    clips = naive_models.random_clips(2, 3, 8, 25, 2)
    assert not loaded.training
    assert loaded.spec == deployed.spec
    with torch.no_grad():
        assert torch.equal(loaded(clips), deployed(clips))
    assert [path.name for path in tmp_path.iterdir()] == ["deploy.pt"]


@pytest.fixture
def deploy_file(tmp_path):
    path = tmp_path / "deploy.pt"
    save_deploy(deploy(naive_models.narrow_backbone()), path)
    return path


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.pt: must be a deploy form, got no such file"):
        load_deploy(tmp_path / "none.pt")


@pytest.mark.parametrize("keep", [0, 10, 1000, -200])
def test_cut_file_is_refused(deploy_file, keep):
    deploy_file.write_bytes(deploy_file.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"deploy\.pt: "):
        load_deploy(deploy_file)


def test_file_that_would_run_code_is_refused(deploy_file):
    torch.save({"format": print}, deploy_file)
    with pytest.raises(UserError, match="not a readable deploy form"):
        load_deploy(deploy_file)


def test_file_of_another_kind_is_refused(deploy_file):
    torch.save({"weights": torch.zeros(3)}, deploy_file)
    with pytest.raises(UserError, match="must be a file of format"):
        load_deploy(deploy_file)


def _rename(content):
    content["state"]["other"] = content["state"].pop("head.fc.bias")


def _cut_tensor(content):
    content["state"]["head.fc.bias"] = content["state"]["head.fc.bias"][:2]


def _widen(content):
    content["spec"]["model"]["channels"] = 16


def _unknown_backbone(content):
    content["spec"]["model"]["backbone"] = "other"


def _no_state(content):
    del content["state"]


@pytest.mark.parametrize("damage", [_rename, _cut_tensor, _widen, _unknown_backbone, _no_state])
def test_file_whose_tensors_do_not_fit_is_refused(deploy_file, damage):
    content = torch.load(deploy_file, weights_only=True)
    damage(content)
    torch.save(content, deploy_file)
    with pytest.raises(UserError, match="must hold a deploy form whose tensors fit its specification"):
        load_deploy(deploy_file)


def test_deploy_form_needs_a_decided_input_block():
    spec = naive_models.narrow_backbone().spec
    with pytest.raises(ValueError, match=r"input_block must be decided"):
        type(spec)(model=spec.model.model_copy(update={"input_block": "auto"}), joints=25, classes=5, persons=1)
    assert build_form(spec, DEPLOY).spec == spec
