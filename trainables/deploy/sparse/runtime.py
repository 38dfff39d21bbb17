"""A deploy form that runs on its kept weights alone: the same function, from the same file."""

from __future__ import annotations

import copy
import logging
from functools import cache
from typing import overload

import torch
from torch import Tensor, nn

from trainables.deploy.form import DeployForm, Execution, deploy_forms
from trainables.deploy.sparse.choices import Choices
from trainables.deploy.sparse.modules import SparseConv, with_kept_weights
from trainables.deploy.sparse.networks import NetworkProgram, fits
from trainables.models.multilevel import MultiLevel
from trainables.sparse.rows import compiled

log = logging.getLogger(__name__)

USUAL_FRAMES = 64
PERSONS_AT_ONCE = 2
"""So few that their feature maps stay in the cache of one core."""


@overload
def run_sparse(form: DeployForm, *, forced: bool = False) -> DeployForm | None: ...
@overload
def run_sparse(form: MultiLevel, *, forced: bool = False) -> MultiLevel | None: ...
@torch.inference_mode()
def run_sparse(
    form: DeployForm | MultiLevel, *, forced: bool = False
) -> DeployForm | MultiLevel | None:
    """A copy whose convolutions run on their kept weights where that is faster on this machine,
    equal up to the order of sums; None where nothing is: the form is dense, on a GPU, or numba is
    not installed, which is said once.

    forced: wherever weights are zero, faster or not. A few persons at a time go through the whole
    network; threads as many as torch has, each with persons of its own. The file of `save_deploy`
    is that of the form this was made of.
    """
    if next(form.parameters()).device.type != "cpu" or not _has_zeros(form):
        return None
    if not compiled():
        _say_what_is_missing()
        return None
    twin = copy.deepcopy(form)
    choices = None if forced else Choices()
    replaced: dict[nn.Module, nn.Module] = {}
    for part in deploy_forms(twin):
        part.arrange(Execution(at_once=PERSONS_AT_ONCE * torch.get_num_threads()))
        part.compact = True  # it is no file
        assert isinstance(part.blocks, nn.ModuleList)
        if fits(part.stem, part.blocks):
            part.stem, part.blocks = NetworkProgram(part.stem, part.blocks), nn.ModuleList()
            part.arrange(Execution())
            continue
        for name, child in list(part.named_children()):
            setattr(part, name, _replaced(child, choices, replaced))
        part.features(_some_clip(part))  # at their first calls convolutions find what is faster
    return twin if any(_uses_rows(module) for module in twin.modules()) else None


def _uses_rows(module: nn.Module) -> bool:
    return isinstance(module, NetworkProgram) or (
        isinstance(module, SparseConv) and module.way == "kept weights"
    )


def _has_zeros(form: nn.Module) -> bool:
    return any(
        bool((module.weight == 0).any())
        for module in form.modules()
        if isinstance(module, nn.Conv2d)
    )


def _replaced(
    module: nn.Module, choices: Choices | None, replaced: dict[nn.Module, nn.Module]
) -> nn.Module:
    """What takes a module's place, from the inside out; one that stands in two places is replaced
    once.
    """
    if module not in replaced:
        for name, child in list(module.named_children()):
            setattr(module, name, _replaced(child, choices, replaced))
        replaced[module] = with_kept_weights(module, choices)
    return replaced[module]


def _some_clip(form: DeployForm) -> Tensor:
    """(1, 3, T, V, M) in which everyone is there."""
    some = next(form.parameters())
    frames = form.frames or USUAL_FRAMES
    return some.new_ones(1, 3, frames, form.spec.joints, form.spec.persons)


@cache
def _say_what_is_missing() -> None:
    log.warning(
        "sparse networks run dense here: pip install 'orchestrate[sparse]' installs numba, with"
        " which they run on their kept weights alone"
    )
