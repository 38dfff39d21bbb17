"""The deploy form of a trained network: every linear piece folded, absent persons computed once,
saved and loaded.
"""

from __future__ import annotations

import io
import pickle
import statistics
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, cast, overload

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from trainables.contract.archives import check_growth
from trainables.contract.disk import write_atomic
from trainables.contract.errors import UserError
from trainables.contract.foreign_files import reason
from trainables.contract.frozen import Frozen
from trainables.cost.measured import call_seconds
from trainables.deploy.packing import pack, unpack
from trainables.libraries import mkl_lacks_avx512
from trainables.models.backbone import Backbone, NetworkSpec, SkeletonNetwork, person_features
from trainables.models.build import build_training_form
from trainables.models.build_levels import build_multi_level
from trainables.models.multilevel import MultiLevel, MultiLevelSpec
from trainables.module_copies import module_copy
from trainables.reparam.fusible import FULL, RELEASED, Folding, deployed
from trainables.reparam.fusion import Fusion

FORMAT = "orchestrate deploy form 2"
SPARSE_FORMAT = "orchestrate deploy form 3"
"""The same with tensors that `packing.pack` made smaller."""
LEVELS_FORMAT = "orchestrate deploy form of several levels 1"
"""Tensors as they are or made smaller."""

COUNTER = "num_batches_tracked"
"""Of a BatchNorm that a form as released keeps: the only whole number in a file."""


class Execution(Frozen):
    """How a deploy form goes through its persons. Results differ by rounding only."""

    rows: bool = False  # feature maps lie in memory as rows of channels (channels_last)
    # persons that go through the whole network before the next ones; None: all
    at_once: int | None = None

    def __str__(self) -> str:
        persons = (
            "all persons at once" if self.at_once is None else f"{self.at_once} persons at a time"
        )
        return f"{persons}, as rows" if self.rows else persons


PERSONS_AT_ONCE = 8
"""On a CPU the feature maps of so many persons stay in its cache."""
FEW_PERSONS_AT_ONCE = 2
"""The same for each thread where MKL lacks AVX-512 kernels, measured on a Zen 5 with 1 MB of second
cache for a core: ST-GCN's take 0.7 of the time of eight.
"""


def persons_at_once(device: torch.device) -> int | None:
    """How many persons go through a network together on this device; None: all. On a CPU it may
    depend on the threads that torch has now.
    """
    if device.type != "cpu":
        return None
    few = FEW_PERSONS_AT_ONCE * torch.get_num_threads()
    return min(few, PERSONS_AT_ONCE) if mkl_lacks_avx512() else PERSONS_AT_ONCE


def usual_execution(spec: NetworkSpec, folding: Folding, device: torch.device) -> Execution:
    """What is fastest where it was measured: on CPUs a few persons at a time, HPI-GCN as rows;
    elsewhere, and for a form that is to be as released, everything at once.
    """
    if device.type != "cpu" or not folding.across:
        return Execution()
    return Execution(rows=spec.model.card.load().as_rows, at_once=persons_at_once(device))


class DeployForm(SkeletonNetwork):
    """(N, 3, T, V, M) -> logits (N, K): a network in evaluation mode, folded and frozen.

    A person whose coordinates are all zero gives the same feature in every clip, so it is computed
    once and only the persons who are there are run. That feature depends on the number of frames;
    clips of another length are run with all their persons.
    """

    absent: Tensor
    execution: Execution

    def __init__(
        self, spec: NetworkSpec, folding: Folding, pieces: Backbone, frames: int | None
    ) -> None:
        """pieces: the network whose deployed parts are taken over; frames: T of the clips to come,
        None if it is not known.
        """
        super().__init__()
        self.spec = spec
        self.folding = folding
        self.compact = False  # channels were dropped, see `compact`
        self.frames: int | None = None
        # products of kernels are rounded once; what is deployed shares no memory with the pieces
        precision = next(pieces.parameters()).dtype
        exact = pieces if _is_double(pieces) else module_copy(pieces).double()
        self.data_norm = deployed(exact.data_norm, folding)
        self.stem = deployed(exact.stem, folding)
        self.blocks = deployed(exact.blocks, folding)
        self.head = deployed(exact.head, folding)
        self.to(precision).eval()
        for parameter in self.parameters():
            parameter.add_(0.0)  # no negative zeros, which a negative scale makes of a mask's zeros
        self.arrange(usual_execution(spec, folding, next(self.parameters()).device))
        self.register_buffer("absent", None)
        if frames is not None:
            self.expect(frames)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """On another kind of device it runs as is usual there."""
        before = next(self.parameters()).device.type
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        device = next(self.parameters()).device
        if device.type != before:
            self.arrange(usual_execution(self.spec, self.folding, device))
        return self

    def arrange(self, execution: Execution) -> None:
        """Run this way from now on; weights are laid out as their products like them."""
        self.execution = execution
        layout = torch.channels_last if execution.rows else torch.contiguous_format
        self.to(memory_format=layout)  # type: ignore[call-overload]

    def expect(self, frames: int) -> None:
        """Clips to come have T = `frames`: what an absent person gives there is computed now."""
        self.frames, self.absent = frames, self._absent_features(frames)

    def expect_absent(self, frames: int) -> None:
        """The same where what an absent person gives is still to come, from a file."""
        if not isinstance(frames, int) or frames < 1:
            raise ValueError(f"frames must be a positive whole number, got {frames!r}")
        shape = self.spec.persons, self.spec.model.width
        self.frames, self.absent = frames, torch.empty(shape, device="meta")

    def features(self, clips: Tensor) -> Tensor:
        features = (
            self._features_of_present(clips)
            if self._may_skip(clips)
            else self._features(self.data_norm(clips))
        )
        return features.view(-1, self.spec.persons, self.spec.model.width).mean(dim=1)

    def _may_skip(self, clips: Tensor) -> bool:
        """Which persons are there decides the shapes, so nothing is skipped in a traced program."""
        return (
            self.spec.persons > 1
            and clips.shape[2] == self.frames
            and not torch.compiler.is_compiling()
        )

    def _features(self, persons: Tensor) -> Tensor:
        """(P, C, T, V) -> (P, C'). A traced program runs them all at once: what it is compiled to
        decides how.
        """
        assert isinstance(self.blocks, nn.ModuleList)
        if torch.compiler.is_compiling():
            return person_features(persons, self.stem, self.blocks)
        persons = persons.contiguous(
            memory_format=torch.channels_last if self.execution.rows else torch.contiguous_format
        )
        parts = torch.split(persons, self.execution.at_once or len(persons))
        return torch.cat([person_features(part, self.stem, self.blocks) for part in parts])

    def _features_of_present(self, clips: Tensor) -> Tensor:
        """(N M, C'), absent persons from the table."""
        present = (clips != 0).flatten(1, 3).any(dim=1).flatten()  # (N M,)
        there = present.nonzero().flatten()  # the one transfer of a batch
        x = self.data_norm(clips)
        if len(there) == len(present):
            return self._features(x)
        features = self.absent.repeat(len(clips), 1)
        if len(there) > 0:
            features[there] = self._features(x[there]).to(features.dtype)
        return features

    @torch.no_grad()
    def _absent_features(self, frames: int) -> Tensor:
        """(M, C'): of an all-zero person in each place; one row in all where the places are alike
        would do, but this is small.
        """
        some = next(self.parameters())
        nobody = torch.zeros(
            1, 3, frames, self.spec.joints, self.spec.persons, dtype=some.dtype, device=some.device
        )
        return self._features(self.data_norm(nobody))


@overload
def deploy(
    model: Backbone, folding: Folding | None = None, *, frames: int | None = None
) -> DeployForm: ...
@overload
def deploy(
    model: MultiLevel, folding: Folding | None = None, *, frames: int | None = None
) -> MultiLevel: ...
def deploy(
    model: Backbone | MultiLevel, folding: Folding | None = None, *, frames: int | None = None
) -> DeployForm | MultiLevel:
    """The network as it is shipped: same logits as `model.eval()`, same dtype and device, no shared
    memory; `model` is not changed.

    Of a network of several levels every network in it is deployed, each folded as suits its own
    weights.

    folding: None: everything, but where weights are masked two kernels are merged into one only if
    that leaves fewer non-zero numbers. frames: T of the clips to come; absent persons are then not
    run again and again.
    """
    with torch.no_grad():
        if isinstance(model, MultiLevel):
            return model.made_of(
                lambda part: deploy(cast("Backbone", part), folding, frames=frames)
            )
        if folding is not None:
            return DeployForm(model.spec, folding, model, frames)
        full = DeployForm(model.spec, FULL, model, None)
        masked = any(
            (conv.weight == 0).any()
            for conv in model.blocks.modules()
            if isinstance(conv, nn.Conv2d)
        )
        trained_as_one = any(
            isinstance(part, Fusion) and part.fixed for part in model.blocks.modules()
        )
        shipped = full
        if masked and model.merges and not trained_as_one:
            merge_not = FULL.model_copy(update={"merge": False})
            unmerged = DeployForm(model.spec, merge_not, model, None)
            shipped = full if nonzero_params(full) <= nonzero_params(unmerged) else unmerged
        if frames is not None:
            shipped.expect(frames)
        return shipped


def _is_double(model: nn.Module) -> bool:
    tensors = (*model.parameters(), *model.buffers())
    return all(each.dtype == torch.float64 for each in tensors if each.is_floating_point())


@torch.no_grad()
def settle(
    model: Backbone, clips: Tensor, *, rounds: int = 5
) -> tuple[DeployForm, dict[str, float]]:
    """The deploy form that is fastest with `clips` on their device, and the median seconds of every
    one that was tried.

    Every folding is tried in every way to run it, in turns; what makes things slower is not
    applied.
    """
    foldings = (
        [FULL, FULL.model_copy(update={"merge": False}), RELEASED]
        if model.merges
        else [FULL, RELEASED]
    )
    forms = {
        folding: DeployForm(model.spec, folding, model, clips.shape[2]) for folding in foldings
    }
    ways = [
        Execution(rows=rows, at_once=at_once)
        for rows in (False, True)
        for at_once in (None, persons_at_once(clips.device) or PERSONS_AT_ONCE)
    ]
    times: dict[tuple[Folding, Execution], list[float]] = {
        (folding, way): [] for folding in foldings for way in ways
    }
    for turn in range(rounds + 1):  # the first turn warms up
        for folding, way in times:
            forms[folding].arrange(way)
            # a form that is arranged in inference mode would have no packed weights
            with torch.inference_mode():
                seconds = call_seconds(forms[folding], clips)
            times[folding, way] += [seconds] if turn else []
    medians = {choice: statistics.median(taken) for choice, taken in times.items()}
    folding, way = min(medians, key=lambda choice: medians[choice])
    forms[folding].arrange(way)
    return forms[folding], {
        f"{folding}; {way}": median for (folding, way), median in medians.items()
    }


def deploy_forms(form: DeployForm | MultiLevel) -> list[DeployForm]:
    """The single networks of what `deploy` made, in the order of its file; of a mixture the gate
    last.
    """
    return [module for module in form.modules() if isinstance(module, DeployForm)]


def nonzero_params(form: nn.Module) -> int:
    """Numbers of the deploy form that are not zero, in single precision."""
    return sum(int(torch.count_nonzero(parameter.float())) for parameter in form.parameters())


@torch.no_grad()
def round_to_single(exact: DeployForm | MultiLevel) -> None:
    """Make of a deploy form in double precision, in place, what `deploy` makes of the same network
    in single precision: both round each number once.
    """
    exact.float()
    for part in deploy_forms(exact):
        for parameter in part.parameters():
            parameter.add_(0.0)  # no negative zeros
    expect_again(exact)


def expect_again(form: DeployForm | MultiLevel) -> None:
    """Its weights have changed: what absent persons give is computed anew."""
    for part in deploy_forms(form):
        if part.frames is not None:
            part.expect(part.frames)


def folded(model: Backbone | MultiLevel, form: DeployForm | MultiLevel) -> str:
    """What became of the pieces: `BatchNorm 91 -> 0, convolutions 64 -> 20, ...`; names what could
    not be folded.
    """
    kinds = {"BatchNorm": (nn.BatchNorm1d, nn.BatchNorm2d), "convolutions": (nn.Conv2d, nn.Conv1d)}
    parts = [
        f"{name} {_modules(model, kind)} -> {_modules(form, kind)}" for name, kind in kinds.items()
    ]
    numbers = [
        sum(parameter.numel() for parameter in network.parameters()) for network in (model, form)
    ]
    parts.append(f"parameters {numbers[0]:,} -> {numbers[1]:,}")
    kept = [
        text
        for text in (
            model.kept,
            (
                "maxima and ReLU inside the temporal branches"
                if "ms_tcn" in model.spec.model.temporal
                else ""
            ),
        )
        if text
    ]
    parts += [f"kept: {'; '.join(kept)}"] if kept else []
    return ", ".join(parts)


def _modules(network: nn.Module, kind: tuple[type[nn.Module], ...]) -> int:
    return sum(isinstance(module, kind) for module in network.modules())


def save_deploy(form: DeployForm | MultiLevel, path: Path) -> int:
    """Write a deploy form so that `load_deploy` can rebuild it, atomically: specification and
    tensors, zeros left out where that is smaller.

    Returns the bytes written.
    """
    networks = deploy_forms(form)
    if any(part.compact for part in networks):
        raise ValueError(
            "a compact form is made anew from the form it was made of, which is what a file holds"
        )
    state = {name: pack(tensor) for name, tensor in form.state_dict().items()}
    parts = [
        {"folding": part.folding.model_dump(mode="json"), "frames": part.frames}
        for part in networks
    ]
    if isinstance(form, MultiLevel):
        described: dict[str, Any] = {"format": LEVELS_FORMAT, "networks": parts}
    else:
        dense = all(isinstance(entry, Tensor) for entry in state.values())
        described = {"format": FORMAT if dense else SPARSE_FORMAT, **parts[0]}
    content = io.BytesIO()
    torch.save({**described, "spec": form.spec.model_dump(mode="json"), "state": state}, content)
    write_atomic(path, content.getvalue())
    return len(content.getvalue())


def load_deploy(path: Path) -> DeployForm | MultiLevel:
    """The deploy form `save_deploy` wrote, on the CPU, in evaluation mode; UserError if the file is
    missing or damaged.
    """
    content = read_file(path, "deploy form", FORMAT, SPARSE_FORMAT, LEVELS_FORMAT)
    try:
        form = _form_of(content)
        form.load_state_dict(_unpacked(content["state"], form), strict=True, assign=True)
        wrong = [
            name
            for name, tensor in form.state_dict().items()
            if not (tensor.is_floating_point() or name.endswith(COUNTER))
        ]
        if wrong:
            raise TypeError(f"{wrong[0]} is not of real numbers")
    except (ValidationError, KeyError, TypeError, ValueError, RuntimeError, StopIteration) as error:
        raise UserError(
            f"{path}: must hold a deploy form whose tensors fit its specification, got: {error}"
        ) from error
    for part in deploy_forms(form):
        part.arrange(usual_execution(part.spec, part.folding, torch.device("cpu")))
    return form.eval().requires_grad_(False)


ZEROS_FIRST = 2**24
"""A file's network of at most so many numbers is built of zeros before its tensors come. A larger
one is built without memory, for which torch loads its compiler: more than a second.
"""


def _form_of(content: dict[str, Any]) -> DeployForm | MultiLevel:
    """The network a file describes, its tensors still to come."""
    levels = content["format"] == LEVELS_FORMAT
    described = content["networks"] if levels else [content]
    parts = [(Folding.model_validate(part["folding"]), part["frames"]) for part in described]
    with torch.device("meta"), _NothingDrawn():
        network: Backbone | MultiLevel
        if levels:
            network = build_multi_level(MultiLevelSpec.model_validate(content["spec"]), seed=0)
        else:
            network = build_training_form(NetworkSpec.model_validate(content["spec"]))
    state, device = network.state_dict(), "meta"
    if sum(tensor.numel() for tensor in state.values()) <= ZEROS_FIRST:
        device = "cpu"
        zeros = {name: torch.zeros(each.shape, dtype=each.dtype) for name, each in state.items()}
        network.load_state_dict(zeros, assign=True)
    left = iter(parts)

    def part_of(backbone: SkeletonNetwork) -> DeployForm:
        folding, frames = next(left)
        form = DeployForm(backbone.spec, folding, cast("Backbone", backbone), None)
        if frames is not None:
            form.expect_absent(frames)
        return form

    with torch.device(device), torch.no_grad():
        return network.made_of(part_of) if isinstance(network, MultiLevel) else part_of(network)


class _NothingDrawn(TorchFunctionMode):
    """Within: weights keep what is in their memory where a network is built."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.normal_ or getattr(func, "__module__", "") == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def _unpacked(state: dict[str, Any], form: nn.Module) -> dict[str, Any]:
    """Tensors in place of what was packed; their sizes are the form's, not the file's."""
    expected, tensors = form.state_dict(), dict(state)
    for name, entry in state.items():
        if isinstance(entry, dict) and name in expected:
            try:
                tensors[name] = unpack(entry, expected[name].shape)
            except (ValueError, KeyError, AttributeError) as error:
                raise TypeError(f"{name}: {error}") from error
    return tensors


def read_file(path: Path, what: str, *formats: str) -> dict[str, Any]:
    """The dictionary of a file of ours whose `format` is one of `formats`; UserError names it as
    `what` where it is another or damaged.
    """
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"{path}: must be a {what}, got"
            f" {'another kind of file' if path.exists() else 'no such file'}"
        )
    check_growth(path, f"a {what}")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch does not look at the checksums it writes
        if damaged is not None:
            raise RuntimeError(f"{damaged} in it does not match its checksum")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        OSError,
        EOFError,
        RuntimeError,
        NotImplementedError,
        zipfile.BadZipFile,
        pickle.UnpicklingError,
    ) as error:
        raise UserError(f"{path}: must be a readable {what}, but {reason(error)}") from error
    if not isinstance(content, dict) or content.get("format") not in formats:
        raise UserError(
            f"{path}: must be a file of format {' or '.join(repr(each) for each in formats)}, got"
            " something else"
        )
    return content
