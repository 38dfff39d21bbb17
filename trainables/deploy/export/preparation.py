"""What evaluation does to a clip before a network sees it, as modules that can be traced: raw clips
(N, C, T, V, M) of any length -> a stream (N views, 3, frames, V, M).

Batches do the same with the tables of a store; `tests/.../test_preparation.py` holds the two
together.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainables.contract.config import DataConfig
from trainables.data.batches.pyskl import SMALLEST_SPAN
from trainables.data.batches.settings import aligns_spine, hips_of, pipeline_of, views_of
from trainables.data.batches.streams import image_matrices, joint_matrix
from trainables.data.batches.transforms import PARALLEL
from trainables.data.store.description import LEAST_CONFIDENCE, Description, layout_of
from trainables.deploy.export.resampling import Resize, Spread, Uniform
from trainables.layouts import Layout

LARGEST = torch.finfo(torch.float32).max
THIN = 1e-6
"""Hips that leave the line of the spine by less, relative to their length, have no direction of
their own: what single precision can tell.
"""


class ThreeNumbers(nn.Module):
    """(N, C, T, V, M) -> (N, 3, T, V, M) as a store holds it: a third number that is 0 where there
    is none, joints that a detector is not sure of at (0, 0).
    """

    def __init__(self, channels: str) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, clips: Tensor) -> Tensor:
        if self.channels == "xy":
            return torch.cat([clips, torch.zeros_like(clips[:, :1])], dim=1)
        if self.channels == "xyc":
            places, confidence = clips[:, :2], clips[:, 2:]
            hidden = torch.where(confidence > LEAST_CONFIDENCE, places, 0.0)
            return torch.cat([hidden, confidence], dim=1)
        return clips


class Centred(nn.Module):
    """Pipeline ctr: the origin joint of person 0 in the first frame that has this person becomes
    the centre, the middle 95 % are resized to `frames`; with `align_persons` every person is turned
    by the axes of the body in the clip's first frame.
    """

    def __init__(self, data: DataConfig, layout: Layout) -> None:
        super().__init__()
        self.origin = layout.origin
        self.resize = Resize(data.frames)
        hips = hips_of(layout)
        self.ends = (*layout.spine, *hips) if data.align_persons and layout.spine and hips else None

    def forward(self, clips: Tensor) -> Tensor:
        length = clips.shape[2]
        there = present(clips)  # (N, T, M)
        time = torch.arange(length)
        first = torch.where(there[:, :, 0], time, time + length).amin(dim=1)  # `length`: nobody
        first = torch.where(there[:, :, 0].any(dim=1), first, 0)
        centre = at_frame(clips[:, :, :, self.origin, 0], first)  # (N, 3)
        before, after, share = self.resize(length)
        real = there.float()
        joints = blended(clips, before, after, share[:, None, None], dim=2)
        real = blended(real, before, after, share[:, None], dim=1)
        joints = joints - real[:, None, :, None] * centre[:, :, None, None, None]
        return joints if self.ends is None else self._turned(joints, clips[:, :, 0])

    def _turned(self, joints: Tensor, first: Tensor) -> Tensor:
        """first: (N, 3, V, M)."""
        assert self.ends is not None
        low, high, left, right = (first[:, :, joint] for joint in self.ends)  # (N, 3, M)
        axes = body_axes((high - low).mT, (left - right).mT)  # (N, M, 3, 3)
        return turned(joints, axes)


class Fitted(nn.Module):
    """Pipeline ucla: each coordinate to [-1, 1] over everybody who is there, `frames` frames spread
    evenly.
    """

    def __init__(self, data: DataConfig, _layout: Layout) -> None:
        super().__init__()
        self.spread = Spread(data.frames)

    def forward(self, clips: Tensor) -> Tensor:
        there = present(clips)
        gain, middle = fit(clips, there[:, None, :, None])
        frame = self.spread(clips.shape[2])
        real = there.index_select(1, frame).float()[:, None, :, None]
        joints = clips.index_select(2, frame)
        return wide(gain) * (joints - real * wide(middle))


class InSpace(nn.Module):
    """Pipeline pyskl in space: whoever is there in most frames becomes person 0, frames without
    that person are left out, the first frame kept gives centre and turn.
    """

    def __init__(
        self, data: DataConfig, layout: Layout, *, upright: bool, uniform: Uniform
    ) -> None:
        super().__init__()
        self.origin = layout.origin
        self.ends = (layout.spine, layout.shoulders) if upright else None
        self.moving, self.uniform = data.stream_config.motion, uniform

    def forward(self, clips: Tensor) -> Tensor:
        clips, there = self._leader_first(clips, present(clips))
        frames = clips.shape[2]
        time = torch.arange(frames)
        nobody = ~there[:, :, 0].any(dim=1, keepdim=True)
        kept = there[:, :, 0] | nobody  # (N, T)
        length = kept.sum(dim=1)
        # kept frames first, in their order
        order = torch.sort(torch.where(kept, time, time + frames), dim=1).values
        order = torch.where(order < frames, order, order - frames)
        first = order[:, 0]
        centre = at_frame(clips[:, :, :, self.origin, 0], first)
        turn = None if self.ends is None else self._upright(clips, first, centre)

        def taken(step: int) -> Tensor:
            """The frames `step` after those that the views look at, centred, (N, 3, views * frames,
            V, M).
            """
            at = torch.minimum(places + step, length[:, None] - 1)
            frame = order.gather(1, at)[:, None, :, None, None]
            joints = clips.gather(2, frame.expand(-1, 3, -1, clips.shape[3], clips.shape[4]))
            seen = (joints != 0).any(dim=1, keepdim=True)
            return torch.where(seen, joints - wide(centre), 0.0)

        places = self.uniform(length).flatten(1)  # (N, views * frames)
        joints = taken(0)
        if self.moving:
            moves = (places < length[:, None] - 1)[:, None, :, None, None]
            joints = torch.where(moves, taken(1) - joints, 0.0)
        if turn is not None:
            joints = turned(joints, turn[:, None])
        return by_view(joints, self.uniform.views)

    def _leader_first(self, clips: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        persons = clips.shape[4]
        if persons == 1:
            return clips, there
        person = torch.arange(persons)
        # of equals the first
        rank = there.sum(dim=1) * persons + (persons - 1 - person)
        leader = rank.argmax(dim=1, keepdim=True)
        who = torch.where(person == 0, leader, torch.where(person == leader, 0, person))  # (N, M)
        return (
            clips.gather(4, who[:, None, None, None].expand_as(clips)),
            there.gather(2, who[:, None].expand_as(there)),
        )

    def _upright(self, clips: Tensor, first: Tensor, centre: Tensor) -> Tensor:
        """(N, 3, 3): the spine along z, then the shoulders along x."""
        assert self.ends is not None
        turn: Tensor | None = None
        for ends, axis in zip(self.ends, (2, 0), strict=True):
            assert ends is not None
            start, end = (self._moved(clips[:, :, :, joint, 0], first, centre) for joint in ends)
            line = end - start
            vector = line if turn is None else (turn @ line[:, :, None])[:, :, 0]
            step = aligning(vector, axis)
            turn = step if turn is None else step @ turn
        assert turn is not None
        return turn

    def _moved(self, track: Tensor, first: Tensor, centre: Tensor) -> Tensor:
        """A joint (N, 3, T) in frame `first`, from the centre; where it was not seen it is zero."""
        joint = at_frame(track, first)
        return torch.where((joint != 0).any(dim=1, keepdim=True), joint - centre, 0.0)


class InImage(nn.Module):
    """Pipeline pyskl in the image: x and y to [-1, 1] over everything that is seen, unless that is
    no wider or no higher than 10 pixels.
    """

    def __init__(self, data: DataConfig, *, confident: bool, uniform: Uniform) -> None:
        super().__init__()
        self.confident, self.uniform = confident, uniform
        self.moving = data.stream_config.motion

    def forward(self, clips: Tensor) -> Tensor:
        last = clips.shape[2] - 1
        gain, middle = self._fit(clips)
        at = self.uniform(torch.zeros(1, dtype=torch.long) + clips.shape[2]).flatten()
        joints = self._placed(clips.index_select(2, at), gain, middle)
        if self.moving:
            following = torch.minimum(at + 1, torch.zeros_like(at) + last)
            later = self._placed(clips.index_select(2, following), gain, middle)
            moves = (at < last)[:, None, None]
            places = later[:, :2] - joints[:, :2]
            confidence = (later[:, 2:] + joints[:, 2:]) / 2
            joints = torch.where(moves, torch.cat([places, confidence], dim=1), 0.0)
        return by_view(joints, self.uniform.views)

    def _seen(self, clips: Tensor) -> Tensor:
        """(N, 1, T, V, M)"""
        seen = (clips[:, :2] != 0).any(dim=1, keepdim=True)
        return seen & (clips[:, 2:] > LEAST_CONFIDENCE) if self.confident else seen

    def _fit(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        gain, middle, span = scale(clips[:, :2], self._seen(clips))
        large = span.amin(dim=1, keepdim=True) > SMALLEST_SPAN
        return torch.where(large, gain, 1.0), torch.where(large, middle, 0.0)

    def _placed(self, joints: Tensor, gain: Tensor, middle: Tensor) -> Tensor:
        places = wide(gain) * (joints[:, :2] - wide(middle))
        return torch.cat([torch.where(self._seen(joints), places, 0.0), joints[:, 2:]], dim=1)


class Stream(nn.Module):
    """Joints (N, 3, T, V, M) -> what a member sees of them."""

    matrix: Tensor | None

    def __init__(self, data: DataConfig, description: Description) -> None:
        super().__init__()
        stream, layout = data.stream_config, layout_of(description.layout)
        by_joint = pipeline_of(data, description) == "pyskl"
        self.moving = stream.motion and not by_joint  # else it was made where frames were taken
        matrix = None
        if stream.bone or stream.hops > 0:
            of = image_matrices if description.channels == "xyc" else joint_matrix
            matrix = torch.from_numpy(of(layout, stream)).float()
        self.register_buffer("matrix", matrix)

    def forward(self, joints: Tensor) -> Tensor:
        if self.matrix is not None:
            joints = (joints.movedim(-1, 1) @ self.matrix.mT).movedim(1, -1)
        if self.moving:
            joints = F.pad(joints[:, :, 1:] - joints[:, :, :-1], (0, 0, 0, 0, 0, 1))
        return joints


def build_preparation(data: DataConfig, description: Description, longest: int) -> nn.Module:
    """Clips (N, 3, T, V, M) -> joints (N views, 3, frames, V, M), motion where the pipeline takes
    it between recorded frames. longest: length up to which a table of frames is kept.
    """
    layout, pipeline = layout_of(description.layout), pipeline_of(data, description)
    if pipeline == "ctr":
        return Centred(data, layout)
    if pipeline == "ucla":
        return Fitted(data, layout)
    uniform = Uniform(data.frames, views_of(data, description), longest)
    if description.channels == "xyz":
        upright = aligns_spine(data, description, layout)
        return InSpace(data, layout, upright=upright, uniform=uniform)
    return InImage(data, confident=description.channels == "xyc", uniform=uniform)


def present(clips: Tensor) -> Tensor:
    """(N, T, M): whether a person has a joint that is not exactly zero."""
    return clips.abs().amax(dim=(1, 3)) > 0


def at_frame(track: Tensor, frame: Tensor) -> Tensor:
    """(N, 3, T) at frames (N,) -> (N, 3)."""
    return track.gather(2, frame[:, None, None].expand(-1, 3, 1))[:, :, 0]


def blended(values: Tensor, before: Tensor, after: Tensor, share: Tensor, *, dim: int) -> Tensor:
    """(1 - share) of the frames `before` plus share of those `after`."""
    return (1 - share) * values.index_select(dim, before) + share * values.index_select(dim, after)


def wide(numbers: Tensor) -> Tensor:
    """(N, C) -> (N, C, 1, 1, 1)."""
    return numbers[:, :, None, None, None]


def turned(joints: Tensor, turns: Tensor) -> Tensor:
    """turns (N, M or 1, 3, 3) of every joint (N, 3, T, V, M)."""
    flat = joints.movedim(-1, 1).flatten(3)  # (N, M, 3, T V)
    return torch.unflatten(turns @ flat, 3, (-1, joints.shape[3])).movedim(1, -1)


def by_view(joints: Tensor, views: int) -> Tensor:
    """(N, 3, views * frames, V, M) -> (N * views, 3, frames, V, M), the views of a clip one behind
    the other.
    """
    return torch.unflatten(joints, 2, (views, -1)).movedim(2, 1).flatten(0, 1)


def fit(clips: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """Gain and middle (N, C) of `fit_to_box` over what is there; there: (N, 1, T, V or 1, M)."""
    gain, middle, _span = scale(clips, there)
    return gain, middle


def scale(clips: Tensor, there: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gain, middle and span (N, C); 0 where nothing is there."""
    low = torch.where(there, clips, LARGEST).amin(dim=(2, 3, 4))
    high = torch.where(there, clips, -LARGEST).amax(dim=(2, 3, 4))
    some = low <= high
    low, high = torch.where(some, low, 0.0), torch.where(some, high, 0.0)
    varies = high > low
    span = high - low
    gain = torch.where(varies, 2.0 / torch.where(varies, span, 1.0), 0.0)
    return gain, (low + high) / 2, span


def aligning(vector: Tensor, axis: int) -> Tensor:
    """(N, 3) -> (N, 3, 3): `transforms.aligning` without angles: with n the normal n = v x e of
    length s, sin(a) = s / |v| and cos(a) = v[axis] / |v|.
    """
    x, y, z = vector.unbind(dim=1)
    none = torch.zeros_like(x)
    normal = torch.stack([(none, z, -y), (-z, none, x), (y, -x, none)][axis], dim=1)
    sine, cosine = normal.norm(dim=1), vector[:, axis]
    length = vector.norm(dim=1)
    turns = (
        (vector.abs().sum(dim=1) >= PARALLEL)
        & (normal.abs().sum(dim=1) >= PARALLEL)
        & ((cosine <= 0) | (sine >= PARALLEL * cosine))
    )
    n = normal / torch.where(turns, sine, 1.0)[:, None]
    x, y, z = n.unbind(dim=1)
    # K w = n x w
    k = torch.stack([none, -z, y, z, none, -x, -y, x, none], dim=1).view(-1, 3, 3)
    safe = torch.where(turns, length, 1.0)
    turn = (sine / safe)[:, None, None] * k + (1 - cosine / safe)[:, None, None] * (k @ k)
    return torch.eye(3) + torch.where(turns[:, None, None], turn, 0.0)


def body_axes(spine: Tensor, hips: Tensor) -> Tensor:
    """(N, M, 3) each -> (N, M, 3, 3): `transforms.body_axes`."""
    length = spine.norm(dim=2, keepdim=True)
    up = spine / torch.where(length > 0, length, 1.0)
    across = hips - (hips * up).sum(dim=2, keepdim=True) * up
    width = across.norm(dim=2, keepdim=True)
    broad = width > THIN * hips.norm(dim=2, keepdim=True)
    across = across / torch.where(broad, width, 1.0)
    third = torch.linalg.cross(across, up)
    axes = torch.stack([across, third, up], dim=2)
    axes = torch.where(broad[..., None], axes, torch.eye(3))
    return torch.where(length[..., None] > 0, axes, 0.0)
