"""The beginning of a training run that other runs share: the state at the end of an epoch in one
file, from which runs that would have trained the same epochs go on. Knows no masks.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainables.contract.disk import warn_once, write_atomic
from trainables.training.checkpoint import Progress
from trainables.training.memory import is_out_of_memory

log = logging.getLogger(__name__)

_HEX = 64
"""A file begins with the SHA-256 of its content in hexadecimal."""


@dataclass(frozen=True)
class SharedFile:
    """Where the state after a beginning lies, or is to lie."""

    path: Path
    digest: str  # of what is trained in it: a file of something else is not used
    epochs: int
    source: str = ""  # digest of the weights that it begins with; empty: drawn ones


def _itself(name: str) -> str | None:
    return name


@dataclass(frozen=True)
class SharedStates:
    """What a run may start from, and what it leaves to others."""

    start: SharedFile | None = None  # where there is no checkpoint yet
    leave: tuple[SharedFile, ...] = ()
    # what a tensor of the network is called in the network that all share; None: it is this run's
    # own
    shared_name: Callable[[str], str | None] = _itself
    # told once a run has started from one, and of one that was left, with the seconds it took
    branched: Callable[[SharedFile, float], None] = lambda _file, _seconds: None
    left: Callable[[SharedFile, float], None] = lambda _file, _seconds: None

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        """Leave the state as it is now to others, if any want it and it is not there; `progress`:
        at the end of an epoch, before anything is changed for the next.
        """
        done = len(progress.history)
        for file in self.leave:
            if file.epochs == done and not file.path.is_file():
                _write(file, self._state(model, optimizer, progress))
                self.left(file, progress.seconds)

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Progress | None:
        """Put what another run left into the network and the optimiser; None, and nothing is
        changed, where there is no such file, or with a warning none that fits, which is removed:
        the next run that trains the beginning leaves it anew.
        """
        if self.start is None or not self.start.path.is_file():
            return None
        own = model.state_dict()
        parameters = self._parameters(model)
        names = {name: shared for name in own if (shared := self.shared_name(name)) is not None}
        try:
            state = _read(self.start, next(model.parameters()).device)
            theirs, momentum = state["model"], state["optimizer"]
            progress = Progress(**state["progress"])
            if set(names.values()) != set(theirs) or any(
                isinstance(own[name], Tensor) and own[name].shape != theirs[shared].shape
                for name, shared in names.items()
            ):
                raise ValueError("it is of another network")
            moved = {parameters[shared]: values for shared, values in momentum.items()}
        except Exception as error:  # torch raises pickle, zip, runtime and OS errors
            _refuse(self.start, error)
            return None
        model.load_state_dict({**own, **{name: theirs[shared] for name, shared in names.items()}})
        for parameter, values in moved.items():
            optimizer.state[parameter] = values
        self.branched(self.start, progress.shared_seconds)
        return progress

    def _state(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress
    ) -> dict[str, Any]:
        """What does not depend on what only this run does: no best epoch, none of its own
        tensors.
        """
        tensors = {
            shared: value
            for name, value in model.state_dict().items()
            if (shared := self.shared_name(name)) is not None
        }
        momentum = {
            shared: optimizer.state[parameter]
            for shared, parameter in self._parameters(model).items()
            if parameter in optimizer.state
        }
        begun = Progress(
            epoch=len(progress.history),
            seconds=progress.seconds,
            history=progress.history,
            halved_epoch=progress.halved_epoch,
            shared_epochs=len(progress.history),
            shared_seconds=progress.seconds,
        )
        return {"model": tensors, "optimizer": momentum, "progress": asdict(begun)}

    def _parameters(self, model: nn.Module) -> Mapping[str, nn.Parameter]:
        return {
            shared: parameter
            for name, parameter in model.named_parameters()
            if (shared := self.shared_name(name)) is not None
        }


def _write(file: SharedFile, state: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    torch.save({"of": _what(file), **state}, buffer)
    content = buffer.getvalue()
    write_atomic(file.path, hashlib.sha256(content).hexdigest().encode() + content)


def _what(file: SharedFile) -> list[str | int]:
    return [file.digest, file.epochs, file.source]


def _read(file: SharedFile, device: torch.device) -> dict[str, Any]:
    """ValueError, or whatever torch raises, where it is damaged or of another beginning; nothing
    but tensors and plain values is accepted.
    """
    raw = file.path.read_bytes()
    if hashlib.sha256(raw[_HEX:]).hexdigest().encode() != raw[:_HEX]:
        raise ValueError("its content is not what its digest says")
    state: dict[str, Any] = torch.load(
        io.BytesIO(raw[_HEX:]), map_location=device, weights_only=True
    )
    if state["of"] != _what(file):
        raise ValueError("it is the beginning of other trials")
    return state


def _refuse(file: SharedFile, error: Exception) -> None:
    """Remove it, but not where it could not be read, which may pass."""
    unread = isinstance(error, OSError) or is_out_of_memory(error)
    if not unread:
        with suppress(OSError):
            file.path.unlink(missing_ok=True)
    removed = "" if unread else ", and is removed"
    warn_once(log, f"{file.path}: is not used{removed}: {error}")
