"""A small store."""

from __future__ import annotations

from tests.naive_stores import clip

CLIPS = (
    clip("a", 0, frames=3, subject=1, camera=2, take=0),
    clip("b", 1, frames=7, persons=2, split="val", subject=2, camera=1),
    clip("c", 1, frames=1, split="test", subject=3, camera=1),
    clip("d", 0, frames=4, split=None, subject=3, camera=1),
)
