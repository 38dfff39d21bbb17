"""Slow, obvious twins of what networks of several levels do beyond the single networks, and a
narrow one to try it on.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tests.naive_models import disturb, randomise_batch_norm
from trainables.contract.config import ModelConfig, SparsityConfig, StreamConfig
from trainables.layouts import load_layout
from trainables.models.build_levels import build_multi_level
from trainables.models.multilevel import MultiLevel, multi_level_spec


def narrow_levels(
    network: str,
    backbone: str = "st_gcn",
    levels: tuple[float, ...] = (0.5, 0.9),
    *,
    persons: int = 1,
    **settings: Any,
) -> MultiLevel:
    """Small enough for a loop of tests, in double precision, every tensor away from its start; no
    masks yet.
    """
    options = {
        "channels": 8,
        "stages": (1, 1),
        "groups": 4,
        "adjacencies": 3,
        **settings.pop("model", {}),
    }
    sparsity = SparsityConfig(network=network, levels=levels, **settings)
    spec = multi_level_spec(
        ModelConfig(backbone=backbone, **options),
        sparsity,
        load_layout("coco17"),
        classes=5,
        persons=persons,
        stream=StreamConfig(),
    )
    built = build_multi_level(spec, seed=3, sparsity=sparsity).double()
    generator = torch.Generator().manual_seed(11)
    randomise_batch_norm(built, generator)
    disturb(built, generator)
    return built


def mean_of_features(features: list[Tensor]) -> Tensor:
    """Number by number."""
    out = torch.zeros_like(features[0])
    for n in range(out.shape[0]):
        for c in range(out.shape[1]):
            out[n, c] = sum(float(each[n, c]) for each in features) / len(features)
    return out


def weighted_features(features: list[Tensor], alpha: Tensor) -> Tensor:
    return mean_of_features(
        [float(weight) * each for weight, each in zip(alpha, features, strict=True)]
    )


def concatenated_features(features: list[Tensor], weight: Tensor, bias: Tensor) -> Tensor:
    """out[n, o] = b[o] + sum over experts h and channels c of W[o, h C + c] f_h[n, c]."""
    clips, channels = features[0].shape
    out = bias.expand(clips, -1).clone()
    for number, each in enumerate(features):
        for o in range(channels):
            for c in range(channels):
                out[:, o] += weight[o, number * channels + c] * each[:, c]
    return out


def batch_divergence(features: list[list[list[float]]]) -> float:
    """Mean over experts i < j of sum over channels of KL(softmax over clips of f_j || that of f_i);
    features[h][n][c].
    """

    def shares(column: list[float]) -> list[float]:
        total = sum(math.exp(value) for value in column)
        return [math.exp(value) / total for value in column]

    pairs = []
    for i in range(len(features)):
        for j in range(i + 1, len(features)):
            total = 0.0
            for c in range(len(features[0][0])):
                p, q = (
                    shares([row[c] for row in features[i]]),
                    shares([row[c] for row in features[j]]),
                )
                total += sum(b * math.log(b / a) for a, b in zip(p, q, strict=True))
            pairs.append(total)
    return sum(pairs) / len(pairs)


def squared_variation(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1) / (mean**2 + 1e-10)


def log_mean_probability(logits: list[list[list[float]]]) -> list[list[float]]:
    """logits[level][n][k]."""
    found = []
    for n in range(len(logits[0])):
        row = [0.0] * len(logits[0][0])
        for level in logits:
            total = sum(math.exp(value) for value in level[n])
            for k, value in enumerate(level[n]):
                row[k] += math.exp(value) / total / len(logits)
        found.append([math.log(value) for value in row])
    return found


def mixture(network: Any, clips: Tensor, active: int) -> Tensor:
    """Clip by clip: the gate's numbers, the largest of them (the first of equal ones), their
    experts one after the other.
    """
    rows = []
    for clip in clips:
        gate = network.gate.features(clip[None])[0]
        scores = [
            float(sum(w * f for w, f in zip(row, gate, strict=True)))
            for row in network.choice.weight
        ]
        chosen = sorted(range(len(scores)), key=lambda h: (-scores[h], h))[:active]
        total = sum(math.exp(scores[h]) for h in chosen)
        mixed = sum(
            math.exp(scores[h]) / total * network.members[h].features(clip[None])[0] for h in chosen
        )
        rows.append(network.head(mixed[None])[0])
    return torch.stack(rows)
