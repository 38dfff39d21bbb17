"""The training form and the deploy form of a network are equal, or the trial has failed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainables.contract.errors import TrialFailed
from trainables.data.batches.batches import Batches
from trainables.deploy.compact import compact_form
from trainables.deploy.form import DeployForm, deploy, round_to_single
from trainables.deploy.sparse.runtime import has_program, run_sparse
from trainables.models.build import Backbone
from trainables.models.multilevel import MultiLevel
from trainables.module_copies import module_copy
from trainables.precision import full_float32
from trainables.training.evaluate import score

EXACT_TOLERANCE = 1e-9
"""Largest |training form - deploy form| accepted in double precision, relative to the largest
logit: rounding stays near 1e-14.
"""

EXACT_CLIPS = 4

DEPLOY_TOLERANCE = 1e-4
"""The same in single precision, for networks without choices: rounding stays near 1e-6."""

SPARSE_TOLERANCE = 1e-6
"""The same between the deploy form and its execution on kept weights alone; more where the training
form's own rounding is a tenth of it or more.
"""

ROUNDING_ROOM = 10.0
"""What single precision may differ by where a network enlarges rounding beyond that: so many times
the training form's own rounding.
"""


@dataclass(frozen=True)
class Proof:
    """What the deploy form gives for the clips on which it was compared."""

    index: Tensor  # (N,) positions in the store
    logits: Tensor  # (N, K)
    difference: float  # largest |training form - deploy form| over all logits


@dataclass(frozen=True)
class Folded:
    """A deploy form whose folding was proven."""

    form: DeployForm | MultiLevel  # in single precision
    # the training form's own on the same clips: |single - double precision| relative to the largest
    # logit. It is large where training has left BatchNorms with channels that are constant: those
    # divide by next to nothing.
    rounding: float


@torch.no_grad()
def prove_folding(model: Backbone | MultiLevel, batches: Batches, frames: int) -> Folded:
    """The deploy form of a network; TrialFailed unless the folding is exact in double precision,
    where rounding cannot hide a mistake nor change a choice. What was proven is then rounded, so
    that it is folded once.
    """
    exact = module_copy(model).double().eval()
    clips = next(iter(batches.epoch(0))).x[:EXACT_CLIPS].double()
    form, expected = deploy(exact, frames=frames), exact(clips)
    for shipped in (form, compact_form(form)):
        if shipped is not None:
            _check_difference(expected, shipped(clips), EXACT_TOLERANCE)
    with full_float32():
        rounded = model.eval()(clips.float()).double()
    scale = max(float(expected.abs().max()), 1.0)
    round_to_single(form)
    rounding = float((rounded - expected).abs().max()) / scale
    if model.continuous:
        room = max(SPARSE_TOLERANCE, ROUNDING_ROOM * rounding)
        _prove_kept_weights(form, clips.float(), room)
    return Folded(form, rounding)


def _prove_kept_weights(form: DeployForm | MultiLevel, clips: Tensor, room: float) -> None:
    """Of each way in which `run_sparse` may run the form: nothing, where that is none."""
    with full_float32():
        expected = form(clips)
        for whole in (True, False) if has_program(form) else (False,):
            sparse = run_sparse(form, forced=True, whole=whole)
            if sparse is not None:
                _check_difference(expected, sparse(clips), room)


class _AbsentOnce(nn.Module):
    """The training form in evaluation; persons who are all zero are run once per place, but in the
    first batch that has some: there the persons of a clip must be apart, as the network's card
    says.
    """

    def __init__(self, network: Backbone) -> None:
        super().__init__()
        self.network = network
        self.training = network.training
        self._seen_apart = False

    def forward(self, clips: Tensor) -> Tensor:
        there = clips.ne(0).flatten(1, 3).any(dim=1)  # (N, M)
        places = torch.arange(1, clips.shape[4] + 1, device=clips.device)
        persons = (there * places).amax(dim=1).cpu()  # up to the last who is there
        if not self._seen_apart and bool((persons < clips.shape[4]).any()):
            whole: Tensor = self.network(clips)
            self._seen_apart = True
            return whole
        logits: Tensor = self.network.head(self.network.features(clips, persons))
        return logits


def prove_equal(
    model: Backbone | MultiLevel, folded: Folded, batches: Batches, *, absent_once: bool = False
) -> Proof:
    """The deploy form's logits on all batches; TrialFailed unless they are the training form's.

    absent_once: the training form runs absent persons once, too, behind the first batch with one;
    of networks of one level.
    """
    once = _AbsentOnce(model) if absent_once and isinstance(model, Backbone) else model
    _, trained = score(once, batches.epoch(0))
    index, logits = score(folded.form, batches.epoch(0))
    room = max(DEPLOY_TOLERANCE, ROUNDING_ROOM * folded.rounding)
    tolerance = room if model.continuous else math.inf
    return Proof(index, logits, _check_difference(trained, logits, tolerance))


def _check_difference(trained: Tensor, shipped: Tensor, tolerance: float) -> float:
    difference, scale = float((trained - shipped).abs().max()), float(trained.abs().max())
    if not (math.isfinite(difference) and difference <= tolerance * max(scale, 1.0)):
        raise TrialFailed(
            "deploy form must give the training form's logits, got a difference of"
            f" {difference:.3g} at logits up to {scale:.3g}"
        )
    return difference
