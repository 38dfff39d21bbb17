"""Whether the classifier of a masked network is still connected to its input.

Knows no backbone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import ParametrizationList

from trainables.module_copies import module_copy
from trainables.reparam.fusion import KernelMask
from trainables.sparsity.masks import Masked

_KNOWN: WeakKeyDictionary[nn.Module, tuple[str, int | None]] = WeakKeyDictionary()
"""Of each network the masks it was last asked for, and the answer: masks that stay as they are are
asked for again and again, and nothing else of a network changes it.
"""


def first_disconnected_block(
    network: nn.Module, blocks: Sequence[nn.Module], clips: Tensor
) -> int | None:
    """Number of the first block whose output does not depend on the clip, not even through a
    residual path; None where all blocks are connected.

    blocks: of the network; clips: of any size it takes.
    """
    masks = _masks_of(network)
    known = _KNOWN.get(network)
    if known is None or known[0] != masks:
        known = _KNOWN[network] = (masks, _first_disconnected_block(network, blocks, clips))
    return known[1]


def _masks_of(network: nn.Module) -> str:
    """A digest of all masks and of where they are."""
    digest = hashlib.sha256()
    for name, module in network.named_modules():
        if isinstance(module, Masked | KernelMask):
            digest.update(name.encode())
            digest.update((module.mask != 0).cpu().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def _first_disconnected_block(
    network: nn.Module, blocks: Sequence[nn.Module], clips: Tensor
) -> int | None:
    """Runs a copy of the network in which every kept weight is positive and every shift zero:
    positive clips then give a positive output exactly where a path leads.
    """
    numbers = {id(block): number for number, block in enumerate(blocks)}
    places = [
        (name, numbers[id(module)])
        for name, module in network.named_modules()
        if id(module) in numbers
    ]
    probe = module_copy(network).double().eval()
    _make_positive(probe)
    connected: dict[int, bool] = {}

    def watch(number: int) -> Callable[[nn.Module, object, Tensor], None]:
        def note(_module: nn.Module, _inputs: object, out: Tensor) -> None:
            connected[number] = bool(out.any())

        return note

    for name, number in places:
        probe.get_submodule(name).register_forward_hook(watch(number))
    # joints that differ: differences between them are paths too
    generator = torch.Generator().manual_seed(0)
    probe(
        (0.5 + torch.rand(clips.shape, generator=generator, dtype=torch.float64)).to(clips.device)
    )
    return next((number for number in sorted(connected) if not connected[number]), None)


def _make_positive(network: nn.Module) -> None:
    """Make every weight a mean of its input, gates and shifts zero, normalisations neutral."""
    for module in network.modules():
        if isinstance(module, Masked | KernelMask):
            module.active = True
            continue
        if isinstance(module, _BatchNorm):
            module.reset_parameters()
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim > 1:
                parameter.fill_(parameter.shape[0] / parameter.numel())
            else:
                scale = isinstance(module, ParametrizationList) or (
                    isinstance(module, nn.LayerNorm) and name == "weight"
                )  # masked ones of BatchNorm
                parameter.fill_(1.0 if scale else 0.0)
