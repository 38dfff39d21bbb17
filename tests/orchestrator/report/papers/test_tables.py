"""The papers' tables with ours beside them: the right figures in the right places, and words where
they are not of the same thing.
"""

from __future__ import annotations

import csv

import pytest

from orchestrator.ensembling.evaluate import paired
from orchestrator.report.markdown import to_markdown
from orchestrator.report.papers import matching
from orchestrator.report.papers.published import Data
from orchestrator.report.sections.papers import paper_cells, papers, tables_of_papers
from orchestrator.report.writing import write_report
from tests.orchestrator.fake_run import Trial
from tests.orchestrator.report.evaluated import evaluated
from tests.orchestrator.report.papers.made_up import MadeUp

pytestmark = pytest.mark.usefixtures("quick_end")

LEVELS = (0.6, 0.8, 0.95, 0.99)
FOUR = ("joint", "bone", "joint_motion", "bone_motion")
RECIPE = {"epochs": 100, "frames": 60}
NARROW = {"channels": 16, "stages": (1, 1, 1), "epochs": 15, "frames": 20}


def tables(sweep, known=True):
    found = tables_of_papers(
        sweep.evaluation, sweep.configs, sweep.results, sweep.predictions if known else {}
    )
    return {(table.spec.paper, table.spec.number): table for table in found}


def levels_of(sweep, backbone="st_gcn", top1=0.88, **settings):
    """A dense network, four levels and these together."""
    dense = sweep.network(backbone, top1, **settings)
    members = [
        sweep.network(backbone, top1 - 0.01 * (number + 1), level=level, **settings)
        for number, level in enumerate(LEVELS)
    ]
    return dense, members, sweep.ensemble(f"multi.{backbone}", members, top1 + 0.02)


def lines(table, whose):
    return [line for line in table.lines if line.whose == whose]


def shown(table):
    text = to_markdown("", papers([table])[-1:]).splitlines()[2:]
    head = [cell.strip() for cell in text[0].strip("|").split("|")]
    return [
        dict(zip(head, (cell.strip() for cell in line.strip("|").split("|")), strict=True))
        for line in text[2:]
    ]


def test_levels_stand_beside_the_published_ones_of_their_data(tmp_path):
    sweep = MadeUp()
    dense, members, _ = levels_of(sweep, **RECIPE)
    table = tables(sweep)["Sparse ST-GCN", "1"]
    published, own, difference = shown(table)
    assert (published["dense"], published["0.99"]) == ("88.0", "87.5 (-0.5)")
    assert (own["whose"], difference["whose"]) == ("ours", "ours - published")
    assert own["test clips of"] == published["test clips of"] == "NTU RGB+D 60 X-sub"
    assert own["dense"] == "88.00 ± 0.25"
    found = sweep.predictions[sweep.division]
    first, second = (found.firsts[name] == found.labels for name in (members[-1], dense))
    gain = paired(first, second)
    assert own["0.99"] == f"84.00 ± 0.29 (-4.00 ± {100 * gain.error:.2f})"
    assert difference["0.99"] == "-3.50 ± 0.29"
    assert difference["parameters, M"] == ""
    assert "differs from the published one in" not in own
    second = tables(sweep)["Sparse ST-GCN", "2"]
    assert shown(second)[1]["four levels together"].startswith("90.00 ± 0.23 (+2.00 ± ")
    assert shown(second)[2]["four levels together"] == "+0.20 ± 0.23"
    assert [line["maskable weights kept"] for line in shown(second)] == ["0.66", "0.66", ""]


def test_without_predictions_the_differences_have_no_errors():
    sweep = MadeUp()
    levels_of(sweep, **RECIPE)
    assert shown(tables(sweep, known=False)["Sparse ST-GCN", "1"])[1]["0.6"] == (
        "87.00 ± 0.26 (-1.00)"
    )


def test_another_data_set_is_never_compared_with_the_published_ones():
    sweep = MadeUp("nw-ucla", "xview")
    levels_of(sweep, **NARROW)
    for number in ("1", "2"):
        table = tables(sweep)["Sparse ST-GCN", number]
        assert not lines(table, "ours - published")
        *published, own = shown(table)
        assert own["test clips of"] == "nw-ucla xview (another data set)"
        assert [line["test clips of"] for line in published] == [
            *("NTU RGB+D 60 X-sub", "NTU RGB+D 60 X-view"),
            *("NTU RGB+D 120 X-sub", "NTU RGB+D 120 X-set"),
        ]
        assert own["differs from the published one in"] == (
            "channels 16 instead of 64, stages (1, 1, 1) instead of (4, 3, 3)"
        )


def test_a_narrow_network_on_the_same_data_is_called_one():
    sweep = MadeUp()
    levels_of(sweep, **NARROW)
    own = shown(tables(sweep)["Sparse ST-GCN", "1"])[1]
    assert own["differs from the published one in"] == (
        "channels 16 instead of 64, stages (1, 1, 1) instead of (4, 3, 3), 20 frames instead of 60,"
        " 15 epochs instead of 100"
    )


def test_other_masks_have_a_line_of_their_own_with_the_same_dense_network():
    sweep = MadeUp()
    levels_of(sweep, **RECIPE)
    sweep.network("st_gcn", 0.8, level=0.99, sparsity={"generator": "rigl"}, **RECIPE)
    own = lines(tables(sweep)["Sparse ST-GCN", "1"], "ours")
    assert [set(line.rows) for line in own] == [
        {"dense", "0.6", "0.8", "0.95", "0.99"},
        {"dense", "0.99"},
    ]
    assert own[1].cells["0.99"].value == pytest.approx(80, abs=0.01)
    assert own[1].differs == "generator rigl instead of fixed_random"


def test_several_streams_and_sizes_of_the_first_paper():
    sweep = MadeUp("ntu120")
    streams = ("joint", "bone", "joint_hop1", "bone_hop1", "joint_hop2", "bone_hop2")
    members = [sweep.network("hpi_gcn_op", 0.85, stream=each, kernel_size=9) for each in streams]
    for count in (2, 4, 6):
        sweep.ensemble(f"{count} streams", members[:count], 0.88 + count / 1000)
    found = tables(sweep)
    assert set(found) == {("HPI-GCN", "1"), ("HPI-GCN", "2")}  # the README has no more than these
    published, own, difference = shown(found["HPI-GCN", "1"])
    assert (published["6-stream"], published["ms"]) == ("90.1", "42")
    assert (own["6-stream"], own["ms"]) == ("88.60 ± 0.14", "20")  # of one stream
    assert difference["2-stream"] == "-0.90 ± 0.14"
    two = shown(found["HPI-GCN", "2"])[:3]
    assert [line["network"] for line in two] == ["HPI-GCN-OP-K9 (2-stream)"] * 3
    assert [line["ms"] for line in two] == ["84", "40", ""]
    assert two[2]["NTU RGB+D 120 X-sub"] == "-0.90 ± 0.14"
    assert two[2]["NTU RGB+D 60 X-sub"] == ""


def test_sizes_are_counted_as_the_paper_counts_them():
    sweep = MadeUp("ntu120")
    sweep.network("hpi_gcn_rp", 0.85)
    sweep.network("hpi_gcn_baseline", 0.84)
    found = tables(sweep)
    assert {number for _, number in found} == {"1", "3", "4"}
    own = [line for line in shown(found["HPI-GCN", "4"]) if line["whose"] == "ours"]
    assert [line["network"] for line in own] == ["baseline", "HPI-GCN-RP"]
    assert own[0]["GMACs"] == "0.2"  # without joint mixing
    assert own[0]["parameters, M"] == "0.0004"


def test_what_only_the_readme_has_is_compared_with_the_readme():
    sweep = MadeUp("ntu60", "xview")
    sweep.network("hpi_gcn_rp", 0.95)
    found = tables(sweep)
    published, _, difference = shown(found["HPI-GCN", "README"])
    assert (published["NTU RGB+D 60 X-view"], published["NTU RGB+D 120 X-set"]) == ("95.1", "86.4")
    assert difference["NTU RGB+D 60 X-view"].startswith("-0.10 ± ")
    assert not lines(found["HPI-GCN", "4"], "ours - published")


def test_two_ensembles_of_the_same_networks_are_told_apart_by_their_names():
    sweep = MadeUp()
    members = [
        sweep.network("dg_stgcn", 0.9, stream=stream, level=0.6, epochs=150, frames=100)
        for stream in FOUR
    ]
    sweep.ensemble("pyskl", members, 0.92)
    sweep.ensemble("equal", members, 0.93)
    own = [line for line in shown(tables(sweep)["Sparse ST-GCN", "3"]) if "ours" in line["whose"]]
    assert [line["whose"] for line in own[:2]] == ["ours (`pyskl`)", "ours (`equal`)"]
    assert {line["network"] for line in own} == {"DG-STGCN, level 0.6"}


def test_columns_of_another_data_set_say_so():
    sweep = MadeUp("nw-ucla", "xview")
    for level in (0.6, 0.8):
        members = [sweep.network("dg_stgcn", 0.9, stream=each, level=level) for each in FOUR]
        sweep.ensemble(f"one.{level}", members, 0.92)
    first = shown(tables(sweep)["Sparse ST-GCN", "3"])[0]
    assert first["nw-ucla xview (another data set)"] == ""
    assert first["NTU RGB+D 60 X-sub"] == "92.7"


def test_what_cannot_be_compared_makes_no_table():
    """Nothing of a paper, and single figures of another data set."""
    sweep = MadeUp("nw-ucla", "xview")
    sweep.network("st_gcn", 0.8, level=0.6)
    sweep.network("hpi_gcn_rp", 0.8)
    sweep.network("st_gcn_pp", 0.8)
    assert tables(sweep) == {}
    assert papers([]) == []
    assert tables_of_papers(None, {}, {}, {}) == []


def test_a_table_of_levels_together_needs_them():
    sweep = MadeUp()
    sweep.network("st_gcn", 0.88, **RECIPE)
    assert set(tables(sweep)) == {("Sparse ST-GCN", "1")}


def test_every_figure_is_in_the_csv_file():
    sweep = MadeUp()
    dense, _, _ = levels_of(sweep, **RECIPE)
    cells = paper_cells(list(tables(sweep).values()))
    (own,) = (
        each
        for each in cells
        if (each["table"], each["whose"], each["column"]) == ("1", "ours", "dense")
    )
    assert (own["row"], own["figure"], own["data"]) == (dense, "top1", "NTU RGB+D 60 X-sub")
    assert own["value"] == pytest.approx(88, abs=0.01)
    assert {"AA-GCN", "DG-STGCN"} <= {each["line"] for each in cells}  # not trained, but published
    assert {each["figure"] for each in cells} == {"top1", "params_m", "kept"}


def test_the_report_has_the_tables(tmp_path, monkeypatch):
    run = evaluated(tmp_path, [Trial("joint", 0.0, wrong_test=(0, 1, 2))])
    assert "The papers' tables" not in write_report(run).read_text()
    assert not (run / "report" / "tables" / "papers.csv").exists()
    data = Data("NTU RGB+D 120", "X-sub")
    monkeypatch.setattr(matching, "data_of", lambda split: data)
    text = write_report(run).read_text()
    assert "arXiv:2305.18710" in text
    assert "| HPI-GCN-RP | NTU RGB+D 120 X-sub | ours | 90.00 ± 5.48 |" in text
    assert "30 of 50,919 test clips" in text
    with (run / "report" / "tables" / "papers.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {(row["paper"], row["table"]) for row in rows if row["whose"] == "ours"} == {
        ("HPI-GCN", number) for number in ("1", "3", "4")
    }
