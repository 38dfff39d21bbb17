"""Channels of which masks leave a constant: found by running a network, silenced by masks on the
scales of BatchNorms. Knows no backbone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainables.reparam.fusion import KernelMask
from trainables.sparsity.masks import Masked

CONSTANT = 1e-9
"""Spread of a channel up to which it is a constant, relative to its size: rounding stays near
1e-15, what varies near 1.
"""


@torch.no_grad()
def silent_channels(
    network: nn.Module, blocks: Sequence[nn.Module], clips: Tensor
) -> list[tuple[nn.BatchNorm2d, Tensor]]:
    """The blocks' BatchNorms with channels that are constant under the masks, whatever the weights,
    and a mask (C,) for their scale.

    In training such a channel comes out as the shift beta. In evaluation it is beta + gamma (x -
    mean) / sqrt(var + eps), where var goes to zero and mean runs after x: what little x moves is
    enlarged by up to gamma / sqrt(eps), some three hundred times. With gamma 0 it is beta in both.

    A copy with random weights sees random clips, every shift positive, so that no ReLU makes a
    constant. Channels are silenced as the network
    runs: those behind them may then be constant too. blocks: of the network; clips: of the size it
    will take.
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
    twin, generator = copy.deepcopy(network).cpu().double().eval(), torch.Generator().manual_seed(0)
    _randomise(twin, generator)
    heard: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.BatchNorm2d, tuple[Tensor]], None]:
        def note(norm: nn.BatchNorm2d, given: tuple[Tensor]) -> None:
            channels = given[0].transpose(0, 1).flatten(1)  # (C, N T V)
            low, high = channels.amin(dim=1), channels.amax(dim=1)
            heard[name] = high - low > CONSTANT * (1 + torch.maximum(high, -low))
            _scale(norm).mul_(heard[name])

        return note

    for name in norms:
        norm = twin.get_submodule(name)
        norm.train().register_forward_pre_hook(watch(name))
    twin(torch.rand(clips.shape, generator=generator, dtype=torch.float64))
    return [
        (norms[name], varies.to(norms[name].weight))
        for name, varies in heard.items()
        if not varies.all()
    ]


def _scale(norm: nn.BatchNorm2d) -> Tensor:
    """The parameter, masked or not."""
    if hasattr(norm, "parametrizations"):
        masked: Tensor = norm.parametrizations.weight.original  # type: ignore[union-attr, assignment]
        return masked
    return norm.weight


def _randomise(network: nn.Module, generator: torch.Generator) -> None:
    """Every mask at work; weights of either sign that keep the size of what they take in, what is
    one per channel near 1, no statistics.
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
