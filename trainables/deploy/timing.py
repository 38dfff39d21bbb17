"""How long a deploy form takes, and which forms take equally long."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from trainables.contract.artifacts import Latency, Measured
from trainables.cost.measured import call_seconds, device_name, latency_ms
from trainables.deploy.compact import compact_form
from trainables.deploy.form import DeployForm, deploy_forms, load_deploy
from trainables.deploy.sparse.runtime import run_sparse
from trainables.models.multilevel import MultiLevel
from trainables.precision import full_float32
from trainables.sparse.rows import compiled

BATCH = 64
TURN_S = 0.05
"""A network's turn in a round is at least one call, and as many as fit into this time."""
MOST_CALLS = 50
STEPS = 6
"""Of the share of kept weights, between it and half of it."""


def structure_of(form: DeployForm | MultiLevel) -> str:
    """Twelve hexadecimal digits, equal for forms that take equally long run dense: of one
    architecture, folded alike, for clips of one length. Masks count only by the channels that the
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
    return _digest(described)


def kept_of(form: DeployForm | MultiLevel) -> str:
    """The same of the share of multiply-accumulates that the zeros of convolutions leave, and of
    the share of inputs that four neighbouring outputs read, both in steps of 12 %: forms of one
    structure in which they are equal take equally long on their kept weights, too. Zeros that
    neighbours share save reading as well. Which convolutions keep the weights changes that time by
    a tenth where some keep a quarter of what others do; networks masked by one rule differ by less.
    """
    convs = [module for module in form.modules() if isinstance(module, nn.Conv2d)]
    sizes = _output_sizes(form, convs)
    masks = [conv.weight.detach() != 0 for conv in convs]
    return _digest([_steps(sizes, masks), _steps(sizes, [_read_by_four(mask) for mask in masks])])


def _read_by_four(kept: Tensor) -> Tensor:
    """(O, ...) -> (ceil(O / 4), ...): whether any of four neighbouring outputs keeps its weight."""
    padded = nn.functional.pad(kept, (0, 0) * (kept.ndim - 1) + (0, -len(kept) % 4))
    return padded.view(-1, 4, *kept.shape[1:]).any(dim=1)


def _steps(sizes: Sequence[int], masks: Sequence[Tensor]) -> int:
    """How many steps the share that masks keep lies below all; sizes: positions of each."""
    every = sum(size * mask.numel() for size, mask in zip(sizes, masks, strict=True))
    kept = sum(size * int(mask.count_nonzero()) for size, mask in zip(sizes, masks, strict=True))
    return round(-STEPS * math.log2(max(kept, 1) / every))


def _output_sizes(form: DeployForm | MultiLevel, convs: Sequence[nn.Conv2d]) -> list[int]:
    """Positions (T V of all persons) at which each convolution computes its outputs for one clip;
    the most that any has for those that do not run as modules.
    """
    sizes: dict[nn.Module, int] = {}

    def note(conv: nn.Module, _inputs: object, outputs: Tensor) -> None:
        sizes[conv] = outputs[:, 0].numel()

    hooks = [conv.register_forward_hook(note) for conv in convs]
    with torch.inference_mode():
        form(clip_for(form))
    for hook in hooks:
        hook.remove()
    most = max(sizes.values(), default=1)
    return [sizes.get(conv, most) for conv in convs]


def _digest(described: object) -> str:
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:12]


def clip_for(form: DeployForm | MultiLevel) -> Tensor:
    """(1, 3, T, V, M) on the form's device: a clip in which everyone is there."""
    frames = deploy_forms(form)[0].frames
    assert frames is not None, "a trial's deploy form knows the length of its clips"
    device = next(form.parameters()).device
    return torch.ones(1, 3, frames, form.spec.joints, form.spec.persons, device=device)


def time_form(form: DeployForm | MultiLevel, measured: Measured) -> Latency:
    """One clip and a batch, by the form, by its compact form where it has one, and on its kept
    weights alone, on the form's device.
    """
    clip, small, sparse = clip_for(form), compact_form(form), run_sparse(form)
    batch = clip.expand(BATCH, -1, -1, -1, -1)
    dense = latency_ms(form, clip), latency_ms(form, batch)
    kept = dense if sparse is None else (latency_ms(sparse, clip), latency_ms(sparse, batch))
    there = runs_sparse(clip.device)
    return Latency(
        deploy_latency_ms=dense[0],
        deploy_batch64_latency_ms=dense[1],
        sparse_latency_ms=kept[0] if there else None,
        sparse_batch64_latency_ms=kept[1] if there else None,
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


def runs_sparse(device: torch.device) -> bool:
    """Whether networks are run on kept weights where that is faster."""
    return device.type == "cpu" and compiled()


@dataclass(frozen=True)
class Turns:
    """How networks are timed against each other."""

    device: torch.device
    rounds: int = 10  # in each of them every network gets a turn, another one first each time
    threads: int | None = None  # None: as many as torch takes


def time_in_turns(
    files: Sequence[Path], turns: Turns, note: Callable[[str], None] = lambda _text: None
) -> list[Latency]:
    """The latencies of deploy forms in files, in their order, taken in turns, so that a machine
    whose speed drifts treats all alike; UserError where a file is missing or damaged.
    """
    torch.set_num_threads(turns.threads or torch.get_num_threads())
    forms = [load_deploy(path).to(turns.device) for path in files]
    small = [compact_form(form) for form in forms]
    sparse = [run_sparse(form) for form in forms]
    others = [*small, *sparse]
    networks: list[nn.Module] = [*forms, *(form for form in others if form is not None)]
    of = zip([*forms, *forms], others, strict=True)
    clips = [*map(clip_for, forms), *(clip_for(form) for form, other in of if other is not None)]
    times: dict[int, list[float]] = {}
    for batch in (1, BATCH):
        note(
            f"timing    batch {batch}: {len(networks)} network{'s' * (len(networks) != 1)},"
            f" {turns.rounds} round{'s' * (turns.rounds != 1)}"
        )
        batches = [clip.expand(batch, -1, -1, -1, -1) for clip in clips]
        times[batch] = _medians(networks, batches, turns.rounds)
    numbers = iter(range(len(forms), len(networks)))
    places = [None if each is None else next(numbers) for each in others]
    there, latencies = runs_sparse(turns.device), []
    for position, form in enumerate(forms):
        other, kept = places[position], places[len(forms) + position]
        kept = position if kept is None else kept  # nothing is faster than dense
        latencies.append(
            Latency(
                deploy_latency_ms=times[1][position],
                deploy_batch64_latency_ms=times[BATCH][position],
                compact_latency_ms=None if other is None else times[1][other],
                compact_batch64_latency_ms=None if other is None else times[BATCH][other],
                sparse_latency_ms=times[1][kept] if there else None,
                sparse_batch64_latency_ms=times[BATCH][kept] if there else None,
                latency_device=device_name(turns.device),
                latency_threads=torch.get_num_threads(),
                latency_measured="bench",
                deploy_structure=structure_of(form),
            )
        )
    return latencies


def _medians(networks: Sequence[nn.Module], batches: Sequence[Tensor], rounds: int) -> list[float]:
    """Milliseconds of a call of each network with its batch, median over all its turns.

    Networks are made outside of inference mode: no weight of one that is made within is packed.
    """
    seconds: list[list[float]] = [[] for _ in networks]
    with full_float32(), torch.inference_mode():
        for round_ in range(rounds + 1):  # the first one warms up
            for turn in range(len(networks)):
                position = (turn + round_) % len(networks)
                calls = [call_seconds(networks[position], batches[position])]
                while sum(calls) < TURN_S and len(calls) < MOST_CALLS:
                    calls.append(call_seconds(networks[position], batches[position]))
                seconds[position] += calls if round_ else []
    return [1e3 * statistics.median(each) for each in seconds]
