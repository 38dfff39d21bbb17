"""Whether the classifier of a masked network is still connected to its input.

Knows no backbone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import ParametrizationList

from trainables.reparam.fusion import KernelMask
from trainables.sparsity.masks import Masked


@torch.no_grad()
def first_disconnected_block(
    network: nn.Module, blocks: Sequence[nn.Module], clips: Tensor
) -> int | None:
    """Number of the first block whose output does not depend on the clip, not even through a
    residual path; None where all blocks are connected.

    Runs a copy of the network in which every kept weight is positive and every shift zero: positive
    clips then give a positive output exactly where a path leads. blocks: of the network; clips: of
    any size it takes.
    """
    numbers = {id(block): number for number, block in enumerate(blocks)}
    places = [
        (name, numbers[id(module)])
        for name, module in network.named_modules()
        if id(module) in numbers
    ]
    probe = copy.deepcopy(network).double().eval()
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
