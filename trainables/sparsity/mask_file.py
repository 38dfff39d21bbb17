"""Masks in a file of their own, to train with again or to bring along from elsewhere.

Knows no network.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from trainables.contract.archives import MOST_GROWTH, SMALL, ArrayArchive, check_growth
from trainables.contract.disk import write_atomic
from trainables.contract.errors import UserError
from trainables.contract.foreign_files import reason
from trainables.contract.sparsity import LEVEL_TOLERANCE
from trainables.sparsity.masks import Masks, layer_names, mask_of, maskable

MASK_ENDINGS = (".npz", ".pt")


def masks_of(blocks: Sequence[nn.Module]) -> dict[str, Tensor]:
    """By name of every maskable weight: its mask, or where none is attached 1 for what is not zero;
    uint8, on the CPU.
    """
    masks = {}
    for names, layers in zip(layer_names(blocks), maskable(blocks), strict=True):
        for name, layer in zip(names, layers, strict=True):
            mask = mask_of(layer)
            masks[name] = torch.ne(layer.weight if mask is None else mask, 0).to("cpu", torch.uint8)
    return masks


def save_masks(masks: Mapping[str, Tensor], path: Path) -> None:
    """Write one 0/1 mask per weight, by name, atomically; the file is .npz (NumPy arrays) or .pt (a
    dictionary of tensors).

    Names are those of the network's parameters, such as `blocks.0.graph.conv.weight`.
    """
    if path.suffix not in MASK_ENDINGS:
        raise UserError(f"{path}: a file of masks must end with {' or '.join(MASK_ENDINGS)}")
    content, plain = (
        io.BytesIO(),
        {name: (mask != 0).to("cpu", torch.uint8) for name, mask in masks.items()},
    )
    if path.suffix == ".pt":
        torch.save(plain, content)
    else:
        np.savez_compressed(
            content, allow_pickle=False, **{name: mask.numpy() for name, mask in plain.items()}
        )
    write_atomic(path, content.getvalue())


def load_masks(path: Path, blocks: Sequence[nn.Module], level: float) -> Masks:
    """The masks of a file for the layers of `blocks`, float64 on the CPU.

    UserError names every mask that is missing, left over, of another shape or not of zeros and
    ones, or the level the file has if it is not `level` to LEVEL_TOLERANCE or, in a small network,
    to one weight of each layer: rounding is no other level.
    """
    masks, names, layers = _read(path), layer_names(blocks), maskable(blocks)
    shapes = {
        name: tuple(layer.weight.shape)
        for row, given in zip(names, layers, strict=True)
        for name, layer in zip(row, given, strict=True)
    }
    problems = [
        f"{path}: {name}: no maskable weight of the network has this name"
        for name in masks.keys() - shapes
    ]
    for name, shape in shapes.items():
        rule = (
            _problem(masks[name], shape)
            if name in masks
            else f"must have a mask of shape {shape}, got none"
        )
        problems += [f"{path}: {name}: {rule}"] if rule else []
    if problems:
        raise UserError.of(sorted(problems))
    total = sum(mask.size for mask in masks.values())
    removed = total - sum(int(mask.sum()) for mask in masks.values())
    if abs(removed - level * total) > max(LEVEL_TOLERANCE * total, len(masks)):
        raise UserError(
            f"sparsity.level must be what {path} removes, {removed / total:.3f} ({removed:,} of"
            f" {total:,} weights), got {level:g}"
        )
    return [[torch.from_numpy(masks[name].astype(np.float64)) for name in row] for row in names]


def _problem(mask: np.ndarray, shape: tuple[int, ...]) -> str | None:
    """The rule a mask breaks."""
    if mask.shape != shape:
        return f"must have the weight's shape {shape}, got {mask.shape}"
    if mask.dtype.kind not in "biuf" or not np.isin(mask, (0, 1)).all():
        return "must hold nothing but 0 and 1"
    return None


def _read(path: Path) -> dict[str, np.ndarray]:
    """Name -> array, whatever is in it; nothing in the file is executed."""
    if path.suffix not in MASK_ENDINGS or not path.is_file():
        got = "another kind of file" if path.is_file() else "no such file"
        raise UserError(f"sparsity.mask: {path}: must be a file of masks, .npz or .pt, got {got}")
    what = "a file with one array per weight by name"
    try:
        if path.suffix == ".npz":
            with ArrayArchive(path, what) as archive:
                return {name: archive.array(name) for name in archive.names}
        check_growth(path, what)
        content = torch.load(path, map_location="cpu", weights_only=True)
        most = max(SMALL, MOST_GROWTH * path.stat().st_size)
        if any(tensor.numel() > most for tensor in content.values()):
            raise ValueError(f"a tensor in it has more than {most} values")
        return {
            name: (
                tensor.to_dense().float().numpy() if tensor.is_floating_point() else tensor.numpy()
            )
            for name, tensor in content.items()
        }
    except UserError as error:
        raise UserError(f"sparsity.mask: {error}") from error
    except Exception as error:  # torch raises almost anything for damaged files
        raise UserError(f"sparsity.mask: {path}: must be {what}, but {reason(error)}") from error
