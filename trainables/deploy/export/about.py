"""What an exported file says of itself, inside itself. Knows neither torch nor a runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from trainables.contract.disk import check_form
from trainables.contract.errors import UserError
from trainables.contract.foreign_files import reason
from trainables.contract.frozen import Frozen
from trainables.data.store.description import Description

FORM = 1
KEY = "orchestrate"
"""Under this name a file holds the JSON of `About`: metadata_props of ONNX, extra file of pt2,
rt_info of OpenVINO.
"""
BIN_KEY = "orchestrate_bin_sha256"
"""Under this name the rt_info of an OpenVINO .xml holds the SHA-256 of the .bin it belongs to."""

Format = Literal["pt2", "onnx", "openvino"]
Precision = Literal["fp32", "bf16", "int8"]
SUFFIXES: dict[str, Format] = {".pt2": "pt2", ".onnx": "onnx", ".xml": "openvino"}


class ExportedMember(Frozen):
    """One network in the file."""

    trial: str
    backbone: str
    stream: str
    frames: int  # it sees
    pipeline: str  # what the data set's literature does to a clip
    views: int  # of a clip whose probabilities are averaged
    deploy_sha256: str  # of the deploy form's file that it was made of


class ExportedAccuracy(Frozen):
    """Top-1 as a fraction, on clips of one split."""

    split: Literal["selection", "test"]
    clips: int
    top1: float
    # Wilson's interval at 95 %; None where it would say too much: on clips that were chosen on
    low: float | None = None
    high: float | None = None


class Check(Frozen):
    """How the file compares with the stored logits."""

    split: Literal["selection", "test"]
    clips: int
    largest_difference: float  # of a logit
    largest_logit: float
    lost_points: float | None = None  # of top-1; None where the clips have no labels
    only_before: int | None = None  # clips that only the stored logits get right
    only_after: int | None = None  # clips that only the file gets right
    tolerance: float | None = None  # points of top-1 that a lower precision may lose


class About(Frozen):
    """Everything that is known of an exported file."""

    form: int = FORM
    name: str
    kind: Literal["trial", "ensemble"]
    precision: Precision
    # name, layout, classes, coordinates and persons of the data set
    description: Description
    joints: tuple[str, ...]  # in their order on axis V
    coordinates: tuple[str, ...]  # in their order on axis C
    persons: int = Field(ge=1)  # M
    members: tuple[ExportedMember, ...] = Field(min_length=1)
    recipe: dict[str, Any]  # how the members' logits become one, as in a bundle
    store_sha256: dict[str, str] = Field(default_factory=dict)  # of the files of the store
    accuracy: tuple[ExportedAccuracy, ...] = ()  # what evaluations found before it was exported
    check: Check | None = None
    calibrated_on: int = 0  # training clips; int8
    versions: dict[str, str] = Field(default_factory=dict)  # of what made it

    @property
    def classes(self) -> tuple[str, ...]:
        """Class k is called classes[k]."""
        return self.description.classes

    @classmethod
    def read(cls, place: Path, text: str | None) -> About:
        """From the text inside a file; UserError where there is none, or not one of these."""
        if not text:
            raise UserError(
                f"{place}: must be a file that `orchestrate export` wrote, but it says nothing of"
                " its classes and joints"
            )
        try:
            content = json.loads(text)
            check_form(place, content.get("form"), FORM)
            return cls.model_validate(content)
        except (ValueError, AttributeError, RecursionError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(
                f"{place}: what it says of itself is damaged: {reason(error)}"
            ) from error
