"""Single figures: their values are those of the sweep, and a kind says what it lacks."""

from __future__ import annotations

import errno
import math
import re

import pytest

from orchestrator.ensembling.collect import collect, missing_cells
from orchestrator.ensembling.final import finalize
from orchestrator.ensembling.results import FinalEvaluation
from orchestrator.record.states import load_trials
from orchestrator.report.papers.published import Data
from orchestrator.report.plots.accuracy import (
    LEVELS_OF,
    _of_data,
    accuracy_latency,
    accuracy_size,
    accuracy_sparsity,
    division_names,
    front,
    levels_latency,
)
from orchestrator.report.plots.charts import DENSE, ENSEMBLES, GREY, NETWORKS
from orchestrator.report.plots.curves import curves
from orchestrator.report.plots.kinds import FORMATS, KINDS, Asked, chart_of, draw_figure
from tests.orchestrator.fake_run import TEST, Trial, make_run, make_sweep
from trainables.contract.config import SelectionConfig
from trainables.contract.errors import UserError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An evaluated sweep of one stream: dense and two levels, two seeds of each."""
    trials = [
        Trial("joint", level, seed=seed, wrong_test=tuple(range(wrong)))
        for level, wrongs in ((0.0, (1, 3)), (0.6, (2, 4)), (0.9, (6, 6)))
        for seed, wrong in enumerate(wrongs)
    ]
    run = make_run(tmp_path_factory.mktemp("plots"), trials)
    sweep = make_sweep({"name": "levels", "over": "sparsity.level"})
    members = collect(run, sweep)
    finalize(run, sweep, members, missing_cells(run, members))
    return run


@pytest.fixture(scope="module")
def evaluation(run):
    return FinalEvaluation.load(run)


def asked(tmp_path, kind, **options):
    return Asked(kind, tmp_path / "figure.svg", **options)


def marks(chart, name):
    """Marks of the series of this name in the first panel."""
    (series,) = (each for each in chart.panels[0].series if each.name == name)
    return series.marks


def test_a_curve_by_level_begins_at_the_dense_network_with_errors_over_seeds(run, tmp_path):
    chart = chart_of(run, asked(tmp_path, "accuracy-sparsity"))
    found = marks(chart, "joint")
    assert [round(mark.x, 6) for mark in found] == [0.0, 0.6, 0.9]
    assert [mark.y for mark in found] == pytest.approx(
        [100 * (1 - wrong / TEST) for wrong in (2, 3, 6)]
    )
    # two seeds, two clips apart: deviation sqrt(2), error 1 clip
    assert [mark.error for mark in found] == pytest.approx([100 / TEST, 100 / TEST, 0.0])
    assert "over 2 seeds" in chart.notes[0]


def test_what_the_papers_print_stands_beside_it_and_is_called_so(run, tmp_path):
    chart = chart_of(run, asked(tmp_path, "accuracy-sparsity"))
    own, published = chart.panels
    assert "as published" in published.title
    assert str(Data("NTU RGB+D 60", "X-sub")) in published.title
    (curve,) = (each for each in published.series if each.name == "ST-GCN, published")
    assert [mark.x for mark in curve.marks] == [0.0, 0.6, 0.8, 0.95, 0.99]
    assert not any("published" in series.name for series in own.series)
    assert len(chart_of(run, asked(tmp_path, "accuracy-sparsity", papers=False)).panels) == 1
    latency = chart_of(run, asked(tmp_path, "accuracy-latency")).panels[1]
    (point,) = (each for each in latency.series if each.name == "HPI-GCN-RP, published")
    assert [(mark.x, mark.y) for mark in point.marks] == [(33.0, 85.5)]  # the paper's Table 1


def test_accuracy_stands_against_the_latency_of_64_clips(evaluation):
    panel = accuracy_latency(evaluation, papers=False).panels[0]
    drawn = {mark.x for series in panel.series for mark in series.marks}
    assert drawn == {row.size.batch64_latency_ms for row in evaluation.rows}
    assert panel.x == "latency of 64 clips, ms"


def test_levels_stand_at_their_dense_and_their_sparse_latency(evaluation):
    timed = {
        row.name: row.model_copy(
            update={"size": row.size.model_copy(update={"sparse_latency_ms": 1.0 + number})}
        )
        for number, row in enumerate(evaluation.rows)
    }
    changed = evaluation.model_copy(update={"rows": tuple(timed.values())})
    (panel,) = levels_latency(changed).panels
    dense, sparse = panel.series
    assert (dense.dashed, sparse.dashed) == (False, True)
    assert [mark.name for mark in sparse.marks] == ["0", "0.6", "0.9"]
    own = sorted(
        (row for row in timed.values() if row.kind == "member"),
        key=lambda row: row.axes["sparsity.level"],
    )
    assert [mark.x for mark in dense.marks] == [row.size.latency_ms for row in own]
    assert [mark.x for mark in sparse.marks] == [row.size.sparse_latency_ms for row in own]
    assert [mark.y for mark in dense.marks] == [mark.y for mark in sparse.marks]


def test_fronts_have_a_panel_for_each_measure(evaluation):
    assert evaluation.fronts
    chart = front(evaluation)
    measures = list(dict.fromkeys(point.measure for point in evaluation.fronts))
    assert len(chart.panels) == len(measures)
    own = [point for point in evaluation.fronts if point.measure == measures[0]]
    assert [mark.x for mark in marks(chart, "test split")] == [point.cost for point in own]


def test_a_learning_curve_is_the_mean_over_seeds_and_counts_epochs_from_one(run):
    chart = curves(run, load_trials(run))
    loss, top1 = chart.panels
    assert {series.name for series in loss.series} == {"joint-0", "joint-0.6", "joint-0.9"}
    for series in loss.series:
        assert [mark.x for mark in series.marks] == [1, 2, 3]
        assert [mark.y for mark in series.marks] == pytest.approx([1.0, 1 / 2, 1 / 3])
    assert [mark.y for mark in top1.series[0].marks] == pytest.approx([30, 50, 60])


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"levels-latency"}))
def test_every_kind_is_drawn_as_wide_as_was_asked_for(run, tmp_path, kind):
    path = draw_figure(run, asked(tmp_path, kind, width="double"))
    svg = path.read_text()
    assert f'width="{7.16 * 72:g}pt"' in svg
    assert "<text" not in svg  # letters are outlines: no font is needed to read it
    assert "<image" not in svg or kind == "confusion"


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_is_of_the_form_its_name_says_and_the_same_every_time(run, tmp_path, suffix):
    first, second = (
        draw_figure(run, Asked("accuracy-size", tmp_path / f"{n}{suffix}")).read_bytes()
        for n in "ab"
    )
    assert first == second
    begins = {".svg": b"<?xml", ".png": b"\x89PNG", ".pdf": b"%PDF"}
    assert first.startswith(begins[suffix])
    if suffix == ".pdf":
        assert b"/FontFile2" in first  # TrueType, embedded
        assert b"/Type3" not in first


@pytest.mark.parametrize(
    "suffix",
    [
        pytest.param(suffix, marks=[] if suffix == ".png" else pytest.mark.full)
        for suffix in (*FORMATS, ".SVG")
    ],
)
def test_a_figure_that_cannot_be_written_leaves_the_one_before(run, tmp_path, monkeypatch, suffix):
    path = tmp_path / f"figure{suffix}"
    path.write_bytes(b"before")

    def full(content, *options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match=re.escape(f"{path}: the figure cannot be written: No sp")):
        draw_figure(run, Asked("accuracy-size", path))
    monkeypatch.undo()
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"before"]
    draw_figure(run, Asked("accuracy-size", path))
    assert path.read_bytes() != b"before"


def test_a_figure_that_would_be_a_folder_is_one_error(run, tmp_path):
    (tmp_path / "figure.svg").mkdir()
    with pytest.raises(UserError, match=r"figure\.svg: the figure cannot be written: Is a dir"):
        draw_figure(run, asked(tmp_path, "accuracy-size"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "levels-latensy"}, r"KIND must be one of .*did you mean 'levels-latency'\?"),
        ({"out": "a.jpg"}, r"--out: must end with \.svg, \.png, \.pdf, got 'a\.jpg'"),
        ({"row": "levels"}, "--row: goes with confusion alone"),
    ],
)
def test_a_figure_that_there_is_none_of_is_refused(options, message, tmp_path):
    from pathlib import Path

    given = {"kind": "front", "out": "a.svg", **options}
    given["out"] = Path(given["out"])
    with pytest.raises(UserError, match=message):
        Asked(**given)


def test_a_kind_says_what_the_sweep_lacks_and_writes_nothing(run, evaluation, tmp_path):
    bare = make_run(tmp_path, [Trial("joint", 0.6)])
    lacks = {
        "accuracy-size": "needs the final evaluation of run",
        "violins": "needs the final evaluation of run",
        "confusion": "needs the final evaluation of run",
    }
    for kind, message in lacks.items():
        with pytest.raises(UserError, match=f"{kind}: {message}"):
            draw_figure(bare, asked(tmp_path, kind))
    with pytest.raises(UserError, match="none on its kept weights"):
        draw_figure(run, asked(tmp_path, "levels-latency"))
    with pytest.raises(UserError, match=r"--row: must be one of .*levels, got 'other'"):
        draw_figure(run, asked(tmp_path, "confusion", row="other"))
    untimed = evaluation.model_copy(
        update={
            "rows": tuple(
                row.model_copy(update={"size": row.size.model_copy(update={"latency_ms": None})})
                for row in evaluation.rows
            ),
            "fronts": (),
        }
    )
    for make in (lambda: accuracy_latency(untimed, papers=True), lambda: front(untimed)):
        with pytest.raises(UserError, match="needs"):
            make()
    assert not list(tmp_path.glob("figure*"))


def test_one_level_makes_no_curve(tmp_path):
    run, sweep = make_run(tmp_path, [Trial("joint", 0.6)]), make_sweep()
    finalize(run, sweep, collect(run, sweep), {})
    with pytest.raises(UserError, match=re.escape("this sweep has level 0.6")):
        draw_figure(run, asked(tmp_path, "accuracy-sparsity"))
    assert math.isclose(FinalEvaluation.load(run).rows[0].test.top1, 1.0)


@pytest.fixture
def two_divisions(evaluation):
    """The sweep's evaluation as if its dense network had been tested on other clips."""
    (split,) = evaluation.splits
    other = split.division.model_copy(update={"protocol": "other"})
    rows = tuple(
        row.model_copy(update={"division": other}) if row.dense else row for row in evaluation.rows
    )
    splits = (split, split.model_copy(update={"division": other}))
    return evaluation.model_copy(update={"rows": rows, "splits": splits})


def test_what_was_tested_on_other_clips_has_a_panel_of_its_own(two_divisions, run):
    names = list(division_names(two_divisions).values())
    dense = next(row for row in two_divisions.rows if row.dense)
    for chart in (accuracy_latency(two_divisions, papers=False), accuracy_size(two_divisions)):
        assert [panel.title for panel in chart.panels] == names
        assert not chart.same_y
        (series,) = chart.panels[1].series
        assert [mark.y for mark in series.marks] == [100 * dense.seeds.test_mean]
    own = accuracy_sparsity(two_divisions, load_trials(run), papers=False).panels
    assert [panel.title for panel in own] == names[:1]
    assert 0.0 not in {mark.x for mark in own[0].series[0].marks}


def test_divisions_have_names_of_their_own(evaluation):
    (split,) = evaluation.splits
    for change in ({"store": "elsewhere"}, {"selection": SelectionConfig(kind="none")}):
        other = split.model_copy(update={"division": split.division.model_copy(update=change)})
        names = division_names(evaluation.model_copy(update={"splits": (split, other)}))
        assert len(set(names.values())) == 2


def test_a_published_panel_shares_the_axis_of_a_sweep_that_is_all_of_its_data(two_divisions):
    """One of two protocols is the paper's: the accuracies of the other are no company for it."""
    first, second = two_divisions.splits
    papers = {"dataset": "ntu60", "classes": 60}
    xsub = first.division.model_copy(update={"protocol": "xsub"})
    first = first.model_copy(update={"division": xsub, **papers})
    for splits, shared in (((first,), True), ((first, second), False)):
        changed = two_divisions.model_copy(update={"splits": splits})
        assert _of_data("Sparse ST-GCN", "1", changed, LEVELS_OF)[2] == shared


def test_every_way_that_latencies_were_measured_is_said(evaluation):
    first, *others = evaluation.rows
    size = first.size.model_copy(update={"latency_device": "another device"})
    changed = evaluation.model_copy(
        update={"rows": (first.model_copy(update={"size": size}), *others)}
    )
    (note,) = (note for note in accuracy_latency(changed, papers=False).notes if "latenc" in note)
    assert "in 2 ways" in note
    assert size.timing in note
    assert others[0].size.timing in note


def test_an_error_is_of_as_many_seeds_as_its_own_network_has(evaluation, run):
    rows = tuple(
        row.model_copy(update={"seeds": row.seeds.model_copy(update={"seeds": 8})})
        if row.dense
        else row
        for row in evaluation.rows
    )
    changed = evaluation.model_copy(update={"rows": rows})
    found = marks(accuracy_sparsity(changed, load_trials(run), papers=False), "joint")
    assert [mark.error for mark in found] == pytest.approx([50 / TEST, 100 / TEST, 0.0])


def test_neither_grey_nor_the_mark_of_dense_networks_nor_the_colour_of_ensembles_is_anothers(
    evaluation,
):
    member = next(row for row in evaluation.rows if row.kind == "member" and not row.dense)
    rows = [
        member.model_copy(update={"axes": {"model.backbone": f"b{number}"}, "dense": dense})
        for number in range(11)
        for dense in (False, True)
    ]
    chart = accuracy_size(evaluation.model_copy(update={"rows": tuple(rows)}))
    for series in chart.panels[0].series:
        assert series.colour not in (GREY, ENSEMBLES)
        assert (series.marker == DENSE) == ("dense" in series.name)
    looks = {(series.colour, series.marker) for series in chart.panels[0].series}
    assert len(looks) == 11 + len(NETWORKS)  # dense ones differ in their colour alone
