"""Deploy forms whose products are oneDNN's, and those whose are torch's: the same networks."""

from __future__ import annotations

import copy
import io

import pytest
import torch

from tests import naive_models
from trainables.deploy.form import DeployForm, Execution, deploy
from trainables.models import onednn
from trainables.models.backbone import Backbone
from trainables.reparam.fusible import FULL

pytestmark = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_reorder_convolution_weight"), reason="torch without oneDNN"
)
APART = FULL.model_copy(update={"merge": False})


@pytest.fixture(params=[False, True], ids=["torch", "onednn"])
def by_onednn(request, monkeypatch):
    for module in ("trainables.models.onednn", "trainables.deploy.form"):
        monkeypatch.setattr(f"{module}.mkl_lacks_avx512", lambda: request.param)
    return request.param


def build(name: str) -> Backbone:
    return naive_models.narrow_backbone(name, persons=2, channels=16, stages=(2, 4)).eval()


def clips(form: DeployForm, samples: int = 3) -> torch.Tensor:
    """Of the last one the second person is absent: five persons in all."""
    draw = torch.randn(samples, 3, 16, 25, 2, generator=torch.Generator().manual_seed(3))
    draw[-1, ..., 1] = 0
    return draw.to(next(form.parameters()).dtype)


def check(form: DeployForm, expected: torch.Tensor, within: float = 1e-6) -> None:
    difference = (form(clips(form)) - expected).abs().max()
    assert difference <= within * expected.abs().max()


@pytest.mark.parametrize(
    ("name", "folding"), [("hpi_gcn_rp", FULL), ("hpi_gcn_rp", APART), ("hpi_gcn_op", FULL)]
)
@torch.no_grad()
def test_both_give_the_same_logits(name, folding, by_onednn, monkeypatch):
    calls = []
    monkeypatch.setattr(
        onednn, "packed_weight", lambda conv, x: calls.append(conv.kernel_size) or conv.weight
    )
    network = (
        naive_models.narrow_backbone(name, persons=2, channels=16, stages=(2, 4)).double().eval()
    )
    exact = deploy(network, folding, frames=16)
    expected = network(clips(exact))
    check(exact, expected, 1e-9)  # oneDNN knows no double precision
    assert not calls
    form = deploy(network.float(), folding, frames=16)
    check(form, expected)
    assert ((1, 1) in calls) is by_onednn
    assert (5, 1) in calls
    calls.clear()
    form.arrange(Execution(at_once=1))
    check(form, expected)
    assert not calls
    form.arrange(Execution(rows=True, at_once=1))
    check(form, expected)


@pytest.mark.parametrize("name", ["hpi_gcn_rp", "hpi_gcn_op"])
@torch.no_grad()
def test_changed_copied_and_traced_forms_follow_their_weights(name, by_onednn):
    network = build(name).float()
    form = deploy(network, frames=16)
    check(form, network(clips(form)))
    file = io.BytesIO()
    torch.save(form, file)
    twin = copy.deepcopy(form)
    for conv in [each for each in form.blocks.modules() if isinstance(each, torch.nn.Conv2d)]:
        conv.weight.mul_(0.5)
    form.expect(16)
    assert not torch.allclose(form(clips(form)), network(clips(form)))
    check(form, copy.deepcopy(form).double()(clips(form).double()).float())
    for same in (twin, torch.load(io.BytesIO(file.getvalue()), weights_only=False)):
        check(same, network(clips(same)))
    traced = torch.export.export(twin, (clips(twin),)).module()
    check(traced, network(clips(twin)))
    assert not any("mkldnn" in str(node.target) for node in traced.graph.nodes)
    half = twin.bfloat16()
    check(half, network(clips(twin).float()).bfloat16(), 0.1)
