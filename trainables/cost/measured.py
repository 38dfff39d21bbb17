"""What a built network costs, measured: parameters, memory, latency.

Knows torch modules, no configuration.
"""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from trainables.cost.processor import processor_name
from trainables.cost.timed import FEWEST_CALLS, TIMED_CALLS, TIMED_S, WARMUP_CALLS, WARMUP_S
from trainables.precision import full_float32


def parameter_count(model: nn.Module) -> int:
    """Numbers of the module's parameters, frozen ones included."""
    return sum(parameter.numel() for parameter in model.parameters())


@torch.inference_mode()
def latency_ms(model: nn.Module, clips: Tensor) -> float:
    """Median milliseconds of one forward pass of `clips` (N, C, T, V, M) in full float32, after
    warm-up; the device is drained around each call.

    Whatever else runs on the device runs beside it: figures to publish are measured on an idle one.
    Slow networks are timed less often, at least `FEWEST_CALLS` times.
    """
    model.eval()
    with full_float32():
        warm = [call_seconds(model, clips)]
        while len(warm) < WARMUP_CALLS and sum(warm) < WARMUP_S:
            warm.append(call_seconds(model, clips))
        times = [call_seconds(model, clips) for _ in range(FEWEST_CALLS)]
        while len(times) < TIMED_CALLS and sum(times) < TIMED_S:
            times.append(call_seconds(model, clips))
    return 1e3 * statistics.median(times)


def call_seconds(model: Callable[[Tensor], object], clips: Tensor) -> float:
    """Of one forward pass as it is asked for; the device is drained before and after."""
    _drain(clips.device)
    started = time.perf_counter()
    model(clips)
    _drain(clips.device)
    return time.perf_counter() - started


@torch.inference_mode()
def peak_activation_bytes(model: nn.Module, clips: Tensor) -> int:
    """Most bytes of tensors alive at once in one forward pass besides weights and input: the same
    on every device.

    Counted from the operations that make them; scratch memory inside an operation is not seen.
    """
    live = _LiveBytes()
    with live:
        model(clips)
    return live.peak


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows every storage that an operation makes from its making to its end."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peak = 0
        self._known: set[int] = set()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here: torch would load its compiler, a second of processor time."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {storage._cdata for storage in _storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage._cdata not in self._known | given:
                self._follow(storage)
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    """Of the tensors there, but for those in an order of oneDNN's own: packed weights."""
    return [
        each.untyped_storage()
        for each in pytree.tree_leaves(tree)
        if isinstance(each, Tensor) and not each.is_mkldnn
    ]


def device_name(device: torch.device) -> str:
    """The card's or the processor's own name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor_name()} CPU"


def _drain(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
