"""Modules that hold several kernels and ship one, with a mask on that one.

Knows torch, no network and no way of choosing masks.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from trainables.reparam.fusible import Deployable
from trainables.reparam.kept import WeightMask

ON_A_FUSED_KERNEL = ".masked.mask"
"""What a mask on a fused kernel is called in a state dict, behind the module's name."""


class KernelMask(WeightMask):
    """A mask on a fused kernel, whose state is saved with it."""

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.active)

    def set_extra_state(self, state: Tensor) -> None:
        self.active = bool(state)


class Fusion(Deployable):
    """A training-form module that ships as one kernel made of several: holes of theirs are not
    holes of its own.

    An active `KernelMask` makes it train as it ships: as one convolution by mask * fused kernel,
    through which gradients reach the parts. BatchNorms inside then use their running statistics,
    which no longer change. Both forms are equal by construction.
    """

    @abstractmethod
    def parts(self) -> list[nn.Conv2d]:
        """The convolutions the kernel is made of, in the order of `modules()`."""

    @abstractmethod
    def one_kernel(self) -> Tensor:
        """The kernel that ships, before BatchNorms behind it and without a mask; differentiable.

        Structural zeros are left out.
        """

    def masks_within(self, mask: Tensor) -> list[Tensor] | None:
        """A mask for each part, the largest of their kind, with which the fused kernel is zero
        wherever `mask` is; None: there are none.
        """
        return None

    def input_copies(self) -> int:
        """How often every input channel is one of the parts' inputs."""
        return 1

    @property
    def kernel_mask(self) -> KernelMask | None:
        """Put there from outside by `mask_kernel`."""
        mask = self._modules.get("masked")
        assert mask is None or isinstance(mask, KernelMask)
        return mask

    @property
    def fixed(self) -> bool:
        """Whether it runs as one masked kernel."""
        return self.kernel_mask is not None and self.kernel_mask.active

    def masked_kernel(self, kernel: Tensor) -> Tensor:
        """mask * kernel where a mask is active."""
        return kernel if self.kernel_mask is None else self.kernel_mask(kernel)

    def mask_kernel(self, mask: Tensor) -> KernelMask:
        """Put `mask`, of the shape of `one_kernel`, on it; not active yet."""
        masked = KernelMask(mask)
        self.add_module("masked", masked)
        return masked
