"""From a checkpoint file of another code base to its named tensors; nothing in it is executed.

Knows files and tensors, nothing of networks.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainables.contract.errors import UserError
from trainables.contract.foreign_files import reason
from trainables.contract.names import printable
from trainables.deploy.form import FORMAT as DEPLOY_FORMAT
from trainables.deploy.weights import FORMAT as WEIGHTS_FORMAT
from trainables.training.checkpoint import Progress

WRAPPERS = ("state_dict", "model", "model_state_dict", "net")
"""Keys under which training code puts the tensors beside an optimiser and an epoch."""

WRAPPED_AT_MOST = 8
"""Wrappers inside each other; a dictionary that holds itself has no last one."""

LARGEST_FILE = 2**32
"""Bytes. The largest released network here takes 200 MB with its optimiser's state."""

LARGEST_GROWTH, SMALLEST_LIMIT = 20, 2**26
"""A packed file may unpack to that many times its own bytes, and always to 64 MiB: torch itself
does not compress, and weights hardly can be.
"""

LONGEST_NAME = 300
"""Characters in a tensor's name."""

PRECISIONS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
DENSE = "must be a dense tensor of integers or of float16, bfloat16, float32 or float64"


class _Dropped:
    """Stands for a number or an array of numpy beside the tensors, such as the best score in the
    `meta` of mmcv's checkpoints. Nothing here reads it, and numpy never sees the file's types.
    """

    def __new__(cls, *_: Any) -> _Dropped:
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


_DROPPED: list[Any] = [
    (_Dropped, f"{module}.{name}")
    for module, names in (
        ("numpy", ("dtype", "ndarray")),
        ("numpy.core.multiarray", ("scalar", "_reconstruct")),  # numpy 1
        ("numpy._core.multiarray", ("scalar", "_reconstruct")),  # numpy 2
    )
    for name in names
]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Name -> tensor of a checkpoint, without wrappers and `module.` prefixes.

    UserError names the file where it holds anything but a state dict, is damaged or too large, or
    asks for code to be run.
    """
    content = _loaded(path)
    if (own := _own(content)) is not None:
        raise UserError(f"{path}: must be a checkpoint of released code, got {own}")
    content = _unwrapped(path, content)
    if (
        not isinstance(content, dict)
        or not content
        or not all(isinstance(value, Tensor) for value in content.values())
    ):
        raise UserError(
            f"{path}: must hold a state dict of tensors, as it is or under {', '.join(WRAPPERS)},"
            " got something else"
        )
    stored: dict[str, list[str]] = {}
    for name in content:
        stored.setdefault(re.sub(r"^(module\.)+", "", str(name)), []).append(str(name))
    problems = [
        f"{path}: {name}: must be stored once, got {' beside '.join(names)}"
        for name, names in stored.items()
        if len(names) > 1
    ]
    for name, tensor in content.items():
        if (rule := _unusual_name(str(name))) is not None:
            raise UserError(f"{path}: {rule}")
        if (kind := _unusual(tensor)) is not None:
            problems.append(f"{path}: {name}: {DENSE}, got {kind}")
    if problems:
        raise UserError.of(problems)
    return dict(zip(stored, content.values(), strict=True))


def _loaded(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path}: must be a checkpoint, got no such file")
    try:
        _check_size(path)
        # of pickles older or newer than torch's own
        with (
            warnings.catch_warnings(action="ignore", category=UserWarning),
            torch.serialization.safe_globals(_DROPPED),
        ):
            return torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    # there is no list of what damaged files make torch raise
    except Exception as error:
        raise UserError(
            f"{path}: must be a checkpoint that can be read without running code from it, but"
            f" {_reason(error)}"
        ) from error


def _check_size(path: Path) -> None:
    """UserError where the file, or what a packed one unpacks to, is larger than a checkpoint."""
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise UserError(f"{path}: must be at most {_gib(LARGEST_FILE)}, got {_gib(size)}")
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > (limit := max(LARGEST_GROWTH * size, SMALLEST_LIMIT)):
        raise UserError(
            f"{path}: must unpack to at most {_gib(limit)}, as {size:,} packed bytes may, got"
            f" {_gib(unpacked)}"
        )


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"


def _own(content: Any) -> str | None:
    """What a file is that was written here, and what loads it; None for other files."""
    if not isinstance(content, dict):
        return None
    for kind, what, loader in (
        (DEPLOY_FORMAT, "a deploy form", "trainables.deploy.form.load_deploy"),
        (WEIGHTS_FORMAT, "a file of weights", "trainables.deploy.weights.load_weights"),
    ):
        if str(content.get("format")).startswith(kind.rstrip(" 0123456789")):
            return f"{what} of orchestrate, which {loader} loads"
    progress = content.get("progress")
    if isinstance(progress, dict) and progress.keys() == {field.name for field in fields(Progress)}:
        return (
            "the checkpoint a trial of orchestrate resumes from"
            " (trainables.training.checkpoint.load_checkpoint); trainables.deploy.form.load_deploy"
            " loads the deploy.pt of a finished one"
        )
    return None


def _unwrapped(path: Path, content: Any) -> Any:
    """What lies under the wrappers; UserError where two of one dictionary hold something, or where
    there is no end to them.
    """
    for _ in range(WRAPPED_AT_MOST + 1):
        inside = (
            {key: content[key] for key in WRAPPERS if isinstance(content.get(key), dict)}
            if isinstance(content, dict)
            else {}
        )
        holding = {
            key: value
            for key, value in inside.items()
            if any(isinstance(item, Tensor | dict) for item in value.values())
        }
        if len({id(value) for value in holding.values()}) > 1:
            raise UserError(f"{path}: must hold one state dict, got {' beside '.join(holding)}")
        if not any(inside.values()):
            return content
        content = next(value for value in (*holding.values(), *inside.values()) if value)
    raise UserError(
        f"{path}: must wrap its state dict at most {WRAPPED_AT_MOST} times, got more, or a"
        " dictionary that holds itself"
    )


def _unusual_name(name: str) -> str | None:
    """The rule that a tensor's name breaks; messages and terminals print names as they are."""
    if not name.isprintable():
        return f"names of tensors must be printable text, got {name[:LONGEST_NAME]!a}"
    if len(name) > LONGEST_NAME:
        return (
            f"names of tensors must have at most {LONGEST_NAME} characters, got {len(name)}:"
            f" {name[:60]}..."
        )
    return None


def _unusual(tensor: Tensor) -> str | None:
    """What makes a tensor one that no network here is filled with; None if nothing does."""
    for found, kind in (
        (tensor.is_nested, "a nested one"),
        (tensor.layout != torch.strided, f"one of layout {plain_name(tensor.layout)}"),
        (tensor.is_quantized, f"a quantised one, {plain_name(tensor.dtype)}"),
        (tensor.is_meta, "one without data (meta)"),
        (
            (tensor.is_floating_point() or tensor.is_complex()) and tensor.dtype not in PRECISIONS,
            f"one of {plain_name(tensor.dtype)}",
        ),
    ):
        if found:
            return kind
    stored = tensor.untyped_storage().nbytes() // tensor.element_size()
    if tensor.numel() > stored:
        return f"one of {tensor.numel()} elements that repeats the {stored} it stores"
    return None


def plain_name(kind: torch.dtype | torch.layout) -> str:
    """float32 of torch.float32."""
    return str(kind).removeprefix("torch.")


def _reason(error: BaseException) -> str:
    """Why torch refused, as a clause and without its advice to run the code all the same."""
    text = str(error)
    if (asked := re.search(r"Unsupported global: GLOBAL (\S+)", text)) is not None:
        return f"it asks for {printable(asked[1])}"
    if "TorchScript" in text:
        return "it is a TorchScript program, not a state dict"
    return reason(error)
