"""CSV and TSV: scores with a column per class, and labels."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.readers.keys import (
    INDEX,
    LABELS,
    NAMES,
    class_order,
    first_of,
)
from orchestrator.ensembling.readers.tables import Content
from trainables.contract.errors import UserError
from trainables.contract.foreign_files import (
    MOST_COLUMNS,
    MOST_DIGITS,
    read_table,
    read_text,
    reading,
)
from trainables.contract.names import listed, shown

_WHOLE = re.compile(rf"[+-]?[0-9]{{1,{MOST_DIGITS}}}")


@dataclass(frozen=True, slots=True)
class _Roles:
    """Places of the columns of a table."""

    name: int | None
    label: int | None
    classes: list[int]  # in the order of the classes


def csv_scores(path: Path) -> Content:
    """A column per class and, where there are some, columns of names and labels; without a header
    the first column has the names, if it holds no numbers.
    """
    lines = _lines(path)
    number, first = next(lines, (0, []))
    if not first:
        raise UserError(f"{path}: must be a table of scores, got an empty file")
    if _is_header(first):
        roles = _roles(path, first)
        header: Sequence[str] = first
        body = lines
    else:
        header = [f"column {place}" for place in range(1, len(first) + 1)]
        named = not _is_number(first[0])
        roles = _Roles(0 if named else None, None, list(range(int(named), len(first))))
        body = _again(number, first, lines)
    if len(roles.classes) < 2:
        raise UserError(
            f"{path}: must have a column for each of two or more classes, separated by"
            f" {'tabs' if path.suffix.lower() == '.tsv' else 'commas'}, got {listed(header)}"
        )
    values, ids, labels = [], [], []
    for number, row in body:
        if len(row) != len(header):
            raise UserError(
                f"{path}: line {number}: must have {len(header)} entries, as the first line, got"
                f" {len(row)}"
            )
        values.append(_numbers(path, number, row, header, roles.classes))
        ids += [] if roles.name is None else [row[roles.name]]
        labels += [] if roles.label is None else [row[roles.label]]
    if header is not first and values and _counts_rows(values):
        raise UserError(
            f"{path}: the first column counts the rows, so that it is not known whether it is a"
            " class: leave it out, or begin with a header line"
        )
    return Content(
        values, None if roles.name is None else ids, labels=None if roles.label is None else labels
    )


def csv_labels(path: Path) -> Content:
    """The columns label and, where there is one, id."""
    table = read_table(path, "a table of labels")
    if "label" not in table.header:
        raise UserError(
            f"{path}: must have a column 'label', has {', '.join(map(shown, table.header))}"
        )
    labels = [row["label"] for row in table.rows]
    words = sorted({label for label in labels if not _WHOLE.fullmatch(label.strip())})
    if words:
        raise UserError(
            f"{path}: labels must be class numbers, got {shown(words[0])}; a store's clips.parquet"
            " has them"
        )
    name = first_of(NAMES, table.header)
    ids = None if name is None else [row[name] for row in table.rows]
    return Content([int(label) for label in labels], ids)


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Lines that are not empty, with their numbers from 1."""
    text = read_text(path, "a table of scores")
    reader = csv.reader(
        text.splitlines(), delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True
    )
    while True:
        with reading(path, "a table of scores"):
            row = next(reader, None)
        if row is None:
            return
        if len(row) > MOST_COLUMNS:
            raise UserError(f"{path}: must have at most {MOST_COLUMNS} columns, got {len(row)}")
        if row:
            yield reader.line_num, row


def _again(
    number: int, row: list[str], rest: Iterator[tuple[int, list[str]]]
) -> Iterator[tuple[int, list[str]]]:
    yield number, row
    yield from rest


def _is_header(row: Sequence[str]) -> bool:
    """Whether a line names columns: something behind the first entry is no number, the first is
    what names are called, or the entries (but the first) count the classes.
    """
    counts = any(
        len(part) > 2 and list(part) == [str(first + place) for place in range(len(part))]
        for part in (row, row[1:])
        for first in (0, 1)
    )
    return counts or row[0] in (*NAMES, *LABELS, *INDEX) or not all(map(_is_number, row[1:]))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _roles(path: Path, header: Sequence[str]) -> _Roles:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise UserError(f"{path}: column names must be unique, got {listed(twice)} twice")
    name, label = first_of(NAMES, header) or first_of(INDEX, header), first_of(LABELS, header)
    classes = [at for at, each in enumerate(header) if each not in (*INDEX, name, label)]
    order = class_order(path, [header[at] for at in classes])
    return _Roles(
        None if name is None else header.index(name),
        None if label is None else header.index(label),
        [classes[at] for at in order],
    )


def _numbers(
    path: Path, number: int, row: Sequence[str], header: Sequence[str], places: Sequence[int]
) -> npt.NDArray[np.float64]:
    try:
        return np.array([float(row[place]) for place in places])
    except ValueError:
        wrong = next(place for place in places if not _is_number(row[place]))
        raise UserError(
            f"{path}: line {number}, {shown(header[wrong])}: scores must be numbers, got"
            f" {shown(row[wrong])}"
        ) from None


def _counts_rows(values: Sequence[npt.NDArray[np.float64]]) -> bool:
    """Whether the first column is 0, 1, 2, ... or 1, 2, 3, ...; of one or two rows nobody knows."""
    first = np.array([row[0] for row in values])
    steps = np.arange(len(first))
    return len(first) > 2 and bool((first == steps).all() or (first == steps + 1).all())
