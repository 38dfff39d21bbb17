"""Which deploy forms take equally long, and what is measured of a file."""

import copy

import pytest
import torch

from tests import naive_models
from trainables.deploy import timing
from trainables.deploy.form import deploy, save_deploy

FRAMES = 16


def form_of(backbone="hpi_gcn_op", *, frames=FRAMES, change=None):
    model = naive_models.narrow_backbone(backbone, layout="coco17").float().eval()
    with torch.no_grad():
        for index, block in enumerate(model.blocks):
            for conv in block.modules():
                if change is not None and isinstance(conv, torch.nn.Conv2d):
                    change(conv.weight, index)
    return deploy(model, frames=frames)


def scattered(weight, _block):
    weight.view(-1)[::2] = 0.0


def scattered_elsewhere(weight, _block):
    weight.view(-1)[1::2] = 0.0


def channels(weight, _block):
    weight[::2] = 0.0


PLAIN = form_of()


def test_other_weights_take_equally_long():
    other = form_of(change=lambda weight, _block: weight.mul_(1.5))
    assert timing.structure_of(other) == timing.structure_of(PLAIN)


def test_single_zeros_take_equally_long_but_on_kept_weights():
    half, other_half = form_of(change=scattered), form_of(change=scattered_elsewhere)
    assert timing.structure_of(half) == timing.structure_of(PLAIN)
    assert timing.kept_of(half) == timing.kept_of(other_half) != timing.kept_of(PLAIN)


def every_fourth(outputs_alike):
    """Of each output's weights every fourth is kept, beginning one later after `outputs_alike`."""
    form = copy.deepcopy(PLAIN)
    for conv in (each for each in form.modules() if isinstance(each, torch.nn.Conv2d)):
        rows = torch.arange(conv.weight[0].numel())
        first = torch.arange(len(conv.weight)).div(outputs_alike, rounding_mode="floor")
        keep = (rows + first[:, None]) % 4 == 0
        conv.weight.data.mul_(keep.view_as(conv.weight))
    return form


def test_zeros_that_four_outputs_share_take_another_time_than_as_many_single_ones():
    assert timing.kept_of(every_fourth(1)) != timing.kept_of(every_fourth(4))
    assert timing.kept_of(every_fourth(2)) == timing.kept_of(every_fourth(3))


def test_another_architecture_takes_another_time():
    pruned = form_of("st_gcn", change=channels)
    assert timing.compact_form(pruned) is not None
    forms = [PLAIN, form_of("st_gcn"), form_of(frames=FRAMES + 4), pruned]
    assert len({timing.structure_of(form) for form in forms}) == len(forms)


def test_a_file_is_timed_with_a_clip_and_a_batch(tmp_path, monkeypatch):
    shapes = []

    def latency(_form, clips):
        shapes.append(tuple(clips.shape))
        return float(len(clips))

    monkeypatch.setattr(timing, "latency_ms", latency)
    save_deploy(PLAIN, tmp_path / "deploy.pt")
    found = timing.time_file(tmp_path / "deploy.pt", torch.device("cpu"))
    persons = PLAIN.spec.persons
    assert shapes == [(1, 3, FRAMES, 17, persons), (64, 3, FRAMES, 17, persons)]
    assert (found.deploy_latency_ms, found.deploy_batch64_latency_ms) == (1.0, 64.0)
    assert (found.latency_measured, found.compact_latency_ms) == ("alone", None)
    assert found.deploy_structure == timing.structure_of(PLAIN)


@pytest.mark.parametrize("faster", [True, False])
def test_kept_weights_are_timed_as_they_run(monkeypatch, faster):
    """A form that runs dense takes as long on its kept weights."""
    monkeypatch.setattr(timing, "latency_ms", lambda form, clips: form.ms * len(clips))
    form, sparse = form_of(change=scattered), form_of(change=scattered)
    form.ms, sparse.ms = 2.0, 0.5
    monkeypatch.setattr(timing, "run_sparse", lambda _form: sparse if faster else None)
    found = timing.time_form(form, "alone")
    expected = 0.5 if faster else 2.0
    assert found.deploy_latency_ms == 2.0
    assert (found.sparse_latency_ms, found.sparse_batch64_latency_ms) == (expected, 64 * expected)
    monkeypatch.setattr(timing, "compiled", lambda: False)  # numba is not installed
    assert timing.time_form(form, "alone").sparse_latency_ms is None


def test_forms_take_turns_with_what_they_are_on_their_kept_weights(tmp_path, monkeypatch):
    save_deploy(PLAIN, tmp_path / "plain.pt")
    save_deploy(form_of(change=scattered), tmp_path / "half.pt")

    def on_kept_weights(form):
        if not any((parameter == 0).any() for parameter in form.parameters()):
            return None
        form = copy.deepcopy(form)
        form.sparse = True
        return form

    def medians(networks, _batches, _rounds):
        numbers = [number for network in networks for number in network.parameters()]
        assert not any(number.is_inference() for number in numbers)  # weights can be packed
        return [1.0 if hasattr(network, "sparse") else 3.0 for network in networks]

    monkeypatch.setattr(timing, "run_sparse", on_kept_weights)
    monkeypatch.setattr(timing, "_medians", medians)
    files = [tmp_path / "plain.pt", tmp_path / "half.pt"]
    found = timing.time_in_turns(files, timing.Turns(torch.device("cpu"), rounds=1))
    assert [each.deploy_latency_ms for each in found] == [3.0, 3.0]
    assert [each.sparse_latency_ms for each in found] == [3.0, 1.0]
