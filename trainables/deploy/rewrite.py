"""A trial's deploy form written anew: zeros left out, weights rounded to half precision where
asked. Knows nothing of data or sweeps.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from trainables.contract.artifacts import TrialDir
from trainables.contract.errors import UserError
from trainables.deploy.compact import compact
from trainables.deploy.form import (
    DeployForm,
    expect_again,
    load_deploy,
    nonzero_params,
    save_deploy,
)
from trainables.deploy.sparse.runtime import run_sparse
from trainables.models.multilevel import MultiLevel


@dataclass(frozen=True)
class Packed:
    """What a deploy form takes before and after."""

    source: str
    out: str
    params: int
    nonzero_params: int  # as written
    bytes_before: int
    bytes_after: int
    rounded: bool  # to half precision
    largest_change: float  # of a parameter by rounding, relative to the largest of its tensor
    # whether it has channels that masks made useless: `compact` makes it faster, a file is as small
    # with them
    compact: bool
    # whether it runs faster on its kept weights alone on this machine, by `run_sparse`
    sparse: bool


def pack_deploy(source: Path, out: Path, *, half: bool, force: bool) -> Packed:
    """Write the deploy form of `source`, a trial's folder or a file, to `out`; UserError where one
    of them is not as it must be.

    half: every parameter is rounded to float16, which the file then holds; computations stay in
    float32.
    """
    file = TrialDir(source).deploy_file if source.is_dir() else source
    if out.exists() and (not force or out.is_dir()):
        raise UserError(
            f"{out}: must not exist yet{'' if out.is_dir() else ' (--force replaces it)'}"
        )
    form, change = load_deploy(file), 0.0
    if half:
        try:
            change = round_to_half(form)
        except ValueError as error:
            raise UserError(f"{file}: {error}") from error
    return Packed(
        source=str(file),
        out=str(out),
        params=sum(parameter.numel() for parameter in form.parameters()),
        nonzero_params=nonzero_params(form),
        bytes_before=file.stat().st_size,
        bytes_after=save_deploy(form, out),
        rounded=half,
        largest_change=change,
        compact=isinstance(form, DeployForm) and compact(form) is not None,
        sparse=run_sparse(form) is not None,
    )


def round_to_half(form: DeployForm | MultiLevel) -> float:
    """Round every parameter to float16, in place, keeping its type; the largest change, relative to
    the largest number of its tensor.

    ValueError names a tensor with numbers that float16 cannot hold; the form is then as it was.
    """
    rounded = {
        name: parameter.half().to(parameter.dtype) for name, parameter in form.named_parameters()
    }
    wide = [name for name, tensor in rounded.items() if not tensor.isfinite().all()]
    if wide:
        raise ValueError(
            f"{wide[0]} must be at most {torch.finfo(torch.float16).max:g} to be rounded to half"
            " precision"
        )
    change = 0.0
    for name, parameter in form.named_parameters():
        scale = parameter.abs().max().clamp(min=torch.finfo(parameter.dtype).tiny)
        change = max(change, float((parameter - rounded[name]).abs().max() / scale))
        parameter.copy_(rounded[name])
    expect_again(form)
    return change
