"""What the leaves of `data` come to on a given store, and which of them could not act on it.

Knows no clips and no tensors.
"""

from __future__ import annotations

import math

from trainables.contract.config import DataConfig
from trainables.contract.errors import UserError
from trainables.data.store.description import Description, Pipeline
from trainables.layouts import Layout

DEFAULT_VIEWS = 10  # of a recording that pipeline pyskl scores

PIPELINE_LEAVES = ("pipeline", "rotation", "align_spine", "align_persons", "views")
"""What `in_vain` speaks of."""


def pipeline_of(data: DataConfig, description: Description) -> Pipeline:
    """The pipeline that clips of this data set go through."""
    return description.pipeline if data.pipeline == "auto" else data.pipeline


def views_of(data: DataConfig, description: Description) -> int:
    """Views of a recording whose softmax is averaged in final scores."""
    if pipeline_of(data, description) != "pyskl":
        return 1
    return DEFAULT_VIEWS if data.views is None else data.views


def aligns_spine(data: DataConfig, description: Description, layout: Layout) -> bool:
    """Whether pipeline pyskl makes first spines upright: what is asked for, otherwise where
    positions and layout allow it.
    """
    if data.align_spine is None:
        return description.channels == "xyz" and layout.spine is not None
    return data.align_spine


def hips_of(layout: Layout) -> tuple[int, int] | None:
    """Left and right hip of a layout whose joints are called so."""
    names = layout.joints
    if "left_hip" not in names or "right_hip" not in names:
        return None
    return names.index("left_hip"), names.index("right_hip")


def in_vain(data: DataConfig, description: Description, layout: Layout) -> list[tuple[str, str]]:
    """Leaves that could not act on such a store, as (dotted name, broken rule); a default that
    cannot act is simply off.
    """
    pipeline, flat = pipeline_of(data, description), description.channels != "xyz"
    unused = []
    if flat and pipeline != "pyskl":
        unused.append(
            (
                "data.pipeline",
                (
                    f"must be pyskl for image coordinates (channels {description.channels}), got"
                    f" {pipeline}"
                ),
            )
        )
    if data.align_persons and (pipeline != "ctr" or flat):
        unused.append(
            ("data.align_persons", f"has no effect under pipeline {pipeline}; leave it out")
        )
    elif data.align_persons and (layout.spine is None or hips_of(layout) is None):
        unused.append(
            (
                "data.align_persons",
                (
                    "needs a layout with a spine and joints left_hip and right_hip, which"
                    f" '{layout.name}' does not have"
                ),
            )
        )
    if pipeline == "pyskl" and flat:
        reason = (
            f" on image coordinates (channels {description.channels}), which are not turned; leave"
            " it out"
        )
        unused += [
            (f"data.{name}", f"has no effect{reason}")
            for name in ("rotation", "align_spine")
            if getattr(data, name) is not None
        ]
    elif pipeline == "pyskl" and data.align_spine and layout.spine is None:
        unused.append(
            (
                "data.align_spine",
                (
                    f"needs a layout that names its spine and shoulders, which '{layout.name}'"
                    " does not"
                ),
            )
        )
    elif pipeline != "pyskl":
        reason = f" under pipeline {pipeline}; leave it out"
        unused += [
            (f"data.{name}", f"has no effect{reason}")
            for name in ("align_spine", "views")
            if getattr(data, name) is not None
        ]
    if pipeline == "ucla" and data.rotation and round(math.degrees(data.rotation)) == 0:
        angles = (
            f"{math.radians(0.5):.5f} radians under pipeline ucla, which draws whole degrees, got"
            f" {data.rotation:g} radians"
        )
        unused.append(("data.rotation", f"must be 0 or more than {angles}"))
    return unused


def check_settings(data: DataConfig, description: Description, layout: Layout) -> None:
    """UserError names every leaf that could not act."""
    problems = in_vain(data, description, layout)
    if problems:
        raise UserError.of(f"{leaf}: {rule}" for leaf, rule in problems)
