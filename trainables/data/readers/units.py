"""Units of what is imported: measured on the first clips, so that millimetres are not taken for
metres, nor fractions of an image for pixels, without a word. Knows no format.

A store holds metres or pixels. What a file holds cannot be read off it, but a body has a size: the
diagonal of the box around its joints, the median over persons and frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np

from trainables.contract.errors import UserError
from trainables.data.store.description import STEP, Clip, Joints, Recordings, Storage

Unit = Literal["m", "cm", "mm", "px"]

FACTORS: dict[Unit, float] = {"m": 1.0, "cm": 1e-2, "mm": 1e-3, "px": 1.0}
LOOKED_AT = 32
"""Clips at the start of an import that are measured before anything is written."""
METRES = (0.05, 10.0)
"""A hand has 0.2 m, a body with raised arms 2.5 m; a body of 1.7 m has 170 cm and 1700 mm."""
LEAST_PIXELS = 3.0
"""A body this small in an image is given in fractions of it: [0, 1] or [-1, 1]."""
LEAST_STEPS = 100
"""Steps of int16 storage that a body must have: 1 cm, or 5 pixels."""


def in_store_units(
    recordings: Recordings,
    unit: Unit | None,
    storage: Storage,
    *,
    ask: bool,
    place: Path | str | None = None,
) -> Recordings:
    """The same recordings in metres or pixels; iterating raises UserError, before the first clip
    comes, where the bodies have no size that a body has in the unit and none was named.

    ask: whether the command has --unit to answer with; the units of the other
    formats are fixed; place: the file or folder that they come from, for messages.
    """
    space = recordings.description.channels == "xyz"
    if unit is not None and (unit == "px") == space:
        raise UserError(
            f"--unit must be {'m, cm or mm for positions in space' if space else 'px in images'},"
            f" got {unit}"
        )
    return replace(recordings, clips=_measured(recordings, unit, storage, ask, place or "units"))


def _measured(
    recordings: Recordings, unit: Unit | None, storage: Storage, ask: bool, place: Path | str
) -> Iterator[Clip]:
    clips = iter(recordings.clips)
    factor = FACTORS[unit or "m"]
    first = [_scaled(clip, factor) for _, clip in zip(range(LOOKED_AT), clips, strict=False)]
    space = recordings.description.channels == "xyz"
    size = body_size([clip.joints for clip in first], 3 if space else 2)
    if size:
        if unit is None:
            check_size(size, space=space, ask=ask, place=place)
        step = STEP[recordings.description.channels]
        if storage == "int16" and size < LEAST_STEPS * step:
            raise UserError(
                f"{place}: --storage int16: a body must measure at least {LEAST_STEPS} steps of"
                f" {step:g} {'m' if space else 'px'}, a typical one here measures {size:.3g}"
            )
    yield from chain(first, (_scaled(clip, factor) for clip in clips))


def check_size(size: float, *, space: bool, ask: bool, place: Path | str) -> None:
    """UserError where a typical body of `size` in the store's unit is none. ask: whether the
    command has --unit to answer with.
    """
    least, most = METRES if space else (LEAST_PIXELS, np.inf)
    if least <= size <= most:
        return
    if space:
        fits = [name for name in ("cm", "mm") if least <= size * FACTORS[name] <= most]
        guess = f" (it would be a body in {' or '.join(fits)})" if fits else ""
        rule, named = f"between {least:g} and {most:g} metres{guess}", "m, cm or mm"
    else:
        rule, named = f"at least {least:g} pixels (fractions of an image are not pixels)", "px"
    answer = f"; --unit {named} says what the numbers are" if ask else ""
    raise UserError(
        f"{place}: a typical body must measure {rule}, got {size:.4g} across all joints{answer}"
    )


def body_size(clips: Iterable[Joints], dimensions: int) -> float:
    """Median diagonal of the box around the joints of a person in a frame, over the persons and
    frames of clips (M, T, V, 3) that show somebody; a joint at zero is not found. 0 for none.
    """
    sizes = []
    for joints in clips:
        places = joints[..., :dimensions]
        seen = (places != 0).any(axis=-1, keepdims=True)  # (M, T, V, 1)
        with np.errstate(invalid="ignore", over="ignore"):
            extent = np.where(seen, places, -np.inf).max(2) - np.where(seen, places, np.inf).min(2)
            diagonal = np.sqrt((extent.astype(np.float64) ** 2).sum(-1))
        sizes.append(diagonal[(seen.sum(axis=(2, 3)) > 1) & np.isfinite(diagonal)])
    every = np.concatenate(sizes) if sizes else np.empty(0)
    return float(np.median(every)) if len(every) else 0.0


def _scaled(clip: Clip, factor: float) -> Clip:
    if factor == 1.0:
        return clip
    return replace(clip, joints=(clip.joints * np.float32(factor)).astype(np.float32))
