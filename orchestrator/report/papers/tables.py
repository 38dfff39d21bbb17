"""The papers' tables as values: published lines, ours, and the differences between the two."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from orchestrator.report.papers.matching import ASSEMBLED, DENSE, LEVELS
from orchestrator.report.papers.published import TEST_CLIPS, Entry, Figure, Whose

Gain = Callable[[str, str], tuple[float, float] | None]
"""(row, dense row) -> difference in top-1 and its standard error, in points; None where clips are
not known.
"""


@dataclass(frozen=True, slots=True)
class Spec:
    """A table of a paper: which entries are in it, and which of their values names the column."""

    paper: str
    number: str
    title: str
    by: Literal["streams", "level", "data"]
    columns: tuple[str, ...]  # those of the paper; data sets of ours come behind them
    methods: tuple[str, ...]  # networks of ours that may be in it
    trained: tuple[int, int]  # frames and epochs of the paper
    extra: tuple[str, ...] = ()  # figures beside the accuracy
    needs: str | None = None  # a column without which our line is nothing of this table


_JOINT = ("joint",)
_STREAMS = ("joint", "2-stream", "4-stream", "6-stream")
_HPI = ("HPI-GCN-RP", "HPI-GCN-OP", "HPI-GCN-OP-K9")
_OTHERS = ("CTR-GCN", "InfoGCN", "HD-GCN")
_NTU_60 = ("NTU RGB+D 60 X-sub", "NTU RGB+D 60 X-view")
_NTU_120 = ("NTU RGB+D 120 X-sub", "NTU RGB+D 120 X-set")
_MS = ("latency_ms",)


def _hpi(number: str, title: str, methods: tuple[str, ...], **others: Any) -> Spec:
    """A table of the HPI-GCN paper."""
    usual: dict[str, Any] = {"by": "streams", "columns": _JOINT, "trained": (64, 110), "extra": _MS}
    return Spec("HPI-GCN", number, title, methods=methods, **usual | others)


def _sparse(number: str, title: str, **others: Any) -> Spec:
    """A table of the sparse ST-GCN paper."""
    usual: dict[str, Any] = {
        "by": "level",
        "methods": ("ST-GCN", "AA-GCN", "CTR-GCN", "DG-STGCN"),
        "trained": (60, 100),
    }
    return Spec("Sparse ST-GCN", number, title, **usual | others)


_SEVERAL: dict[str, Any] = {"by": "data", "columns": (*_NTU_120, *_NTU_60)}
SPECS: tuple[Spec, ...] = (
    _hpi("1", "accuracy by number of streams", (*_HPI, *_OTHERS), columns=_STREAMS),
    _hpi("2", "several streams", ("HPI-GCN-OP-K9", "ST-GCN++", *_OTHERS), **_SEVERAL),
    _hpi(
        "3",
        "parallel adjacency matrices (PA)",
        ("baseline", *(f"HPI-GCN-RP-PA{count}" for count in (1, 3, 5))),
    ),
    _hpi(
        "4",
        "re- and over-parameterisation",
        ("baseline", *_HPI[:2]),
        extra=(*_MS, "gmacs", "params_m"),
    ),
    _hpi(
        "5",
        "Rep-TCN in other networks",
        ("CTR-GCN", "CTR-GCN-K5", "CTR-GCN-RP-K5", "ST-GCN-K5", "ST-GCN-RP-K5"),
        trained=(64, 65),
    ),
    _hpi("README", "results in the repository", ("HPI-GCN-RP", "HPI-GCN-OP-K9"), **_SEVERAL),
    _sparse("1", "accuracy by level", columns=(DENSE, *LEVELS), extra=("params_m",)),
    _sparse(
        "2", "four levels together", columns=(DENSE, ASSEMBLED), needs=ASSEMBLED, extra=("kept",)
    ),
    _sparse(
        "3",
        "four streams at one level, and at four levels together",
        by="data",
        columns=(*_NTU_60, *_NTU_120, "Kinetics-400 val", "FineGYM val"),
        methods=("DG-STGCN", "CTR-GCN", "ST-GCN++"),
        trained=(100, 150),
    ),
)


@dataclass(slots=True)
class Line:
    """A line of a table: one network or family of ensembles."""

    label: str
    data: str  # empty where the columns are data sets
    whose: Whose
    network: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    trained: tuple[str, ...] = ()
    cells: dict[str, Figure] = field(default_factory=dict)  # of columns, and of `Spec.extra`
    rows: dict[str, str] = field(default_factory=dict)  # column -> name in the evaluation

    @property
    def differs(self) -> str:
        return ", ".join((*self.network, *self.masks, *self.trained))


@dataclass(frozen=True, slots=True)
class PaperTable:
    """A table with every published line, ours, and the differences where the data are the same."""

    spec: Spec
    columns: tuple[str, ...]
    lines: tuple[Line, ...]

    def foremost(self) -> list[Line]:
        """Our lines, behind the published ones of the same networks: of the same data set, or of
        all where the papers have not used ours.
        """
        ours = [line for line in self.lines if line.whose != "published"]
        labels = {line.label for line in ours}
        known = {(line.label, line.data) for line in ours}
        published = [
            line for line in self.lines if line.whose == "published" and line.label in labels
        ]
        same = {line.label for line in published if (line.label, line.data) in known}
        kept = [
            line for line in published if (line.label, line.data) in known or line.label not in same
        ]
        order = list(dict.fromkeys(line.label for line in published))
        return sorted([*kept, *ours], key=lambda line: order.index(line.label))


def paper_tables(
    published: Mapping[tuple[str, str], Sequence[Entry]],
    ours: Mapping[str, Sequence[Entry]],
    gain: Gain,
) -> list[PaperTable]:
    """The tables of which the sweep trained something.

    published: by paper and table. ours: by paper. The README of a repository is asked only for what
    the tables of its paper do not have.
    """
    tables = []
    for spec in SPECS:
        entries = list(ours.get(spec.paper, ()))
        if not spec.number.isdecimal():
            printed = {
                (entry.method, entry.streams, entry.data)
                for (paper, number), own in published.items()
                if paper == spec.paper and number.isdecimal()
                for entry in own
            }
            entries = [
                entry
                for entry in entries
                if entry.data in TEST_CLIPS
                and (entry.method, entry.streams, entry.data) not in printed
            ]
        tables.append(_paper_table(spec, published[spec.paper, spec.number], entries, gain))
    return [table for table in tables if table is not None]


def _paper_table(
    spec: Spec, published: Sequence[Entry], ours: Sequence[Entry], gain: Gain
) -> PaperTable | None:
    """One table; None where the sweep trained nothing of it."""
    printed = _lines(spec, published)
    labels = {line.label for line in printed}
    own = _comparable(spec, _lines(spec, [each for each in ours if _is_of(spec, each, labels)]))
    if not own:
        return None
    for line in own:
        _add_gains(spec, line, gain)
    for line in printed:
        _add_gains(spec, line, lambda first, second: None)
    others = {column for line in own for column in line.rows if column not in spec.columns}
    return PaperTable(
        spec, (*spec.columns, *sorted(others)), (*printed, *own, *_differences(spec, printed, own))
    )


def _is_of(spec: Spec, entry: Entry, labels: Iterable[str]) -> bool:
    label, _, column = _place(spec, entry)
    wanted = {"streams": entry.level == DENSE, "level": entry.streams == "joint", "data": True}
    if spec.paper == "Sparse ST-GCN" and spec.by == "data":
        wanted["data"] = entry.streams == "4-stream"
    return (
        entry.method in spec.methods
        and label in labels
        and wanted[spec.by]
        and (spec.by == "data" or column in spec.columns)
    )


def _place(spec: Spec, entry: Entry) -> tuple[str, str, str]:
    """Label of the line, its data set, and the column of an entry."""
    if spec.by == "streams":
        return entry.method, str(entry.data), entry.streams
    if spec.by == "level":
        return entry.method, str(entry.data), entry.level
    if spec.paper == "HPI-GCN":
        label = f"{entry.method} ({entry.streams})" if entry.streams else entry.method
        return label, "", str(entry.data)
    words = {DENSE: "", ASSEMBLED: ", four levels together"}
    return f"{entry.method}{words.get(entry.level, f', level {entry.level}')}", "", str(entry.data)


def _lines(spec: Spec, entries: Sequence[Entry]) -> list[Line]:
    """Entries of one network in one line; one that finds its column taken begins another."""
    lines: list[Line] = []
    dense = [entry for entry in entries if spec.by == "level" and entry.level == DENSE]
    for entry in entries:
        if entry in dense and any(
            _of_one_network(spec, entry, other) for other in entries if other not in dense
        ):
            continue  # stands in the lines of its sparse networks
        label, data, column = _place(spec, entry)
        line = next(
            (
                line
                for line in lines
                if (line.label, line.data, line.network, line.masks)
                == (label, data, entry.network, entry.masks)
                and column not in line.cells
            ),
            None,
        )
        if line is None:
            line = Line(label, data, entry.whose, entry.network, entry.masks)
            lines.append(line)
            for other in dense:
                if _of_one_network(spec, other, entry) and DENSE not in line.cells:
                    _fill(spec, line, DENSE, other)
        _fill(spec, line, column, entry)
    return lines


def _of_one_network(spec: Spec, dense: Entry, other: Entry) -> bool:
    return (
        _place(spec, dense)[:2] == _place(spec, other)[:2]
        and dense.network == other.network
        and other is not dense
    )


def _fill(spec: Spec, line: Line, column: str, entry: Entry) -> None:
    if "top1" in entry.figures:
        line.cells[column] = entry.figures["top1"]
        line.rows[column] = entry.row
    if spec.by != "streams" or entry.streams == "joint":
        for name in spec.extra:
            if name in entry.figures:
                line.cells.setdefault(name, entry.figures[name])
    if entry.whose == "ours" and entry.data in TEST_CLIPS:
        line.trained = tuple(dict.fromkeys((*line.trained, *_training(spec, entry))))


def _training(spec: Spec, entry: Entry) -> list[str]:
    frames, epochs = spec.trained
    return [
        text
        for other_frames, other_epochs in sorted(entry.trained)
        for text, same in (
            (f"{other_frames} frames instead of {frames}", other_frames == frames),
            (f"{other_epochs} epochs instead of {epochs}", other_epochs == epochs),
        )
        if not same
    ]


def _comparable(spec: Spec, lines: Sequence[Line]) -> list[Line]:
    """Our lines that say something: with the column a table is about; of other data sets than the
    papers' only with another figure of the same data beside it.
    """
    lines = [line for line in lines if spec.needs is None or spec.needs in line.rows]
    papers = {str(data) for data in TEST_CLIPS} | set(spec.columns)
    kept = []
    for line in lines:
        places = set(line.rows) if spec.by == "data" else {line.data}
        beside = spec.by != "level" and any(
            other.data == line.data and set(other.rows) & set(line.rows)
            for other in lines
            if other is not line
        )
        if places <= papers or len(line.rows) > 1 or beside:
            kept.append(line)
    return kept


def _add_gains(spec: Spec, line: Line, gain: Gain) -> None:
    """Over the dense network of the line, recomputed: printed ones are wrong in places."""
    if spec.by != "level" or DENSE not in line.cells:
        return
    for column in [name for name in line.rows if name != DENSE]:
        cell = line.cells[column]
        found = gain(line.rows[column], line.rows[DENSE])
        value, error = found or (cell.value - line.cells[DENSE].value, None)
        wrong = cell.gain is not None and abs(cell.gain - value) > 0.05
        note = f"the paper prints {cell.gain:+.1f} for this difference" if wrong else cell.note
        line.cells[column] = replace(cell, gain=value, gain_error=error, note=note)


def _differences(spec: Spec, printed: Sequence[Line], own: Sequence[Line]) -> list[Line]:
    """Ours minus the published accuracy, with our standard error, where the data are the same."""
    found: list[Line] = []
    known = {(line.label, line.data): line for line in printed}
    for line in own:
        other = known.get((line.label, line.data))
        shared = [column for column in line.rows if other is not None and column in other.cells]
        if other is None or not shared:
            continue
        cells = {
            column: Figure(
                line.cells[column].value - other.cells[column].value, line.cells[column].error
            )
            for column in shared
        }
        found.append(
            Line(
                *(line.label, line.data, "ours - published", line.network, line.masks),
                *(line.trained, cells, {column: line.rows[column] for column in shared}),
            )
        )
    return found
