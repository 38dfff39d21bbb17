"""What the leaves of `data` come to on a store, and which of them are refused there."""

from __future__ import annotations

import pytest

from trainables.contract.config import DataConfig
from trainables.contract.errors import UserError
from trainables.data.batches.settings import (
    aligns_spine,
    check_settings,
    in_vain,
    pipeline_of,
    views_of,
)
from trainables.data.store.description import Description
from trainables.data.store.protocols import ProtocolRule
from trainables.layouts import LAYOUTS


def description(pipeline: str = "ctr", channels: str = "xyz") -> Description:
    protocols = {"half": ProtocolRule(column="label", train=(0,), test=(1,))}
    return Description(
        name="tiny",
        layout="ntu25",
        classes=("a",),
        pipeline=pipeline,
        channels=channels,
        protocols=protocols,
    )


def data(**leaves: object) -> DataConfig:
    return DataConfig.model_validate({"store": "tiny", "protocol": "half"} | leaves)


@pytest.mark.parametrize(
    ("own", "asked", "views"),
    [("ctr", "auto", 1), ("ucla", "auto", 1), ("pyskl", "auto", 10), ("ctr", "pyskl", 10)],
)
def test_views_are_those_of_the_pipeline(own, asked, views):
    assert pipeline_of(data(pipeline=asked), description(own)) == (
        own if asked == "auto" else asked
    )
    assert views_of(data(pipeline=asked), description(own)) == views


def test_views_can_be_chosen():
    assert views_of(data(views=3), description("pyskl")) == 3


@pytest.mark.parametrize(("layout", "channels", "asked", "aligned"), [
    ("ntu25", "xyz", None, True),
    ("ntu25", "xyz", False, False),
    ("msr20", "xyz", True, True),
    ("coco17", "xyz", None, False),
    ("ntu25", "xyc", None, False),
])  # fmt: skip
def test_spines_are_aligned_where_it_is_asked_for_or_can_be_done(layout, channels, asked, aligned):
    assert (
        aligns_spine(data(align_spine=asked), description("pyskl", channels), LAYOUTS[layout])
        is aligned
    )


@pytest.mark.parametrize(("own", "channels", "leaves", "leaf", "rule"), [
    ("ctr", "xyz", {"views": 1}, "data.views", "has no effect under pipeline ctr; leave it out"),
    ("ucla", "xyz", {"align_spine": False}, "data.align_spine",
     "has no effect under pipeline ucla; leave it out"),
    ("pyskl", "xy", {"rotation": 0.0}, "data.rotation",
     "has no effect on image coordinates (channels xy), which are not turned; leave it out"),
    ("pyskl", "xyc", {"align_spine": True}, "data.align_spine",
     "has no effect on image coordinates (channels xyc), which are not turned; leave it out"),
    ("pyskl", "xyc", {"pipeline": "ctr"}, "data.pipeline",
     "must be pyskl for image coordinates (channels xyc), got ctr"),
    ("ucla", "xy", {}, "data.pipeline",
     "must be pyskl for image coordinates (channels xy), got ucla"),
    ("pyskl", "xyz", {"align_persons": True}, "data.align_persons",
     "has no effect under pipeline pyskl; leave it out"),
    ("ucla", "xyz", {"rotation": 0.005}, "data.rotation",
     "must be 0 or more than 0.00873 radians under pipeline ucla, which draws whole degrees,"
     " got 0.005 radians"),
])  # fmt: skip
def test_what_could_not_act_is_named(own, channels, leaves, leaf, rule):
    assert in_vain(data(**leaves), description(own, channels), LAYOUTS["ntu25"]) == [(leaf, rule)]


@pytest.mark.parametrize(("own", "channels", "leaves"), [
    ("ctr", "xyz", {"rotation": 0.005}),
    ("ucla", "xyz", {"rotation": 0.0}),
    ("ucla", "xyz", {"rotation": 0.009}),
    ("ctr", "xyz", {"pipeline": "pyskl", "views": 10, "align_spine": True, "rotation": 0.0}),
    ("pyskl", "xyc", {"views": 3}),
    ("ctr", "xyz", {"align_persons": True}),
])  # fmt: skip
def test_what_acts_is_accepted(own, channels, leaves):
    assert in_vain(data(**leaves), description(own, channels), LAYOUTS["ntu25"]) == []


def test_all_problems_are_named_at_once():
    with pytest.raises(UserError) as found:
        check_settings(
            data(views=2, align_spine=True, rotation=0.001),
            description("ucla", "xyc"),
            LAYOUTS["coco17"],
        )
    assert [text.partition(":")[0] for text in found.value.problems] == [
        "data.pipeline",
        "data.align_spine",
        "data.views",
        "data.rotation",
    ]
