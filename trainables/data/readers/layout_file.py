"""A skeleton from a built-in name or a small YAML file."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from trainables.contract.config import Frozen
from trainables.contract.errors import UserError, in_words
from trainables.contract.foreign_files import read_yaml, reading
from trainables.contract.names import shown
from trainables.layouts import LAYOUTS, Layout


class _LayoutFile(Frozen):
    """The content of a layout file; joints are named, so that no one has to count."""

    name: str
    joints: tuple[str, ...]
    parents: tuple[str, ...]  # one per joint, in the order of joints; the root names itself
    origin: str
    spine: tuple[str, str] | None = None  # lower and upper joint
    shoulders: tuple[str, str] | None = None  # left and right


def find_layout(value: str) -> Layout:
    """The built-in layout called `value`, or the one in the YAML file at `value`."""
    if value in LAYOUTS:
        return LAYOUTS[value]
    file = Path(value)
    with reading(file, "a layout"):
        there = file.is_file()
    if not there:
        raise UserError(
            f"layout must be one of {', '.join(LAYOUTS)} or a YAML file, got {shown(value)}"
        )
    return _load(file)


def _load(file: Path) -> Layout:
    content = read_yaml(file)
    if not isinstance(content, dict):
        raise UserError(f"{file}: must be a record with name, joints, parents and origin")
    try:
        record = _LayoutFile.model_validate(content)
    except ValidationError as error:
        problems = [
            f"{file}: {'.'.join(str(part) for part in item['loc'])}: {in_words(item['msg'])}"
            for item in error.errors()
        ]
        raise UserError.of(problems) from error
    number = {joint: v for v, joint in enumerate(record.joints)}
    unknown = [
        f"{file}: parents: must be names of joints, got {shown(name)}"
        for name in record.parents
        if name not in number
    ]
    unknown += (
        [f"{file}: origin: must be the name of a joint, got {shown(record.origin)}"]
        if record.origin not in number
        else []
    )
    for field, ends in (("spine", record.spine), ("shoulders", record.shoulders)):
        unknown += [
            f"{file}: {field}: must be names of joints, got {shown(name)}"
            for name in ends or ()
            if name not in number
        ]
    if unknown:
        raise UserError.of(unknown)
    try:
        return Layout(
            record.name,
            record.joints,
            tuple(number[name] for name in record.parents),
            origin=number[record.origin],
            spine=_pair(record.spine, number),
            shoulders=_pair(record.shoulders, number),
        )
    except UserError as error:
        raise UserError.of(f"{file}: {problem}" for problem in error.problems) from error


def _pair(names: tuple[str, str] | None, number: dict[str, int]) -> tuple[int, int] | None:
    return None if names is None else (number[names[0]], number[names[1]])
