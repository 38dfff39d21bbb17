"""Synthetic recordings: a jointed body that moves by rules, for trying things out without a data
set. Knows layouts, not files or models.

What makes a class: which limbs swing, how far and how often. Classes come in pairs that pass
through the same poses: the two of a pair differ only in the direction of time or in the phase
between two limbs, so no single frame tells them apart. Subjects differ in limb lengths, speed and
style, cameras in direction; every clip drifts, sways and has sensor noise of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from trainables.contract.config import Frozen
from trainables.contract.errors import UserError
from trainables.data.store.description import Clip, Description, Recordings, describe_layout
from trainables.data.store.protocols import ProtocolRule
from trainables.layouts import Layout

Values = npt.NDArray[np.float64]


class SyntheticConfig(Frozen):
    """How much to make. The same values give the same bytes."""

    classes: int = Field(default=10, ge=2)
    clips_per_class: int = Field(default=60, ge=2)
    subjects: int = Field(default=10, ge=1)
    views: int = Field(default=3, ge=1)
    # mean length; clips have half to one and a half times as many
    frames: int = Field(default=48, ge=4)
    # a clip shows one to this many; the first acts, the others stand and sway
    persons: int = Field(default=1, ge=1)
    noise: float = Field(default=0.04, ge=0.0)  # standard deviation of the sensor noise, metres
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _everyone_is_seen(self) -> SyntheticConfig:
        if self.subjects < 2 and self.views < 2:
            raise ValueError("subjects or views must be at least 2 to split by, got 1 and 1")
        if self.clips_per_class < self.subjects * self.views:
            raise ValueError(
                f"clips_per_class must be at least subjects * views = {self.subjects * self.views},"
                f" got {self.clips_per_class}"
            )
        return self


@dataclass(frozen=True, eq=False, slots=True)
class _Movement:
    """One class: bone b swings by amplitude[b] * wave(direction * (2 pi cycles u + phase[b])) about
    axis[b], u in [0, 1) through the clip.
    """

    axis: Values  # (V, 3)
    amplitude: Values  # (V,), radians; zero for bones that do not take part
    phase: Values  # (V,)
    cycles: float
    direction: float  # +1 or -1


@dataclass(frozen=True, eq=False, slots=True)
class _Subject:
    """What one subject brings to every class."""

    stretch: Values  # (V,) factor of each bone's length
    posture: Values  # (V,) constant angle of each bone, radians
    speed: float
    vigour: float  # factor of every amplitude


def synthetic_recordings(config: SyntheticConfig, layout: Layout) -> Recordings:
    """The description and the clips of a synthetic data set."""
    protocols = {}
    if config.subjects > 1:
        protocols["xsub"] = ProtocolRule(
            column="subject",
            train=_every_other(1, config.subjects),
            test=_every_other(2, config.subjects),
        )
    if config.views > 1:
        protocols["xview"] = ProtocolRule(
            column="camera", train=tuple(range(1, config.views)), test=(config.views,)
        )
    description = Description(
        name="synthetic",
        layout=describe_layout(layout),
        classes=tuple(f"movement {k + 1}" for k in range(config.classes)),
        pipeline="ctr",
        protocols=protocols,
        provenance={"kind": "synthetic", "settings": config.model_dump(mode="json")},
    )
    return Recordings(description, _clips(config, layout), config.classes * config.clips_per_class)


def _clips(config: SyntheticConfig, layout: Layout) -> Iterator[Clip]:
    subjects = [
        _subject(np.random.default_rng([config.seed, 1, s]), layout) for s in range(config.subjects)
    ]
    movements = _movements(config, layout)
    for k, movement in enumerate(movements):
        rng = np.random.default_rng([config.seed, 2, k])
        places = np.arange(config.clips_per_class)
        subject, view = places % config.subjects, places // config.subjects % config.views
        order = np.lexsort((places, view, subject))
        for take, place in enumerate(order):
            s, v = int(subject[place]), int(view[place])
            joints = _scene(rng, config, layout, movement, subjects[s:] + subjects[:s], v)
            name = "_".join(
                f"{letter}{value:0{len(str(largest))}}"
                for letter, value, largest in (
                    ("a", k + 1, config.classes),
                    ("s", s + 1, config.subjects),
                    ("v", v + 1, config.views),
                    ("e", take, config.clips_per_class),
                )
            )
            yield Clip(name, k, joints, subject=s + 1, camera=v + 1, take=take)


def _movements(config: SyntheticConfig, layout: Layout) -> list[_Movement]:
    """One movement per class; classes 2 i and 2 i + 1 share limbs, amplitudes and frequency."""
    movements = []
    limbs = _limbs(layout)
    for k in range(config.classes):
        pair = k // 2
        rng = np.random.default_rng([config.seed, 3, pair])
        first, second = (limbs[i] for i in rng.permutation(len(limbs))[:2])
        amplitude, phase, axis = (
            np.zeros(layout.size),
            np.zeros(layout.size),
            _directions(rng, (layout.size,)),
        )
        lag = rng.uniform(0.5, 1.0)
        for limb, start in ((first, 0.0), (second, rng.uniform(0.6, 1.2))):
            for depth, bone in enumerate(limb):
                amplitude[bone] = rng.uniform(0.7, 1.1) / (1 + 0.5 * depth)
                phase[bone] = start + lag * depth
        twin = bool(k % 2)
        by_time = pair % 2 == 0
        if twin and not by_time:
            phase[list(second)] += np.pi
        movements.append(
            _Movement(
                axis,
                amplitude,
                phase,
                float(rng.choice([1.0, 1.5, 2.0])),
                -1.0 if twin and by_time else 1.0,
            )
        )
    return movements


def _limbs(layout: Layout) -> list[tuple[int, ...]]:
    """The bones that swing: of every unbranched chain that ends in a leaf the two behind its first
    one (upper arm and forearm, thigh and shank).

    Where a skeleton has at least two that reach 30 cm, the shorter ones (head, ears) are left out.
    """
    children = [
        [v for v in range(layout.size) if layout.parents[v] == parent != v]
        for parent in range(layout.size)
    ]
    limbs = []
    for leaf in (v for v in range(layout.size) if not children[v] and v != layout.root):
        chain = [leaf]
        while (
            len(children[layout.parents[chain[0]]]) == 1 and layout.parents[chain[0]] != layout.root
        ):
            chain.insert(0, layout.parents[chain[0]])
        limbs.append(tuple(chain[1:3] if len(chain) > 2 else chain))
    if len(limbs) < 2:
        raise UserError(
            f"layout '{layout.name}': synthetic movements need at least 2 limbs, got {len(limbs)}"
        )
    rest = _rest_pose(layout)
    reach = [
        sum(float(np.linalg.norm(rest[v] - rest[layout.parents[v]])) for v in limb)
        for limb in limbs
    ]
    long = [limb for limb, metres in zip(limbs, reach, strict=True) if metres >= 0.3]
    return long if len(long) > 1 else limbs


def _subject(rng: np.random.Generator, layout: Layout) -> _Subject:
    return _Subject(
        stretch=np.exp(rng.normal(0.0, 0.06) + rng.normal(0.0, 0.08, layout.size)),
        posture=rng.normal(0.0, 0.1, layout.size),
        speed=rng.uniform(0.85, 1.2),
        vigour=rng.uniform(0.7, 1.2),
    )


def _scene(
    rng: np.random.Generator,
    config: SyntheticConfig,
    layout: Layout,
    movement: _Movement,
    subjects: list[_Subject],
    view: int,
) -> npt.NDArray[np.float32]:
    """(M, T, V, 3) as the camera `view` sees it: metres, y up, z away from the camera; the first
    subject moves, others stand beside.
    """
    length = int(rng.integers(config.frames // 2, config.frames * 3 // 2 + 1))
    count = int(rng.integers(1, config.persons + 1))
    still = _Movement(movement.axis, np.zeros(layout.size), movement.phase, 1.0, 1.0)
    bodies = []
    for m in range(count):
        who = subjects[m % len(subjects)]
        body = _body(rng, layout, who, movement if m == 0 else still, length)
        bodies.append(body + np.array([0.9 * m, 0.0, 0.0]))
    yaw = np.pi / 4 * view + rng.normal(0.0, 0.15)
    pitch = rng.normal(0.0, 0.05)
    camera = _rotation(np.array([1.0, 0.0, 0.0]), np.array(pitch)) @ _rotation(
        np.array([0.0, 1.0, 0.0]), np.array(yaw)
    )
    seen = np.stack(bodies) @ camera.T + np.array([0.0, 0.0, 3.0]) + rng.normal(0.0, 0.2, 3)
    seen += rng.normal(0.0, config.noise, seen.shape)
    rounded: npt.NDArray[np.float32] = np.round(seen, 4).astype(np.float32)
    return rounded


def _body(
    rng: np.random.Generator, layout: Layout, who: _Subject, movement: _Movement, length: int
) -> Values:
    """(T, V, 3) of one person whose root starts near the origin."""
    u = np.arange(length)[:, None] / length
    cycles = movement.cycles * who.speed * rng.uniform(0.9, 1.1)
    start = rng.uniform(-1.8, 1.8)
    amplitude = movement.amplitude * who.vigour * rng.uniform(0.8, 1.2)
    # (T, V)
    angles = amplitude * _wave(
        movement.direction * (2 * np.pi * cycles * u + start) + movement.phase
    )
    sway = rng.normal(0.0, 0.12, layout.size) * np.sin(
        2 * np.pi * rng.uniform(0.3, 2.0, layout.size) * u + rng.uniform(0, 2 * np.pi, layout.size)
    )
    axis = movement.axis + rng.normal(0.0, 0.1, movement.axis.shape)
    joints = _pose(
        layout,
        who.stretch,
        axis / np.linalg.norm(axis, axis=-1, keepdims=True),
        angles + sway + who.posture,
    )
    drift = (
        rng.normal(0.0, 0.08, 3)
        * np.sin(np.pi * rng.uniform(0.3, 1.2) * u)
        * np.array([1.0, 0.1, 1.0])
    )
    moved: Values = joints + drift[:, None, :]
    return moved


def _wave(x: Values) -> Values:
    """A rounded saw tooth in [-1, 1]: slow up, quick down; it visits the same values whichever way
    time runs.
    """
    wave: Values = (np.sin(x) - 0.5 * np.sin(2 * x)) / 1.3
    return wave


def _pose(layout: Layout, stretch: Values, axis: Values, angles: Values) -> Values:
    """Forward kinematics: x_v = x_parent + R_v stretch_v offset_v, R_v = R_parent rot(axis_v,
    angle_v); angles (T, V) -> joints (T, V, 3).
    """
    rest = _rest_pose(layout)
    local = _rotation(axis, angles)  # (T, V, 3, 3)
    turned, joints = np.empty_like(local), np.empty((*angles.shape, 3))
    for v in _from_root(layout):
        parent = layout.parents[v]
        if parent == v:
            turned[:, v], joints[:, v] = local[:, v] * 0 + np.eye(3), rest[v]
            continue
        turned[:, v] = turned[:, parent] @ local[:, v]
        joints[:, v] = joints[:, parent] + turned[:, v] @ (stretch[v] * (rest[v] - rest[parent]))
    return joints


def _rotation(axis: Values, angle: Values) -> Values:
    """Rodrigues: I + sin(a) K + (1 - cos(a)) K^2 with K the cross-product matrix of the unit axis
    (..., 3); returns angle.shape + (3, 3).
    """
    x, y, z = np.moveaxis(axis, -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack(
        [np.stack([zero, -z, y], -1), np.stack([z, zero, -x], -1), np.stack([-y, x, zero], -1)], -2
    )
    sine, cosine = np.sin(angle)[..., None, None], np.cos(angle)[..., None, None]
    rotation: Values = np.eye(3) + sine * cross + (1 - cosine) * (cross @ cross)
    return rotation


def _from_root(layout: Layout) -> list[int]:
    """All joints, every parent before its children."""
    order = [layout.root]
    for v in order:
        order.extend(
            child for child in range(layout.size) if layout.parents[child] == v and child != v
        )
    return order


# A standing body by joint name: x to its left, y up, metres above the ground. Sided joints are
# given for the left.
_MIDDLE = {
    "spine_base": (0.0, 0.95, 0.0),
    "hip_centre": (0.0, 0.95, 0.0),
    "spine": (0.0, 1.1, 0.0),
    "spine_mid": (0.0, 1.2, 0.0),
    "spine_shoulder": (0.0, 1.42, 0.0),
    "shoulder_centre": (0.0, 1.42, 0.0),
    "neck": (0.0, 1.5, 0.0),
    "head": (0.0, 1.65, 0.0),
    "nose": (0.0, 1.62, -0.1),
}
_LEFT = {
    "shoulder": (0.18, 1.4, 0.0),
    "elbow": (0.24, 1.12, 0.02),
    "wrist": (0.26, 0.88, -0.03),
    "hand": (0.27, 0.8, -0.05),
    "hand_tip": (0.27, 0.72, -0.06),
    "thumb": (0.23, 0.79, -0.09),
    "hip": (0.1, 0.92, 0.0),
    "knee": (0.12, 0.5, -0.02),
    "ankle": (0.13, 0.1, 0.02),
    "foot": (0.14, 0.03, -0.1),
    "eye": (0.03, 1.66, -0.08),
    "ear": (0.07, 1.64, 0.0),
}


def _rest_pose(layout: Layout) -> Values:
    """(V, 3): known joints as in the table; any other hangs 15 cm from its parent, in a direction
    of its own.
    """
    pose = np.zeros((layout.size, 3))
    for v in _from_root(layout):
        side, _, part = layout.joints[v].partition("_")
        if layout.joints[v] in _MIDDLE:
            pose[v] = _MIDDLE[layout.joints[v]]
        elif side in ("left", "right") and part in _LEFT:
            pose[v] = np.array(_LEFT[part]) * (1.0 if side == "left" else -1.0, 1.0, 1.0)
        else:
            pose[v] = pose[layout.parents[v]] + 0.15 * _directions(np.random.default_rng(v), ())
    return pose


def _directions(rng: np.random.Generator, shape: tuple[int, ...]) -> Values:
    """Unit vectors, (..., 3)."""
    vectors = rng.normal(size=(*shape, 3))
    unit: Values = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit


def _every_other(first: int, last: int) -> tuple[int, ...]:
    return tuple(range(first, last + 1, 2))
