"""Whole released networks as rules: every tensor drawn from a seed, and the logits their own code
gives for them.
"""

from __future__ import annotations

import json
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parent / "golden" / "networks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


@cache
def vectors(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text())


def drawn(shape: list[int], offset: float, scale: float, seed: int) -> Tensor:
    numbers = np.random.RandomState(seed).uniform(-1, 1, size=int(np.prod(shape)))
    return torch.from_numpy(offset + scale * numbers.reshape(shape))


def checkpoint(name: str) -> dict[str, Tensor]:
    """What the released code would save; tensors without a rule (counters, fixed graphs) are zero,
    and so are DG-STGCN's factors after the first, which no gradient reaches.
    """
    return {key: tensor.clone() for key, tensor in _checkpoint(name).items()}


@lru_cache(maxsize=3)
def _checkpoint(name: str) -> dict[str, Tensor]:
    found = {
        key: torch.zeros(shape, dtype=torch.float64) if rule is None else drawn(shape, *rule)
        for key, shape, rule in vectors(name)["state"]
    }
    for key, tensor in found.items():
        if name.startswith("dg_stgcn") and key.endswith((".alpha", ".beta")):
            tensor[1:] = 0.0
    return found


def clips(name: str) -> Tensor:
    """The input as (N, 3, T, V, M); PYSKL keeps persons second and coordinates last."""
    rule = vectors(name)["input"]
    x = drawn(rule["shape"], rule["off"], rule["scale"], rule["seed"])
    return x.permute(0, 4, 2, 3, 1) if rule["shape"][1] == 2 else x


def logits(name: str, mode: str = "logits") -> Tensor:
    return torch.tensor(vectors(name)[mode], dtype=torch.float64)
