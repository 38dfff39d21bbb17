"""Which deploy forms take equally long, and what is measured of a file."""

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


def channels(weight, _block):
    weight[::2] = 0.0


PLAIN = form_of()


def test_other_weights_and_scattered_masks_take_equally_long():
    other = form_of(change=lambda weight, _block: weight.mul_(1.5))
    assert timing.structure_of(other) == timing.structure_of(PLAIN)


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
