"""The published figures: where they are from, that they are what the papers print, and that each
has a place in a table.
"""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

import orchestrator
from orchestrator.report.papers.published import (
    FILE,
    SOURCES,
    TEST_CLIPS,
    Data,
    Entry,
    load_published,
)
from orchestrator.report.papers.tables import SPECS, paper_tables

XSUB, XVIEW, XSUB120, XSET = TEST_CLIPS
GYM = Data("FineGYM", "val")


def value(paper, table, method, streams, level, data, figure="top1"):
    (found,) = (
        entry.figures[figure].value
        for entry in load_published()[paper, table]
        if (entry.method, entry.streams, entry.level, entry.data) == (method, streams, level, data)
    )
    return found


@pytest.mark.parametrize(
    ("place", "figure", "printed"),
    [
        (("HPI-GCN", "1", "HPI-GCN-OP", "2-stream", "dense", XSUB120), "top1", 89.0),
        (("HPI-GCN", "1", "HD-GCN", "joint", "dense", XSUB120), "latency_ms", 191),
        (("HPI-GCN", "2", "2s-AGCN", "2-stream", "dense", XVIEW), "top1", 95.1),
        (("HPI-GCN", "2", "HPI-GCN-OP-K9", "6-stream", "dense", XSUB120), "latency_ms", 252),
        (("HPI-GCN", "3", "HPI-GCN-RP-PA3", "joint", "dense", XSUB120), "top1", 85.2),
        (("HPI-GCN", "4", "HPI-GCN-OP", "joint", "dense", XSUB120), "params_m", 1.827),
        (("HPI-GCN", "4", "baseline", "joint", "dense", XSUB120), "gmacs", 2.01),
        (("HPI-GCN", "5", "CTR-GCN-RP-K5", "joint", "dense", XSUB120), "top1", 85.3),
        (("HPI-GCN", "README", "HPI-GCN-RP", "4-stream", "dense", XVIEW), "top1", 96.6),
        (("Sparse ST-GCN", "1", "AA-GCN", "joint", "0.95", XSUB), "top1", 89.5),
        (("Sparse ST-GCN", "1", "DG-STGCN", "joint", "dense", XSET), "params_m", 1.31),
        (("Sparse ST-GCN", "2", "ST-GCN", "joint", "assemble", XSUB120), "top1", 84.6),
        (
            ("Sparse ST-GCN", "3", "DG-STGCN", "4-stream", "0.8", Data("FineGYM", "val")),
            "top1",
            95.1,
        ),
        (("Sparse ST-GCN", "3", "SKE2GRID", "as cited", "dense", XVIEW), "top1", 98.6),
    ],
)
def test_figures_are_those_of_the_papers(place, figure, printed):
    assert value(*place, figure) == printed


def test_their_sources_are_named():
    assert {paper for paper, _ in load_published()} == set(SOURCES)
    for source in SOURCES.values():
        assert "arXiv:" in source
        assert "2025" in source
        assert "Tables 1 to" in source


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.paper} {spec.number}")
def test_every_published_figure_has_a_place_in_its_table(spec):
    """Each of them in its own line and column, none on top of another; the same figures as ours
    meet them there.
    """
    published = load_published()
    entries = published.pop((spec.paper, spec.number))
    ours = [
        replace(
            entry,
            streams="4-stream" if entry.streams == "as cited" else entry.streams,
            whose="ours",
            row="ours",
        )
        for entry in entries
    ]
    others = {(each.paper, each.number): [] for each in SPECS}
    (table,) = paper_tables(
        others | {(spec.paper, spec.number): entries}, {spec.paper: ours}, lambda *names: None
    )
    assert table.spec == spec
    printed = [line for line in table.lines if line.whose == "published"]
    placed = sum(column in line.cells for line in printed for column in spec.columns)
    assert placed == sum("top1" in entry.figures for entry in entries)
    differences = [line for line in table.lines if line.whose == "ours - published"]
    assert {figure.value for line in differences for figure in line.cells.values()} == {0.0}
    assert {line.label.split(",")[0].split(" (")[0] for line in differences} == set(spec.methods)


def test_differences_are_recomputed_and_wrong_ones_are_named():
    published = load_published()
    ours = [
        Entry(
            "ST-GCN", "joint", level, XSUB, published["Sparse ST-GCN", "1"][0].figures, "ours", "x"
        )
        for level in ("dense", "0.6")
    ]
    table = paper_tables(published, {"Sparse ST-GCN": ours}, lambda first, second: None)[0]
    wrong = {
        (line.label, line.data, column, figure.note)
        for line in table.lines
        for column, figure in line.cells.items()
        if figure.note
    }
    note = "the paper prints {} for this difference"
    assert wrong == {
        ("CTR-GCN", str(XSUB), "0.99", note.format("-1.1")),
        ("DG-STGCN", str(XSUB120), "0.95", note.format("-3.2")),
        ("AA-GCN", str(XVIEW), "0.6", note.format("+0.4")),
    }
    (line,) = (line for line in table.lines if (line.label, line.data) == ("CTR-GCN", str(XSUB)))
    assert line.cells["0.99"].gain == pytest.approx(-2.1)


def test_the_figures_are_installed_with_the_package():
    project = tomllib.loads((Path(orchestrator.__file__).parents[1] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["orchestrator"]
    package = Path(orchestrator.__file__).parent
    assert any(FILE in package.glob(pattern) for pattern in patterns)
