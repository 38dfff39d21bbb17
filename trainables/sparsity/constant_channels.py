"""Channels that masks leave constant: found by running the network, fixed by masks on the scales
of BatchNorms. Knows no backbone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainables.module_copies import module_copy
from trainables.reparam.fusion import KernelMask
from trainables.sparsity.masks import Masked

CONSTANT = 1e-9
"""Spread of a channel up to which it is a constant, relative to its size: rounding stays near
1e-15, what varies near 1.
"""


@torch.no_grad()
def constant_channels(
    network: nn.Module, blocks: Sequence[nn.Module], clips: Tensor
) -> list[tuple[nn.BatchNorm2d, Tensor]]:
    """BatchNorms of the blocks that have channels which are constant under the masks, whatever the
    weights, each with a mask (C,) for its scale.

    In training such a channel's output is the shift beta. In evaluation it is beta + gamma (x -
    mean) / sqrt(var + eps), where var goes to zero and mean lags behind x: a small change of x is
    enlarged by up to gamma / sqrt(eps), about 300 times. With gamma 0 it is beta in both.

    A copy with random weights runs on random clips; every shift is positive, so that no ReLU makes
    a constant. Scales are masked while the copy runs, because channels behind a constant one may be
    constant too. blocks: of the network; clips: of the size it will take.
    """
    inside = {
        module
        for block in blocks
        for module in block.modules()
        if isinstance(module, nn.BatchNorm2d)
    }
    norms = {
        name: module
        for name, module in network.named_modules()
        if module in inside and isinstance(module, nn.BatchNorm2d)
    }
    if not norms:
        return []
    probe, generator = (
        module_copy(network).cpu().double().eval(),
        torch.Generator().manual_seed(0),
    )
    _randomise(probe, generator)
    varies: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.BatchNorm2d, tuple[Tensor]], None]:
        def note(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
            channels = inputs[0].transpose(0, 1).flatten(1)  # (C, N T V)
            low, high = channels.amin(dim=1), channels.amax(dim=1)
            varies[name] = high - low > CONSTANT * (1 + torch.maximum(high, -low))
            _scale(norm).mul_(varies[name])

        return note

    for name in norms:
        norm = probe.get_submodule(name)
        norm.train().register_forward_pre_hook(watch(name))
    probe(torch.rand(clips.shape, generator=generator, dtype=torch.float64))
    return [
        (norms[name], mask.to(norms[name].weight))
        for name, mask in varies.items()
        if not mask.all()
    ]


def _scale(norm: nn.BatchNorm2d) -> Tensor:
    """The parameter, masked or not."""
    masked = getattr(norm, "parametrizations", None)
    scale: Tensor = norm.weight if masked is None else masked.weight.original
    return scale


def _randomise(network: nn.Module, generator: torch.Generator) -> None:
    """Activate every mask; draw weights of either sign that keep the size of their input, and
    parameters of one value per channel near 1; forget the running statistics.
    """
    for module in network.modules():
        if isinstance(module, Masked | KernelMask):
            module.active = True
        elif isinstance(module, _BatchNorm):
            module.reset_running_stats()
        for parameter in (
            () if isinstance(module, Masked | KernelMask) else module.parameters(recurse=False)
        ):
            if parameter.ndim > 1:
                drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(drawn * (parameter.shape[0] / parameter.numel()) ** 0.5)
            else:
                parameter.copy_(
                    0.5 + torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
                )
