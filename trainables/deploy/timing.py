"""How long a deploy form takes, and which forms take equally long."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor

from trainables.contract.artifacts import Latency, Measured
from trainables.cost.measured import device_name, latency_ms
from trainables.deploy.compact import compact_form
from trainables.deploy.form import DeployForm, deploy_forms, load_deploy
from trainables.models.multilevel import MultiLevel

BATCH = 64


def structure_of(form: DeployForm | MultiLevel) -> str:
    """Twelve hexadecimal digits, equal for forms that take equally long: of one architecture,
    folded alike, for clips of one length.

    A masked weight is computed like any other, so masks count only by the channels that the
    compact form leaves out.
    """
    small = compact_form(form)
    described = {
        # a level's name changes nothing
        "spec": form.spec.model_dump(mode="json", exclude={"levels"}),
        "forms": [[str(part.folding), part.frames] for part in deploy_forms(form)],
        "compact": None
        if small is None
        else {name: list(tensor.shape) for name, tensor in small.state_dict().items()},
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:12]


def clip_for(form: DeployForm | MultiLevel) -> Tensor:
    """(1, 3, T, V, M) on the form's device: a clip in which everyone is there."""
    frames = deploy_forms(form)[0].frames
    assert frames is not None, "a trial's deploy form knows the length of its clips"
    device = next(form.parameters()).device
    return torch.ones(1, 3, frames, form.spec.joints, form.spec.persons, device=device)


def time_form(form: DeployForm | MultiLevel, measured: Measured) -> Latency:
    """One clip and a batch, by the form and by its compact form where it has one, on the form's
    device.
    """
    clip, small = clip_for(form), compact_form(form)
    batch = clip.expand(BATCH, -1, -1, -1, -1)
    return Latency(
        deploy_latency_ms=latency_ms(form, clip),
        deploy_batch64_latency_ms=latency_ms(form, batch),
        compact_latency_ms=None if small is None else latency_ms(small, clip),
        compact_batch64_latency_ms=None if small is None else latency_ms(small, batch),
        latency_device=device_name(clip.device),
        latency_threads=torch.get_num_threads(),
        latency_measured=measured,
        deploy_structure=structure_of(form),
    )


def time_file(path: Path, device: torch.device) -> Latency:
    """The same of a deploy form's file, with nothing beside it; UserError if it is missing or
    damaged.
    """
    return time_form(load_deploy(path).to(device), "alone")
