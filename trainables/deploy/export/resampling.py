"""Which frames evaluation looks at, as tensors that a traced program can make for clips of any
length T: integers throughout, so that runtimes that round differently choose the same frames.

The slow, obvious twins are in `trainables.data.batches.transforms`.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trainables.data.batches.transforms import sample_evaluation, uniform_views

Ints = npt.NDArray[np.int64]

LONGEST = 1 << 14
"""Clips up to this length get exactly the frames of `sample_evaluation`."""


class Resize(nn.Module):
    """The middle 95 % of T frames as `frames`, linearly: `crop_evaluation` and `resize`.

    With F = frames, cut = floor(T / 40) and L = T - 2 cut, output frame i lies at u = clamp((2 i +
    1) L - F, 0, 2 F (L - 1)) / 2 F behind frame `cut`.
    """

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, length: int) -> tuple[Tensor, Tensor, Tensor]:
        """The frames before and after each output frame, and the share of the latter; (F,) each."""
        cut, twice = length // 40, 2 * self.frames
        kept = length - 2 * cut
        place = torch.arange(self.frames)
        last = torch.zeros_like(place) + (kept - 1)
        at = torch.minimum(((2 * place + 1) * kept - self.frames).clamp(min=0), twice * last)
        before = at // twice
        share = (at - twice * before).float() / twice
        return cut + before, cut + torch.minimum(before + 1, last), share


class Spread(nn.Module):
    """Evenly spaced frames: `sample_evaluation`, floor(i (T - 1) / (frames - 1)) but for a few
    places where that is a whole number which floating point misses.
    """

    missed: Tensor

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.register_buffer("missed", torch.from_numpy(missed(frames)))

    def forward(self, length: int) -> Tensor:
        """(frames,)"""
        place = torch.arange(self.frames)
        code = (length - 1) * self.frames + place
        below = (code[:, None] == self.missed[None, :]).any(dim=1).long()
        return place * (length - 1) // (self.frames - 1) - below


@cache
def missed(frames: int) -> Ints:
    """(T - 1) frames + i, of every i and T up to `LONGEST` at which `sample_evaluation` is one
    below floor(i (T - 1) / (frames - 1)); at least one number, which may name no frame.
    """
    length = np.arange(1, LONGEST + 1)
    place = np.arange(frames)
    found = [np.array([-1])]
    for part in np.array_split(length, 64):
        exact = place * (part[:, None] - 1) // (frames - 1)
        code = (part[:, None] - 1) * frames + place
        found.append(code[sample_evaluation(part, frames) < exact])
    return np.concatenate(found)


class Uniform(nn.Module):
    """PYSKL's frames of each view: `uniform_views`, of clips of `frames` to `longest` frames from a
    table of what was drawn; longer ones are looked at in the middle of each stretch.
    """

    offsets: Tensor

    def __init__(self, frames: int, views: int, longest: int) -> None:
        super().__init__()
        self.frames, self.views = frames, views
        self.register_buffer("offsets", torch.from_numpy(drawn(frames, views, longest)))

    def forward(self, length: Tensor) -> Tensor:
        """length (N,) -> (N, views, frames)."""
        place, view = torch.arange(self.frames), torch.arange(self.views)
        each = length[:, None]
        start = torch.where(each < self.views, view, view * each // self.views)  # (N, views)
        running = (start[:, :, None] + place) % each[:, :, None]
        edge, following = place * each // self.frames, (place + 1) * each // self.frames
        row = (length - self.frames).clamp(min=0, max=len(self.offsets) - 1)
        tabled = edge[:, None] + self.offsets[row].long()
        middle = ((edge + following - 1) // 2)[:, None].expand_as(tabled)
        known = (length < self.frames + len(self.offsets))[:, None, None]
        spread = torch.where(known, tabled, middle)
        return torch.where((length < self.frames)[:, None, None], running, spread)


def drawn(frames: int, views: int, longest: int) -> npt.NDArray[np.integer]:
    """(L, views, frames): of clips of `frames`, `frames` + 1, ... frames, at least one length, how
    far each frame of `uniform_views` lies behind floor(i T / frames); in the smallest integers.
    """
    rows = []
    for length in range(frames, max(longest, frames) + 1):
        edge = np.arange(frames) * length // frames
        rows.append(uniform_views(length, frames, views) - edge)
    table = np.stack(rows)
    small = np.abs(table).max() <= np.iinfo(np.int8).max
    return table.astype(np.int8 if small else np.int16)
