"""Deploy forms of which two of every four weights are zero, on GPUs with sparse tensor cores.

Knows zeros, not masks.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.contract.errors import UserError
from trainables.deploy.form import DeployForm, Execution
from trainables.models.layers import PointwiseProduct
from trainables.module_copies import module_copy

Compress = Callable[[Tensor], Tensor]

ROWS, COLUMNS = 32, 64
"""Multiples that all kernels of torch.sparse take of a half-precision matrix: CUTLASS wants these,
cuSPARSELt 16 and 16.
"""


def run_two_of_four(form: DeployForm) -> DeployForm:
    """A copy of a float16 or bfloat16 deploy form on a GPU whose 2:4 convolutions over one frame
    run on sparse tensor cores.

    Convolutions over several frames and those without two zeros in every four neighbouring inputs
    stay as they are. UserError where the device or this build of torch has no such products, the
    precision is another, or no convolution has such zeros.
    """
    some = next(form.parameters())
    if some.device.type != "cuda" or torch.cuda.get_device_capability(some.device) < (8, 0):
        raise UserError(
            f"2:4 products need a GPU of compute capability 8.0 or more, got {some.device}"
        )
    if some.dtype not in (torch.float16, torch.bfloat16):
        raise UserError(f"2:4 products need float16 or bfloat16, got {some.dtype}: use form.half()")
    return _with_products(form, _compressor(some))


def _compressor(some: Tensor) -> Compress:
    """What compresses matrices like `some` so that they are multiplied here: builds of torch and
    GPUs differ in the kernels they have.
    """
    kinds = {
        "cuSPARSELt": torch.sparse.SparseSemiStructuredTensorCUSPARSELT,
        "CUTLASS": torch.sparse.SparseSemiStructuredTensorCUTLASS,
    }
    reasons = []
    for name, kind in kinds.items():
        try:
            F.linear(some.new_zeros(ROWS, COLUMNS), kind.from_dense(some.new_zeros(ROWS, COLUMNS)))
        except (RuntimeError, NotImplementedError) as error:
            reasons.append(f"{name}: {error}")
        else:
            return kind.from_dense
    raise UserError(
        f"2:4 products need kernels that this build of torch has for {some.device}, got"
        f" {'; '.join(reasons)}"
    )


def _with_products(form: DeployForm, compress: Compress) -> DeployForm:
    twin, replaced = module_copy(form), 0
    for module in list(twin.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.Conv2d and _fits(child):
                setattr(module, name, PointwiseProduct(child, compress))
                replaced += 1
    if not replaced:
        raise UserError(
            "2:4 products need a convolution over one frame with two zeros in every four"
            " neighbouring inputs, got none"
        )
    twin.arrange(Execution(rows=True, at_once=form.execution.at_once))
    return twin


def _fits(conv: nn.Conv2d) -> bool:
    shape, kernel = conv.weight.shape, conv.weight.contiguous()
    if conv.kernel_size != (1, 1) or conv.groups > 1 or shape[0] % ROWS or shape[1] % COLUMNS:
        return False
    return bool(((kernel.view(shape[0], -1, 4) != 0).sum(dim=2) <= 2).all())
