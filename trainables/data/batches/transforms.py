"""Augmentation and resampling of whole batches of clips of different lengths.

Knows arrays only: no stores, streams or seeds.

What is decided per clip (which frames, which rotation) is a small float64 array made on the CPU;
what touches joints is a tensor operation on the device and reads only the frames that are needed.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.data.batches.streams import exact_product

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# frames; a training crop is no shorter unless the clip is (CTR-GCN's feeder, Chen et al. 2021)
SHORTEST_CROP = 64
TRAINING_SHARE = (0.5, 1.0)  # of a clip's frames that a training crop keeps
EVALUATION_SHARE = 0.95
# of the frame list, from which training frames are sampled without replacement (CTR-GCN's NW-UCLA
# feeder)
COPIES = 100

SEED = 255  # of the frames that PYSKL evaluates on
# metres, radians: what PYSKL takes for no vector, for parallel vectors and for no angle
PARALLEL = 1e-6

# relative; far above the error of one rotation in float64, far below the resolution of float32
# recordings
ROUNDING = 1e-12


def crop_training(length: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Random crops: first frame and number of frames kept, both (N,).

    p ~ U(0.5, 1); L = min(max(floor(p length), 64), length); the first frame is uniform in 0 ..
    length - L.
    """
    share = rng.uniform(*TRAINING_SHARE, size=len(length))
    kept = np.minimum(np.maximum(np.floor(length * share).astype(np.int64), SHORTEST_CROP), length)
    return rng.integers(0, length - kept + 1), kept


def crop_evaluation(length: Ints) -> tuple[Ints, Ints]:
    """The middle 95 %: int(0.05 length / 2) frames fall away on either side.

    Returns first frame and number of frames kept, both (N,).
    """
    first = ((1 - EVALUATION_SHARE) * length / 2).astype(np.int64)
    return first, length - 2 * first


def resize(first: Ints, kept: Ints, frames: int) -> tuple[Ints, Floats]:
    """Linear resampling of each crop to `frames` frames with half-pixel centres: two frame numbers
    and two weights per output frame.

    u_i = clamp((i + 0.5) L / frames - 0.5, 0, L - 1);  out_i = (1 - w) x[floor u] + w x[floor u +
    1], w = u - floor u. Both results are (N, frames, 2); frame numbers count from the start of the
    clip.
    """
    last = kept[:, None] - 1
    at = np.clip((np.arange(frames) + 0.5) * (kept[:, None] / frames) - 0.5, 0, last)
    left = at.astype(np.int64)
    share = at - left
    index = first[:, None, None] + np.stack([left, np.minimum(left + 1, last)], axis=-1)
    return index, np.stack([1 - share, share], axis=-1)


def sample_training(length: Ints, frames: int, rng: np.random.Generator) -> Ints:
    """Sorted frame numbers (N, frames), drawn without replacement from 100 copies of 0 .. length -
    1.

    Clips with fewer than frames / 100 frames get as many copies as it takes.
    """
    copies = np.maximum(COPIES, -(-frames // length))[:, None]
    population = copies * length[:, None]
    draws = np.empty((len(length), 0), np.int64)
    while True:  # a second round is needed only when very short clips draw many values twice
        more = (rng.random((len(length), frames + frames // 4)) * population).astype(np.int64)
        draws = np.concatenate([draws, more], axis=1)
        kept = first_distinct(draws, frames)
        if kept is not None:
            frame: Ints = kept // copies
            return frame


def first_distinct(draws: Ints, count: int) -> Ints | None:
    """The first `count` distinct values of each row, sorted: a uniform sample without replacement
    if the row is a uniform stream.

    draws: (N, W), non-negative. Returns (N, count), or None when a row has fewer distinct values.
    """
    width = draws.shape[1]
    bits = width.bit_length()
    coded = np.sort((draws << bits) | np.arange(width), axis=1)  # by value, equal values by arrival
    value, arrival = coded >> bits, coded & ((1 << bits) - 1)
    fresh = np.ones_like(value, dtype=bool)
    fresh[:, 1:] = value[:, 1:] != value[:, :-1]
    by_arrival = np.zeros_like(fresh)
    np.put_along_axis(by_arrival, arrival, fresh, axis=1)
    rank = np.take_along_axis(by_arrival.cumsum(axis=1), arrival, axis=1)
    if rank.max(axis=1).min() < count:
        return None
    chosen: Ints = value[fresh & (rank <= count)].reshape(-1, count)
    return chosen


def sample_evaluation(length: Ints, frames: int) -> Ints:
    """Evenly spaced frame numbers (N, frames): int(linspace(0, length - 1, frames))."""
    last = (length - 1)[:, None].astype(np.float64)
    index = np.arange(frames) * (last / (frames - 1))
    index[:, -1:] = last
    return index.astype(np.int64)


def sample_uniform(length: Ints, frames: int, rng: np.random.Generator) -> Ints:
    """Frame numbers (N, frames) spread evenly over each clip, as PYSKL's UniformSampleFrames draws
    them for training.

    With L = frames, from clips of T frames: T < L: L frames in a row from a random one on; after
    the last comes the first again. L <= T < 2 L: L frames in a row with T - L of the L + 1 gaps
    before, between and behind them chosen at random; each skips one frame. T >= 2 L: one random
    frame of each of the L stretches floor(i T / L) .. floor((i + 1) T / L) - 1.
    """
    chance = rng.random((len(length), frames + 1))
    edge = np.arange(frames + 1) * length[:, None] // frames
    index: Ints = edge[:, :-1] + (chance[:, :-1] * np.diff(edge)).astype(np.int64)
    few, some = length < frames, (length >= frames) & (length < 2 * frames)
    index[few] = (
        (chance[few, :1] * length[few, None]).astype(np.int64) + np.arange(frames)
    ) % length[few, None]
    first_kept = np.take_along_axis(np.sort(chance[some]), length[some, None] - frames, axis=1)
    index[some] = np.arange(frames) + (chance[some] < first_kept).cumsum(axis=1)[:, :-1]
    return index


@lru_cache(maxsize=4096)
def uniform_views(length: int, frames: int, views: int) -> Ints:
    """The frame numbers (views, frames) that PYSKL's UniformSampleFrames evaluates on: those of
    `sample_uniform` with NumPy's legacy generator from seed 255, the same for every clip of this
    length; where a clip is shorter than `frames`, view v starts at frame floor(v length / views),
    or at frame v if there are more views than frames.
    """
    legacy = np.random.RandomState(SEED)
    edge = np.arange(frames + 1) * length // frames
    numbers = np.empty((views, frames), np.int64)
    for view in range(views):
        legacy.random_sample()  # PYSKL draws which share of the clip to look at: always all of it
        if length < frames:
            numbers[view] = (view if length < views else view * length // views) + np.arange(frames)
        elif length < 2 * frames:
            skipped = np.zeros(frames + 1, np.int64)
            skipped[legacy.choice(frames + 1, length - frames, replace=False)] = 1
            numbers[view] = np.arange(frames) + skipped.cumsum()[:-1]
        else:
            numbers[view] = edge[:-1] + legacy.randint(np.diff(edge))
    numbers %= length
    numbers.flags.writeable = False
    return numbers


def aligning(vector: Floats, axis: int) -> Floats:
    """Rotations (N, 3, 3) that turn each vector (N, 3) into the direction of a coordinate axis,
    around the normal of both.

    R = I + sin(a) K + (1 - cos(a)) K K with K y = n x y, n = v x e / |v x e|, a = angle between v
    and e. The identity where v is (nearly) nothing, or (nearly) parallel to the axis in either
    direction, as in PYSKL's PreNormalize3D.
    """
    normal = np.cross(vector, np.eye(3)[axis])
    length = np.linalg.norm(normal, axis=1)
    angle = np.arctan2(length, vector[:, axis])
    turns = (
        (abs(vector).sum(axis=1) >= PARALLEL)
        & (abs(normal).sum(axis=1) >= PARALLEL)
        & (angle >= PARALLEL)
    )
    n = np.divide(normal, length[:, None], out=np.zeros_like(normal), where=turns[:, None])
    k = np.cross(np.eye(3), n[:, None])  # row i is e_i x n = -(n x e_i), and K is antisymmetric
    sine, cosine = np.sin(angle)[:, None, None], np.cos(angle)[:, None, None]
    turn: Floats = np.eye(3) + sine * k + (1 - cosine) * (k @ k)
    return turn


def body_axes(spine: Floats, hips: Floats) -> Floats:
    """Maps (N, 3, 3) of persons into their own axes: x along the hips, z along the spine (InfoGCN,
    Chi et al. 2022).

    spine: (N, 3), from its lower to its upper joint; hips: (N, 3), from the right to the left one.
    v1 = spine / |spine|, v2 = h / |h| with h = hips - (hips . v1) v1, v3 = v2 x v1; x' = [v2 v3
    v1]^-1 x, which is the transpose. All zero where the spine has no length: the person is left
    out. The identity where h has none.
    """
    length = np.linalg.norm(spine, axis=1, keepdims=True)
    up = np.divide(spine, length, out=np.zeros_like(spine), where=length > 0)
    across = hips - (hips * up).sum(axis=1, keepdims=True) * up
    width = np.linalg.norm(across, axis=1, keepdims=True)
    wide = width > ROUNDING * np.linalg.norm(hips, axis=1, keepdims=True)
    across = np.divide(across, width, out=np.zeros_like(across), where=wide)
    axes: Floats = np.stack([across, np.cross(across, up), up], axis=1)
    axes[~wide[:, 0]] = np.eye(3)
    axes[length[:, 0] == 0] = 0.0
    return axes


def rotation(angles: Floats) -> Floats:
    """R = Rz Ry Rx (N, 3, 3) from angles (N, 3) in radians around x, y and z; x' = R x.

    Rx = [[1, 0, 0], [0, c, s], [0, -s, c]], Ry = [[c, 0, -s], [0, 1, 0], [s, 0, c]], Rz = [[c, s,
    0], [-s, c, 0], [0, 0, 1]].
    """
    x, y, z = (_axis_rotation(angles[:, axis], axis) for axis in range(3))
    return z @ y @ x


def view_rotation(degrees: Ints, scale: Floats) -> Floats:
    """The camera change of CTR-GCN's NW-UCLA feeder as a column operator (N, 3, 3): x' = (Ry Rx
    s)^T x.

    degrees: (N, 2) around x and y; scale: (N,). The feeder multiplies row vectors, X (Ry (Rx s)),
    with the matrices of `rotation`.
    """
    angles = np.radians(degrees)
    rows = _axis_rotation(angles[:, 1], 1) @ _axis_rotation(angles[:, 0], 0) * scale[:, None, None]
    return np.swapaxes(rows, 1, 2)


def fit_to_box(low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Gain and middle (both (N, 3)) with gain * (x - middle) in [-1, 1] per coordinate; a constant
    coordinate becomes 0.

    x' = 2 (x - low) / (high - low) - 1. Constant is what varies by rounding only.
    """
    span = high - low
    gain = np.divide(
        2.0, span, out=np.zeros_like(span), where=span > ROUNDING * np.maximum(abs(low), abs(high))
    )
    return gain, (low + high) / 2


def gather(rows: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Weighted sums of frames, read straight from the ragged rows.

    rows: (R, V * 3), float32 or int16; index, weight: (P, T, taps). out[p, t] = sum_k weight[p, t,
    k] rows[index[p, t, k]]: (P, T, V * 3).
    """
    tracks, frames, taps = index.shape
    if rows.dtype == torch.int16:
        rows, index = in_float32(rows, index)
    summed = F.embedding_bag(
        index.view(-1, taps), rows, mode="sum", per_sample_weights=weight.view(-1, taps)
    )
    return summed.view(tracks, frames, -1)


def gather_seen(
    rows: Tensor, index: Tensor, weight: Tensor, centre: Tensor, least: Tensor | None = None
) -> Tensor:
    """Weighted sums of frames whose joints are first moved by -centre, except that a joint which
    was not seen is zero and stays zero.

    rows: (R, V * 3), float32 or int16; index, weight: (P, T, taps); centre: (P, 3). Returns (P, T,
    V * 3). out[p, t] = sum_k weight[p, t, k] seen[index[p, t, k]] (rows[index[p, t, k]] -
    centre[p]), seen: some coordinate is not zero.

    least: (P,), where the third number of a joint is a confidence: what has no more of it was not
    seen either. Confidences are not moved or hidden, and averaged: sum_k |weight[p, t, k]| / taps
    c.
    """
    tracks, frames, taps = index.shape
    everywhere = centre[:, None].expand(-1, rows.shape[1] // 3, 3).reshape(tracks, 1, -1)
    places = 3 if least is None else 2
    total = None
    for tap in range(taps):
        joints = rows.index_select(0, index[:, :, tap].flatten()).view(tracks, frames, -1)
        joints = joints.float() if rows.dtype == torch.int16 else joints
        tracked = joints.view(tracks, frames, -1, 3)
        seen = (tracked[..., 0] != 0) | (tracked[..., 1] != 0)
        seen = (
            seen | (tracked[..., 2] != 0)
            if least is None
            else seen & (tracked[..., 2] > least[:, None, None])
        )
        joints -= everywhere
        # nearly everything is seen in space, and a GPU need not be waited for
        if rows.is_cuda or not seen.all():
            tracked[..., :places] *= seen[..., None]
        share = weight[:, :, tap, None]
        if least is None:
            joints *= share
        else:
            tracked[..., :2] *= share[..., None]
            tracked[..., 2] *= share.abs() / taps
        total = joints if total is None else total.add_(joints)
    assert total is not None
    return total


def in_float32(rows: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """The rows (R, W) that `index` (P, T, taps) names as float32 numbers, and where they are now.

    A track's taps mostly share frames, so everything between its first and its last frame is
    converted once, unless that is more than is named.
    """
    first, last = torch.aminmax(index.flatten(1), dim=1)
    count = last - first + 1
    if rows.is_cuda or int(count.sum()) > index.numel():  # a GPU would have to wait for the sum
        return rows.index_select(0, index.flatten()).float(), torch.arange(
            index.numel(), device=index.device
        ).view_as(index)
    shift = first - (count.cumsum(0) - count)
    wanted = torch.arange(int(count.sum())) + shift.repeat_interleave(count)
    return rows.index_select(0, wanted).float(), index - shift[:, None, None]


def subtract_centre(frames: Tensor, centre: Tensor, share: Tensor) -> Tensor:
    """frames - share * centre, in place.   frames: (P, T, V * 3), centre: (P, 3), share: (P, T).

    `share` is the weight of real frames in an output frame: an all-zero frame has no person in it,
    and stays zero.
    """
    everywhere = centre[:, None].expand(-1, frames.shape[2] // 3, 3).reshape(len(frames), 1, -1)
    return frames.addcmul_(share[:, :, None], everywhere, value=-1)


def turn(frames: Tensor, linear: Tensor) -> Tensor:
    """x' = linear x for every joint, coordinates first.   frames: (P, T, V * 3), linear: (P, 3, 3);
    returns (P, 3, T * V).
    """
    points = frames.view(len(frames), -1, 3)
    return exact_product(linear, points.transpose(1, 2))


def place(tracks: Tensor, slot: Tensor, free: Tensor) -> Tensor:
    """Tracks (P, ...) put at `slot` (P,); the places at `free` (F,) are zero.

    Together they are 0 .. P + F - 1.
    """
    placed = tracks.new_empty(len(slot) + len(free), *tracks.shape[1:])
    return placed.index_copy_(0, slot, tracks).index_fill_(0, free, 0)


def _axis_rotation(angle: Floats, axis: int) -> Floats:
    """Rx, Ry or Rz of `rotation` (axis 0, 1, 2) for each angle (N,), in radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    a, b = ((1, 2), (2, 0), (0, 1))[axis]
    matrix = np.zeros((len(angle), 3, 3))
    matrix[:, axis, axis] = 1
    matrix[:, a, a] = matrix[:, b, b] = cos
    matrix[:, a, b] = sin
    matrix[:, b, a] = -sin
    return matrix
