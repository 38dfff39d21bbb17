"""Masks that survive fusing: one on each kernel that the deploy form makes of several, or of the
same channels everywhere in a block.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainables.contract.sparsity import SparsityConfig
from trainables.cost.counting.sparse import side
from trainables.reparam.fusion import Fusion, KernelMask
from trainables.sparsity.masks import Kept, Masked, Masks, attach, raw_weight

Pairs = list[tuple[Tensor, Tensor]]
"""(weights, mask of their shape)."""


class SharedKernel(ABC):
    """A fused kernel, which a level counts as it counts the weight of a convolution, and the masks
    that keep its holes.
    """

    mask: Tensor
    active: bool

    def __init__(self, fusion: Fusion) -> None:
        self.fusion = fusion

    @property
    def weight(self) -> Tensor:
        """The fused kernel without a mask, as the weight of a convolution would be."""
        return self.fusion.one_kernel()

    @abstractmethod
    def attach(self, mask: Tensor) -> SharedKernel:
        """Put `mask`, of the kernel's shape, to work; not active yet."""

    @abstractmethod
    def removable(self) -> Pairs:
        """What a penalty on weights that will go sees."""

    @abstractmethod
    def parameters(self) -> Pairs:
        """Parameters of which single weights go, with their masks."""


class FusedKernel(SharedKernel):
    """The mask is on the fused kernel itself (sharing `fused`):
    no single weight of the parts goes.
    """

    def attach(self, mask: Tensor) -> SharedKernel:
        self._on_kernel: KernelMask = self.fusion.mask_kernel(mask)
        return self

    @property
    def mask(self) -> Tensor:  # type: ignore[override]
        return self._on_kernel.mask

    @property
    def active(self) -> bool:
        return self._on_kernel.active

    @active.setter
    def active(self, active: bool) -> None:
        self._on_kernel.active = active

    def removable(self) -> Pairs:
        return [(self.fusion.one_kernel(), self.mask)]

    def parameters(self) -> Pairs:
        return []


class BranchKernels(SharedKernel):
    """Masks on the branches whose sum keeps the holes of one mask (sharing `branches`)."""

    def attach(self, mask: Tensor) -> SharedKernel:
        masks = self.fusion.masks_within(mask)
        assert masks is not None
        self.mask = mask
        self._parts = [
            (conv, attach(conv, part))
            for conv, part in zip(self.fusion.parts(), masks, strict=True)
        ]
        return self

    @property
    def active(self) -> bool:
        return all(masked.active for _, masked in self._parts)

    @active.setter
    def active(self, active: bool) -> None:
        for _, masked in self._parts:
            masked.active = active

    def removable(self) -> Pairs:
        return self.parameters()

    def parameters(self) -> Pairs:
        return [(raw_weight(conv), masked.mask) for conv, masked in self._parts]


Layer = nn.Conv2d | SharedKernel
"""What a level counts: both have a `weight`."""


def put(layer: Layer, mask: Tensor) -> Masked | SharedKernel:
    """Attach `mask` in the weight's dtype and on its device; what has a `mask` and can be made
    active.
    """
    mask = mask.to(layer.weight)
    return layer.attach(mask) if isinstance(layer, SharedKernel) else attach(layer, mask)


def removable(layer: Layer, masked: Masked | SharedKernel) -> Pairs:
    """What a penalty on weights that will go sees of a layer."""
    return (
        layer.removable() if isinstance(layer, SharedKernel) else [(raw_weight(layer), masked.mask)]
    )


def parameters(layer: Layer, masked: Masked | SharedKernel) -> Pairs:
    """Parameters of a layer of which single weights go, with their masks."""
    return (
        layer.parameters()
        if isinstance(layer, SharedKernel)
        else [(raw_weight(layer), masked.mask)]
    )


def counted_kernels(blocks: Sequence[nn.Module], sharing: str) -> list[list[Layer]]:
    """The kernels a level counts, by block: fused ones, where a mask is on them, and the other 2-D
    convolutions; in the order of `modules()`.
    """
    return [_counted(block, sharing) for block in blocks]


def _counted(block: nn.Module, sharing: str) -> list[Layer]:
    layers: list[Layer] = []
    inside: set[nn.Module] = set()
    for module in block.modules():
        if isinstance(module, Fusion) and _shares(module, sharing):
            layers.append(FusedKernel(module) if sharing == "fused" else BranchKernels(module))
            inside.update(module.parts())
        elif isinstance(module, nn.Conv2d) and module not in inside:
            layers.append(module)
    return layers


def _shares(fusion: Fusion, sharing: str) -> bool:
    if sharing == "fused":
        return bool(fusion.parts())
    return (
        sharing == "branches"
        and bool(fusion.parts())
        and fusion.masks_within(torch.ones_like(fusion.one_kernel())) is not None
    )


def kept_in_fused(network: nn.Module) -> list[Kept]:
    """What masks on fused kernels leave, by the names that the
    fused modules have in the network.
    """
    masks = [
        (name.rpartition(".")[0], module.mask)
        for name, module in network.named_modules()
        if isinstance(module, KernelMask)
    ]
    return [Kept(name, tuple(mask.shape), int(mask.count_nonzero())) for name, mask in masks]


def channel_masks(blocks: Sequence[nn.Module], config: SparsityConfig, seed: int) -> Masks:
    """Masks, float64, with which a block works on some channels and passes the others on (sharing
    `channels`); in the order of `modules()`.

    Wherever a convolution of the block has C inputs or outputs, the same side(C) of them are kept,
    so a kernel keeps a rectangle of channels and sums and products of kernels keep it too.
    fixed_random draws the channels, magnitude_at_init keeps those whose weights in the block have
    the largest sum of squares.
    """
    generator = torch.Generator().manual_seed(seed)
    return [_block_channel_masks(block, config, generator) for block in blocks]


def _block_channel_masks(
    block: nn.Module, config: SparsityConfig, generator: torch.Generator
) -> list[Tensor]:
    copies = {
        conv: part.input_copies()
        for part in block.modules()
        if isinstance(part, Fusion)
        for conv in part.parts()
    }
    convs = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
    scores: dict[int, Tensor] = {}
    for conv in convs:
        outside, inside = conv.weight.shape[0], conv.weight.shape[1] // copies.get(conv, 1)
        squares = conv.weight.detach().double().cpu().square().sum(dim=(2, 3))  # (C_out, C_in)
        for width, score in (
            (outside, squares.sum(dim=1)),
            (inside, squares.view(outside, -1, inside).sum(dim=(0, 1))),
        ):
            scores[width] = scores.get(width, torch.zeros(width, dtype=torch.float64)) + score
    if config.generator == "fixed_random":
        scores = {
            width: torch.rand(width, generator=generator, dtype=torch.float64) for width in scores
        }
    kept = {
        width: _largest(score, side(width, config.expected_level))
        for width, score in scores.items()
    }
    masks = []
    for conv in convs:
        times = copies.get(conv, 1)
        rectangle = kept[conv.weight.shape[0]][:, None] * kept[
            conv.weight.shape[1] // times
        ].repeat(times)
        masks.append(rectangle[:, :, None, None].expand(conv.weight.shape).contiguous())
    return masks


def _largest(scores: Tensor, number: int) -> Tensor:
    kept = torch.zeros_like(scores)
    kept[torch.argsort(scores, descending=True, stable=True)[:number]] = 1.0
    return kept
