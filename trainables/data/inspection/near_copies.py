"""Clips that are one motion placed differently: equal up to a rotation and a translation.

Knows joints, nothing of stores or splits.

Comparing every clip with every other is out of reach for large stores, so each gets a sketch that
no placement changes and that never differs by more than the clips do; only pairs with close
sketches are aligned.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainables.contract.errors import UserError
from trainables.data.store.description import Channels, Joints
from trainables.data.store.protocols import Positions

DIMENSIONS: dict[Channels, int] = {"xyz": 3, "xyc": 2, "xy": 2}
"""How many of a joint's three numbers are coordinates."""

# of one kind with close sketches; more do not fit into memory, and mean that the tolerance is no
# tolerance
MOST_PAIRS = 20_000_000
CHUNK = 100_000  # pairs turned into Python numbers at a time

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, slots=True)
class Sketch:
    """What stays the same wherever a clip is placed.

    With p the n joints of all frames in which their person is present, and c their mean, radii[m,
    v] = sqrt(sum_t |p[m, t, v] - c|^2 / n). By the triangle inequality |radii - radii'| is at most
    the `placed_distance` of two clips of the same kind.
    """

    # shape, and in which frames which person is present: only clips of one kind are compared
    kind: tuple[tuple[int, ...], bytes]
    radii: Values  # (M * V,)
    motion: float  # root mean square distance of the joints from their own mean over time


def sketch(joints: Joints, dimensions: int) -> Sketch | None:
    """The sketch of a clip (M, T, V, 3); None where nobody is present. joints must be finite."""
    # (M, T); absent rows are zero and add nothing to any sum
    present = (joints != 0).any(axis=(2, 3))
    rows, (persons, frames, joint_count) = present.sum(axis=1), joints.shape[:3]
    count = int(rows.sum()) * joint_count
    if not count:
        return None
    points = joints[..., :dimensions].astype(np.float64).reshape(persons, frames, -1)
    sums = points.sum(axis=1).reshape(persons, joint_count, dimensions)
    points *= points
    squares = points.sum(axis=1).reshape(persons, joint_count, dimensions).sum(axis=-1)
    centre = sums.sum(axis=(0, 1)) / count
    # sum_t |p - c|^2, (M, V)
    about_centre = squares - 2 * sums @ centre + rows[:, None] * (centre @ centre)
    about_means = squares.sum() - ((sums * sums).sum(axis=(1, 2)) / np.maximum(rows, 1)).sum()
    radii = np.sqrt(np.maximum(about_centre, 0.0) / count).ravel()
    return Sketch(
        (joints.shape, present.tobytes()), radii, float(np.sqrt(max(about_means, 0.0) / count))
    )


def placed_distance(a: Joints, b: Joints, dimensions: int) -> float:
    """min over rotations R and translations t of sqrt(mean |R p + t - q|^2), p and q the joints of
    `a` and `b`, which are of one kind.

    R and t are the same in all frames and for all persons; R is no mirror. With p and q centred and
    s the singular values of sum p q^T, the last one negated where the determinant of that matrix is
    negative, the mean is (sum |p|^2 + sum |q|^2 - 2 sum s) / n (Kabsch 1976, 1978).
    """
    present = (a != 0).any(axis=(2, 3))
    p, q = (
        joints[present][..., :dimensions].reshape(-1, dimensions).astype(np.float64)
        for joints in (a, b)
    )
    p -= p.mean(axis=0)
    q -= q.mean(axis=0)
    covariance = p.T @ q
    singular = np.linalg.svd(covariance, compute_uv=False)
    if np.linalg.det(covariance) < 0:
        singular[-1] = -singular[-1]
    return float(np.sqrt(max((p * p).sum() + (q * q).sum() - 2 * singular.sum(), 0.0) / len(p)))


def near_groups(
    identical: Positions,
    sketches: Mapping[int, Sketch],
    joints: Callable[[int], Joints],
    dimensions: int,
    tolerance: float,
) -> Positions:
    """For each clip the first one that is the same motion within `tolerance`, directly or by way of
    others; itself where none is.

    identical: for each clip the first that is equal bit by bit; of the others only those that are
    their own first need a sketch. `joints` gives a clip by its number; distances are in the unit of
    the joints. A clip whose motion is at most the tolerance is a pose, and two people who stand
    alike are no copies: it is compared with nothing. UserError when more than `MOST_PAIRS` sketches
    are close.
    """
    from scipy.spatial import KDTree

    group = identical.tolist()
    kinds: dict[tuple[tuple[int, ...], bytes], list[int]] = defaultdict(list)
    for number, own in sketches.items():
        if own.motion > tolerance:
            kinds[own.kind].append(number)

    def first(number: int) -> int:
        while group[number] != number:
            group[number] = number = group[group[number]]
        return number

    for numbers in kinds.values():
        if len(numbers) < 2:
            continue
        tree = KDTree(np.stack([sketches[number].radii for number in numbers]))
        count = (int(tree.count_neighbors(tree, tolerance)) - len(numbers)) // 2
        if count > MOST_PAIRS:
            raise UserError(
                f"near copies: {count} pairs of clips look alike, at most {MOST_PAIRS} can be"
                " compared; lower the tolerance"
            )
        pairs = tree.query_pairs(tolerance, output_type="ndarray")
        for begin in range(0, len(pairs), CHUNK):
            for i, k in pairs[begin : begin + CHUNK].tolist():
                one, other = sorted((first(numbers[i]), first(numbers[k])))
                if (
                    one != other
                    and placed_distance(joints(numbers[i]), joints(numbers[k]), dimensions)
                    <= tolerance
                ):
                    group[other] = one
    return np.array([first(number) for number in range(len(group))], dtype=np.int64)
