"""Slow, obvious twins of the strategies: every candidate added up in full, one after the other."""

from __future__ import annotations

import numpy as np


def shares(logits, combine):
    """What is summed of one source, (N, K) in single precision."""
    logits = logits.astype(np.float32)
    if combine == "logits":
        return logits
    if combine == "normalised":
        deviation = logits.std(axis=1, keepdims=True)
        return logits / np.where(deviation > 0, deviation, 1).astype(np.float32)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def log_loss(total, terms, labels, combine):
    mean = total.astype(np.float64) / terms
    rows = np.arange(len(labels))
    if combine == "probabilities":
        return float(np.mean(-np.log(np.maximum(mean[rows, labels], np.finfo(np.float32).tiny))))
    powers = np.exp(mean - mean.max(axis=1, keepdims=True))
    return float(np.mean(-np.log(powers[rows, labels] / powers.sum(axis=1))))


def greedy(tables, labels, rounds, metric="top1", combine="probabilities", allowed=None):
    """The picks in order and the length of the best prefix; `allowed(bag)` are the candidates."""
    total, bag, best, length = np.zeros(tables[0].shape, np.float32), [], None, 0
    for _ in range(rounds):
        ranked = []
        for source, table in enumerate(tables):
            if allowed is not None and source not in allowed(bag):
                continue
            added = total + table
            wrong = int((added.argmax(axis=1) != labels).sum()) if metric == "top1" else 0
            loss = round(log_loss(added, len(bag) + 1, labels, combine), 6)
            first = (wrong,) if metric == "top1" else (loss,)
            ranked.append((*first, source not in bag, loss, source))
        if not ranked:
            break
        pick = min(ranked)
        bag.append(pick[-1])
        total = total + tables[pick[-1]]
        quality = (pick[0], pick[2])
        if best is None or quality < best:
            best, length = quality, len(bag)
    return bag, length


def em_weights(own, steps):
    """Weights of a mixture by expectation maximisation; own: (S, N) probabilities of the label."""
    weights = np.full(len(own), 1 / len(own))
    for _ in range(steps):
        shared = weights[:, None] * own
        weights = (shared / shared.sum(axis=0)).mean(axis=1)
    return weights


def stacked_loss(weights, tables, labels):
    """Log-loss of softmax(sum_i w_i x_i), clip by clip."""
    losses = []
    for clip, label in enumerate(labels):
        logits = sum(
            float(w) * rows[clip].astype(np.float64)
            for w, rows in zip(weights, tables, strict=True)
        )
        powers = np.exp(logits - logits.max())
        losses.append(-np.log(powers[label] / powers.sum()))
    return float(np.mean(losses))
