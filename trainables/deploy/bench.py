"""Latency of deploy forms against training forms and against each other, in turns, on one machine.

Knows no data and no training.
"""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainables.contract.backbones import BACKBONES
from trainables.contract.config import ModelConfig, StreamConfig
from trainables.contract.errors import UserError
from trainables.cost.counting.count import FormCost, count
from trainables.cost.measured import (
    call_seconds,
    device_name,
    parameter_count,
    peak_activation_bytes,
)
from trainables.deploy.form import DeployForm, deploy, settle
from trainables.layouts import Layout
from trainables.models.build import Backbone, build_backbone
from trainables.precision import full_float32
from trainables.reparam.fusible import RELEASED

FormName = Literal["training", "plain deploy", "deploy"]
WARMUP_CALLS, WARMUP_S = 5, 1.0
TURN_S = 0.05
"""A network's turn in a round is at least one call, and as many as fit into this time."""
MOST_CALLS = 50


@dataclass(frozen=True)
class Setting:
    """What is measured: input sizes, rounds and machine."""

    batches: tuple[int, ...] = (1, 64)
    layout: str = "ntu25"
    frames: int = 64
    persons: int = 2
    classes: int = 120
    channels: int = 64
    rounds: int = 10
    single: float = 0.0  # share of each batch's clips in which only the first person is there
    threads: int | None = None  # None: as many as torch takes
    device: str = "auto"  # auto: cuda if there is one
    settle: bool = False  # try on this machine how each deploy form runs fastest, and time it so


@dataclass(frozen=True)
class Timing:
    """One form at one batch size."""

    batch: int
    median_ms: float  # of all calls
    low_ms: float  # first quartile
    high_ms: float  # third quartile
    calls: int
    clips_per_s: float
    peak_mb: float  # 1e6 bytes of activations alive at once
    to_training: float  # time of the training form over this one's
    to_first: float  # time of the first backbone's deploy form over this one's


@dataclass(frozen=True)
class Measured:
    """One form of one backbone."""

    backbone: str
    form: FormName
    runs: str  # how the deploy form goes through a batch; empty for a training form
    params: int
    gmacs: float  # 1e9 multiply-accumulates per clip with all its persons, joint mixing included
    timings: tuple[Timing, ...]


@dataclass(frozen=True)
class Bench:
    """What `orchestrate bench` found, and where."""

    device: str
    processor: str
    threads: int
    load: float  # processes that wanted to run on the machine in the minute before the start
    torch: str
    setting: Setting
    single_clips: dict[int, int]  # batch -> clips in it with one person
    measured: tuple[Measured, ...]

    def to_json(self) -> dict[str, Any]:
        """The findings as plain JSON."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class _Form:
    """A network to time."""

    backbone: str
    name: FormName
    network: Backbone | DeployForm
    cost: FormCost


def bench(
    backbones: Sequence[str],
    layout: Layout,
    setting: Setting,
    *,
    note: Callable[[str], None] = lambda _text: None,
) -> Bench:
    """Measure the forms of these backbones; all of them where none is named.

    Every round gives each form one turn, beginning with another one each time, so that a machine
    whose speed drifts treats all alike.
    """
    device, load = find_device(setting.device), os.getloadavg()[0]
    _check(backbones, setting)
    with _threads(setting.threads), full_float32():
        forms = [
            form
            for name in backbones or BACKBONES.own
            for form in _forms(name, layout, setting, device, note)
        ]
        seconds = {
            batch: _rounds(
                forms, _clips(batch, layout, setting, device), setting.rounds, batch, note
            )
            for batch in setting.batches
        }
        peaks = {
            batch: _peaks(forms, _clips(batch, layout, setting, device))
            for batch in setting.batches
        }
        return Bench(
            device=device.type,
            processor=device_name(device),
            threads=torch.get_num_threads(),
            load=load,
            torch=f"{torch.__version__}, Python {platform.python_version()}",
            setting=setting,
            single_clips={batch: _single(batch, setting.single) for batch in setting.batches},
            measured=tuple(
                _measured(forms, position, seconds, peaks) for position in range(len(forms))
            ),
        )


def find_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda`; UserError where there is none."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device: must be cpu or auto here, got cuda: torch finds no CUDA device")
    return torch.device(name)


def _check(backbones: Sequence[str], setting: Setting) -> None:
    problems = []
    for name in backbones:
        try:
            BACKBONES.find(name)
        except UserError as error:
            problems.append(f"backbone {error}")
    problems += [
        f"backbone {name} must be named once"
        for name in dict.fromkeys(backbones)
        if list(backbones).count(name) > 1
    ]
    if len(set(setting.batches)) < len(setting.batches):
        problems.append(
            f"--batch: must be different sizes, got {', '.join(map(str, setting.batches))}"
        )
    if setting.single > 0 and setting.persons == 1:
        problems.append(f"--single: needs --persons 2 or more, got --single {setting.single:g}")
    if setting.channels % 8:
        problems.append(f"--channels: must be a multiple of 8, got {setting.channels}")
    if problems:
        raise UserError.of(problems)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _forms(
    backbone: str,
    layout: Layout,
    setting: Setting,
    device: torch.device,
    note: Callable[[str], None],
) -> list[_Form]:
    """Training form, the released code's deploy form where it has one, and ours."""
    note(f"building  {backbone}")
    model, stream = (
        ModelConfig.model_validate({"backbone": backbone, "channels": setting.channels}),
        StreamConfig(),
    )
    network = (
        build_backbone(
            model, layout, classes=setting.classes, persons=setting.persons, stream=stream, seed=0
        )
        .to(device)
        .eval()
    )
    if setting.settle:
        note(f"settling  {backbone}")
        shipped, _ = settle(network, _clips(max(setting.batches), layout, setting, device))
    else:
        shipped = deploy(network, frames=setting.frames)
    sizes = {"classes": setting.classes, "persons": setting.persons, "frames": setting.frames}
    cost = count(model, layout, **sizes, stream=stream, merge=shipped.folding.merge)
    unfolded = cost.released if network.released_deploys else cost.training
    plain = (
        [_Form(backbone, "plain deploy", deploy(network, RELEASED), cost.released)]
        if network.released_deploys
        else []
    )
    return [
        _Form(backbone, "training", network, cost.training),
        *plain,
        _Form(backbone, "deploy", shipped, cost.deploy if shipped.folding.across else unfolded),
    ]


def _single(batch: int, share: float) -> int:
    """Clips of a batch with one person."""
    return round(batch * share)


def _clips(batch: int, layout: Layout, setting: Setting, device: torch.device) -> Tensor:
    """(N, 3, T, V, M) of noise, as data arrives: in memory N, M,
    C, T, V; absent persons are zero.
    """
    generator = torch.Generator().manual_seed(0)
    clips = torch.randn(batch, setting.persons, 3, setting.frames, layout.size, generator=generator)
    clips[: _single(batch, setting.single), 1:] = 0.0
    return clips.to(device).movedim(1, -1)


@torch.inference_mode()
def _rounds(
    forms: Sequence[_Form], clips: Tensor, rounds: int, batch: int, note: Callable[[str], None]
) -> list[list[float]]:
    """Seconds of every call, form by form."""
    calls = []
    for form in forms:
        note(f"warm-up   batch {batch}  {form.backbone} {form.name}")
        warm = [call_seconds(form.network, clips)]
        while len(warm) < WARMUP_CALLS and sum(warm) < WARMUP_S:
            warm.append(call_seconds(form.network, clips))
        calls.append(min(MOST_CALLS, max(1, int(TURN_S / warm[-1]))))
    seconds: list[list[float]] = [[] for _ in forms]
    for round_ in range(rounds):
        note(f"round     batch {batch}  {round_ + 1}/{rounds}")
        for turn in range(len(forms)):
            position = (turn + round_) % len(forms)
            seconds[position] += [
                call_seconds(forms[position].network, clips) for _ in range(calls[position])
            ]
    return seconds


def _peaks(forms: Sequence[_Form], clips: Tensor) -> list[int]:
    return [peak_activation_bytes(form.network, clips) for form in forms]


def _measured(
    forms: Sequence[_Form],
    position: int,
    seconds: dict[int, list[list[float]]],
    peaks: dict[int, list[int]],
) -> Measured:
    form = forms[position]
    training = next(
        i
        for i, other in enumerate(forms)
        if other.backbone == form.backbone and other.name == "training"
    )
    first = next(i for i, other in enumerate(forms) if other.name == "deploy")
    timings = []
    for batch, times in seconds.items():
        medians = [statistics.median(each) for each in times]
        low, _, high = (
            statistics.quantiles(times[position], n=4, method="inclusive")
            if len(times[position]) > 1
            else times[position] * 3
        )
        timings.append(
            Timing(
                batch=batch,
                median_ms=1e3 * medians[position],
                low_ms=1e3 * low,
                high_ms=1e3 * high,
                calls=len(times[position]),
                clips_per_s=batch / medians[position],
                peak_mb=peaks[batch][position] / 1e6,
                to_training=medians[training] / medians[position],
                to_first=medians[first] / medians[position],
            )
        )
    network: nn.Module = form.network
    runs = (
        f"{form.network.folding}; {form.network.execution}"
        if isinstance(form.network, DeployForm)
        else ""
    )
    return Measured(
        form.backbone, form.name, runs, parameter_count(network), form.cost.gmacs, tuple(timings)
    )
