"""A deploy form that runs on its kept weights alone: the same function, from the same file."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from functools import cache
from typing import overload

import torch
from torch import Tensor, nn

from trainables.deploy.form import DeployForm, Execution, deploy_forms
from trainables.deploy.sparse.choices import Choices, kept_share
from trainables.deploy.sparse.modules import SparseConv, with_kept_weights
from trainables.deploy.sparse.networks import NetworkProgram, fits
from trainables.models.multilevel import MultiLevel
from trainables.module_copies import module_copy
from trainables.sparse.rows import compiled, without_numba

log = logging.getLogger(__name__)

USUAL_FRAMES = 64
PERSONS_AT_ONCE = 2
"""So few that their feature maps stay in the cache of one core."""


@overload
def run_sparse(
    form: DeployForm, *, forced: bool = False, whole: bool = True
) -> DeployForm | None: ...
@overload
def run_sparse(
    form: MultiLevel, *, forced: bool = False, whole: bool = True
) -> MultiLevel | None: ...
@torch.no_grad()
def run_sparse(
    form: DeployForm | MultiLevel, *, forced: bool = False, whole: bool = True
) -> DeployForm | MultiLevel | None:
    """A copy whose convolutions run on their kept weights where that is faster on this machine,
    equal up to the order of sums; None where nothing is: the form is dense, on a GPU, neither in
    single nor in double precision, or numba cannot be used, which is said once.

    forced: wherever weights are zero, faster or not. whole: as one program where its parts allow
    that; otherwise convolution by convolution. A few persons at a time go through the whole
    network; threads as many as torch has, each with persons of its own. The file of `save_deploy`
    is that of the form this was made of.
    """
    some = next(form.parameters())
    computes = some.device.type == "cpu" and some.dtype in (torch.float32, torch.float64)
    if not computes or not _has_zeros(form):
        return None
    if not compiled():
        _say_what_is_missing()
        return None
    if isinstance(form, MultiLevel):
        parts = {part: _sparse_part(part, forced, whole) or part for part in deploy_forms(form)}
        if all(part is made for part, made in parts.items()):
            return None
        return _made_of(form, parts)
    return _sparse_part(form, forced, whole)


def has_program(form: DeployForm | MultiLevel) -> bool:
    """Whether `whole` makes a difference: a part may run as one program."""
    return any(_as_program(part) for part in deploy_forms(form))


def _as_program(form: DeployForm) -> bool:
    return isinstance(form.blocks, nn.ModuleList) and fits(form.stem, form.blocks)


def _made_of(form: MultiLevel, parts: dict[DeployForm, DeployForm]) -> MultiLevel:
    """A copy of a network of several levels with other parts."""
    twin = copy.copy(form)
    twin._modules = {}
    for name, child in form._modules.items():
        if isinstance(child, nn.ModuleList):
            members = [parts[member] for member in child if isinstance(member, DeployForm)]
            twin._modules[name] = nn.ModuleList(members) if members else module_copy(child)
        elif child is not None:
            found = parts[child] if isinstance(child, DeployForm) else module_copy(child)
            twin._modules[name] = found
    return twin


def _sparse_part(form: DeployForm, forced: bool, whole: bool) -> DeployForm | None:
    """The first that is faster than the dense form: one program, or single convolutions."""
    if not _has_zeros(form):
        return None
    choices, clip = Choices(), _some_clip(form)
    name = _name_of(form)
    if whole and _as_program(form):
        twin = module_copy(form)
        assert isinstance(twin.blocks, nn.ModuleList)
        twin.arrange(Execution())
        twin.stem, twin.blocks = NetworkProgram(twin.stem, twin.blocks), nn.ModuleList()
        twin.compact = True  # it is no file
        if forced or choices.worth(f"program {name}", lambda: twin(clip), lambda: form(clip)):
            return twin
    twin = module_copy(form)
    twin.arrange(Execution(at_once=PERSONS_AT_ONCE * torch.get_num_threads()))
    twin.compact = True
    replaced: dict[nn.Module, nn.Module] = {}
    for part, child in list(twin.named_children()):
        setattr(twin, part, _replaced(child, None if forced else choices, replaced))
    twin(clip)  # at their first calls convolutions find what is faster
    used = any(
        isinstance(each, SparseConv) and each.way == "kept weights" for each in twin.modules()
    )
    if not used:
        return None
    if forced or choices.worth(f"modules {name}", lambda: twin(clip), lambda: form(clip)):
        return twin
    return None


def _name_of(form: DeployForm) -> str:
    """Equal for forms that are equally fast."""
    kernels = [each.weight for each in form.modules() if isinstance(each, nn.Conv2d)]
    shares = [kept_share(int(torch.count_nonzero(kernel)), kernel.numel()) for kernel in kernels]
    described = [form.spec.model_dump(mode="json"), str(form.folding), form.frames, shares]
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:12]
    return f"{form.spec.model.backbone} {digest} {kernels[0].dtype} {torch.get_num_threads()}"


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
    """(N, 3, T, V, M) in which everyone is there: of at least as many persons as there are threads,
    so that what is faster for them is faster for batches.
    """
    some, persons = next(form.parameters()), form.spec.persons
    clips, frames = -(-torch.get_num_threads() // persons), form.frames or USUAL_FRAMES
    return some.new_ones(clips, 3, frames, form.spec.joints, persons)


@cache
def _say_what_is_missing() -> None:
    log.warning("%s", without_numba("run dense here"))
