"""Networks of several levels as deploy forms and as files."""

from __future__ import annotations

import copy

import pytest
import torch
from pydantic import ValidationError

from tests.naive_multilevel import narrow_levels
from tests.trainables.models.multilevel_cases import KINDS, LABELS, assert_same, clips_for, masked
from trainables.contract.backbones import BACKBONES
from trainables.contract.config import ModelConfig, SparsityConfig, StreamConfig
from trainables.contract.errors import UserError
from trainables.deploy.form import (
    DeployForm,
    deploy,
    deploy_forms,
    load_deploy,
    nonzero_params,
    save_deploy,
)
from trainables.layouts import load_layout
from trainables.models.experts import Experts
from trainables.models.mixture import Mixture
from trainables.models.multilevel import multi_level_spec
from trainables.models.nested import Nested

NETWORKS = ("experts", "nested", "mixture")
MEETINGS = [
    pytest.param(
        kind, backbone, marks=[] if (number + place) % len(NETWORKS) == 0 else pytest.mark.full
    )
    for number, backbone in enumerate(BACKBONES.own)
    for place, kind in enumerate(NETWORKS)
]
"""Every backbone meets one of them in every run."""


@pytest.mark.parametrize(("kind", "backbone"), MEETINGS)
def test_deploy_form_gives_the_same_logits_and_every_step_has_a_finite_gradient(kind, backbone):
    """Every backbone in every kind of network: proven equal in double precision with masks, absent
    persons included.
    """
    network = masked(kind, backbone, persons=2)
    clips = clips_for(network)
    clips[1, ..., 1] = 0
    clips[2] = 0
    with torch.no_grad():
        assert_same(deploy(network, frames=8)(clips), network(clips))
    loss, logits = network.train().objective(clips, LABELS)
    loss.backward()
    assert logits.shape == (4, 5)
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("kind", KINDS)
class TestDeployForm:
    def test_file_comes_back_bit_for_bit(self, kind, tmp_path):
        network = masked(kind, persons=2)
        form = deploy(network, frames=8)
        save_deploy(form, tmp_path / "deploy.pt")
        loaded, clips = load_deploy(tmp_path / "deploy.pt"), clips_for(network)
        clips[0, ..., 1] = 0
        assert not loaded.training
        assert not any(parameter.requires_grad for parameter in loaded.parameters())
        assert loaded.spec == network.spec
        with torch.no_grad():
            assert torch.equal(loaded(clips), form(clips))
            assert_same(loaded(clips), network(clips))
        assert not any("parametrizations" in name for name in form.state_dict())
        assert (
            nonzero_params(loaded)
            == nonzero_params(form)
            < sum(p.numel() for p in form.parameters())
        )

    def test_each_level_can_be_run_alone(self, kind):
        network = masked(kind)
        form, clips = deploy(network, frames=8), clips_for(network)
        alone, trained = form.levels(), network.levels()
        assert (
            list(alone) == list(trained) == ([] if kind == "experts weighted" else ["0.5", "0.9"])
        )
        with torch.no_grad():
            for level in alone:
                assert_same(alone[level](clips), trained[level](clips))

    def test_it_shares_no_memory_and_changes_nothing(self, kind):
        network = masked(kind)
        before = copy.deepcopy(network.state_dict())
        form = deploy(network, frames=8)
        with torch.no_grad():
            for tensor in form.state_dict().values():
                tensor.fill_(7)
        assert all(
            torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items()
        )

    def test_clips_do_not_influence_each_other_and_single_precision_is_close(self, kind):
        network = masked(kind, persons=2)
        form, clips = deploy(network, frames=8), clips_for(network, count=5)
        with torch.no_grad():
            together = form(clips)
            assert_same(torch.cat([form(clip[None]) for clip in clips]), together, 1e-12)
            assert_same(form.float()(clips.float()).double(), together, 1e-3)

    def test_compiles_without_a_break(self, kind):
        torch._dynamo.reset()
        if kind not in ("nested", "mixture"):
            pytest.skip("nothing that a compiler could stumble over")
        network = masked(kind, persons=2)
        form, clips = deploy(network, frames=8), clips_for(network)
        with torch.no_grad():
            compiled = torch.compile(form, backend="aot_eager", fullgraph=True)
            assert_same(compiled(clips), form(clips), 1e-12)

    def test_runs_under_bfloat16(self, kind):
        network = masked(kind, persons=2).float()
        clips = clips_for(network).float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss, _ = network.train().objective(clips, LABELS)
        loss.backward()
        assert loss.isfinite()
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            assert deploy(network.eval(), frames=8)(clips).isfinite().all()


class TestFiles:
    @pytest.fixture
    def file(self, tmp_path):
        save_deploy(deploy(masked("mixture"), frames=8), tmp_path / "deploy.pt")
        return tmp_path / "deploy.pt"

    def test_a_level_of_a_file_can_be_saved_by_itself(self, tmp_path):
        form = deploy(masked("nested"), frames=8)
        save_deploy(form.levels()["0.9"], tmp_path / "sparse.pt")
        loaded = load_deploy(tmp_path / "sparse.pt")
        assert isinstance(loaded, DeployForm)
        clips = clips_for(form)
        with torch.no_grad():
            assert torch.equal(loaded(clips), form.levels()["0.9"](clips))

    @pytest.mark.parametrize(
        "damage",
        [
            lambda content: content["networks"].pop(),
            lambda content: content["networks"][0].pop("folding"),
            lambda content: content["spec"].update(gate=None),
            lambda content: content["spec"].update(levels=[0.5]),
            lambda content: content["spec"].update(active=3),
            lambda content: content["state"].pop("choice.weight"),
            lambda content: content["state"].update({"choice.weight": torch.zeros(3, 16)}),
        ],
    )
    def test_a_damaged_file_is_refused(self, file, damage):
        content = torch.load(file, weights_only=True)
        damage(content)
        torch.save(content, file)
        with pytest.raises(
            UserError, match="must hold a deploy form whose tensors fit its specification"
        ):
            load_deploy(file)

    def test_order_of_the_networks_in_a_file(self, file):
        form = load_deploy(file)
        assert deploy_forms(form) == [*form.members, form.gate]
        assert deploy_forms(form.members[0]) == [form.members[0]]


def test_a_gate_belongs_to_mixtures():
    spec = narrow_levels("experts").spec
    with pytest.raises(ValidationError, match="gate must be given for a mixture and nothing else"):
        type(spec).model_validate(spec.model_dump() | {"network": "mixture"})


def test_kinds():
    assert [type(narrow_levels(kind)) for kind in ("experts", "nested", "mixture")] == [
        Experts,
        Nested,
        Mixture,
    ]


def test_levels_of_a_nested_network_are_in_order():
    spec = multi_level_spec(
        ModelConfig(channels=8, stages=(1,)),
        SparsityConfig(network="nested", levels=(0.9, 0.5)),
        load_layout("ucla20"),
        classes=3,
        persons=1,
        stream=StreamConfig(),
    )
    assert spec.levels == (0.5, 0.9)
