"""Copies of modules, as `copy.deepcopy` makes them, in less than half of the time: a network has
hundreds of modules, each with a dozen of empty dictionaries.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

ModuleType = TypeVar("ModuleType", bound=nn.Module)

_UNCHANGING = frozenset(
    {int, float, complex, bool, str, bytes, type(None), type, torch.dtype, torch.device}
)
_CONTAINERS = frozenset({dict, OrderedDict, set, list, tuple})


def module_copy(module: ModuleType) -> ModuleType:
    """A copy that shares no memory with `module`; what stands in two places of it does so in the
    copy, too.
    """
    copied: ModuleType = _copied(module, {})
    return copied


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """memo: as that of `copy.deepcopy`."""
    kind = type(value)
    if kind in _UNCHANGING:
        return value
    if kind in _CONTAINERS and not value:
        return kind()
    if id(value) in memo:
        return memo[id(value)]
    if kind is dict or kind is OrderedDict:
        items = memo[id(value)] = kind()
        for name, each in value.items():
            items[name] = _copied(each, memo)
        return items
    if kind is nn.Parameter:
        return value.__deepcopy__(memo)
    if kind is Tensor and _is_plain(value):
        return _tensor_copy(value, memo)
    if isinstance(value, nn.Module) and not _copies_itself(value):
        twin: Any = object.__new__(kind)
        memo[id(value)] = twin
        state: dict[str, Any] = nn.Module.__getstate__(value)  # type: ignore[no-untyped-call]
        copies = {}
        for name, each in state.items():  # most are nothing to copy: no call for those
            its = type(each)
            if its in _UNCHANGING:
                copies[name] = each
            elif its in _CONTAINERS and not each:
                copies[name] = its()
            else:
                copies[name] = _copied(each, memo)
        twin.__setstate__(copies)
        return twin
    return copy.deepcopy(value, memo)


def _is_plain(value: Tensor) -> bool:
    """Whether it is numbers in memory of its own, and nothing else."""
    return (
        value.is_leaf
        and value.layout is torch.strided
        and value.device.type in ("cpu", "cuda")
        and not value.is_quantized
        and value.is_contiguous()
        and not (value.requires_grad or value.is_conj() or value.is_neg() or value.__dict__)
        and value.grad is None
        and value.untyped_storage().nbytes() == value.nbytes > 0
    )


def _tensor_copy(value: Tensor, memo: dict[Any, Any]) -> Tensor:
    """Of a plain one; others that have the same memory find that of the copy, as torch's do."""
    storages, storage = memo.setdefault("torch", {}), value.untyped_storage()._cdata
    if storage in storages:
        twin: Tensor = copy.deepcopy(value, memo)
        return twin
    twin = memo[id(value)] = value.clone()
    storages[storage] = twin.untyped_storage()
    return twin


def _copies_itself(module: nn.Module) -> bool:
    """Whether its class says how it is copied; that of a parametrized module has from torch what
    is done here.
    """
    if is_parametrized(module):
        kind = nn.utils.parametrize.type_before_parametrizations(module)
    else:
        kind = type(module)
    names = ("__deepcopy__", "__getstate__", "__reduce_ex__")
    return any(getattr(kind, name, None) is not getattr(nn.Module, name, None) for name in names)
