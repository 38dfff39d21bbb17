"""Which rows of a sweep are networks of the papers' tables: the rules, and what they refuse."""

from __future__ import annotations

import pytest

from orchestrator.ensembling import results
from orchestrator.ensembling.members import Division
from orchestrator.report.papers.matching import METHODS, data_of, entries_of
from orchestrator.report.papers.published import Data
from tests.orchestrator.report.papers.made_up import MadeUp
from trainables.contract.config import SelectionConfig
from trainables.contract.model import ModelConfig

HPI, SPARSE = "HPI-GCN", "Sparse ST-GCN"
SIX = ("joint", "bone", "joint_hop1", "bone_hop1", "joint_hop2", "bone_hop2")
FOUR = ("joint", "bone", "joint_motion", "bone_motion")


def entries(sweep, paper):
    return entries_of(paper, sweep.evaluation, sweep.configs, sweep.results)


NETWORKS = [
    (HPI, "hpi_gcn_rp", {}, ["HPI-GCN-RP", "HPI-GCN-RP-PA5"]),
    (HPI, "hpi_gcn_rp", {"adjacencies": 3}, ["HPI-GCN-RP-PA3"]),
    (HPI, "hpi_gcn_rp", {"adjacencies": 1}, ["HPI-GCN-RP-PA1"]),
    (HPI, "hpi_gcn_rp", {"adjacencies": 4}, []),
    (HPI, "hpi_gcn_rp", {"kernel_size": 9}, []),
    (HPI, "hpi_gcn_op", {}, ["HPI-GCN-OP"]),
    (HPI, "hpi_gcn_op", {"kernel_size": 9}, ["HPI-GCN-OP-K9"]),
    (HPI, "hpi_gcn_op", {"kernel_size": 7}, []),
    (HPI, "hpi_gcn_baseline", {}, ["baseline"]),
    (HPI, "ctr_gcn", {}, ["CTR-GCN"]),
    (HPI, "ctr_gcn", {"temporal": "conv"}, ["CTR-GCN-K5"]),
    (HPI, "ctr_gcn", {"temporal": "rep_tcn"}, ["CTR-GCN-RP-K5"]),
    (HPI, "ctr_gcn", {"temporal": "rep_tcn", "kernel_size": 9}, []),
    (HPI, "st_gcn_k5", {}, ["ST-GCN-K5"]),
    (HPI, "st_gcn_k5", {"temporal": "rep_tcn"}, ["ST-GCN-RP-K5"]),
    (HPI, "st_gcn", {}, []),  # the ST-GCN of its survey is the network of 2018
    (HPI, "info_gcn", {}, ["InfoGCN"]),
    (HPI, "hd_gcn", {}, ["HD-GCN"]),
    (SPARSE, "st_gcn", {}, ["ST-GCN"]),
    (SPARSE, "st_gcn", {"kernel_size": 5}, []),
    (SPARSE, "st_gcn_k5", {}, []),
    (SPARSE, "aa_gcn", {}, ["AA-GCN"]),
    (SPARSE, "ctr_gcn", {"convention": "pyskl"}, ["CTR-GCN"]),
    (SPARSE, "dg_stgcn", {}, ["DG-STGCN"]),
    (SPARSE, "hpi_gcn_rp", {}, []),
]


@pytest.mark.parametrize(("paper", "backbone", "settings", "names"), NETWORKS)
def test_a_network_is_a_papers_by_backbone_and_settings(paper, backbone, settings, names):
    sweep = MadeUp()
    sweep.network(backbone, 0.8, **settings)
    found = entries(sweep, paper)
    assert [entry.method for entry in found] == names
    assert all(entry.network == () for entry in found)
    assert all((entry.streams, entry.level) == ("joint", "dense") for entry in found)


def test_every_published_network_can_be_built():
    for methods in METHODS.values():
        for method in methods.values():
            assert (
                method.differences(
                    ModelConfig.model_validate(
                        {"backbone": method.backbone, **method.own, **method.usual}
                    )
                )
                == ()
            )


def test_settings_that_are_not_the_published_ones_are_named():
    sweep = MadeUp(clips=1000)
    sweep.network("ctr_gcn", 0.8, channels=16, stages=(1, 1, 1), epochs=15, frames=20)
    (entry,) = entries(sweep, SPARSE)
    assert entry.network == (
        "1,000 of 16,487 test clips",
        "channels 16 instead of 64",
        "stages (1, 1, 1) instead of (4, 3, 3)",
        "convention official instead of pyskl",
    )
    assert entry.trained == {(20, 15)}
    (entry,) = entries(sweep, HPI)
    assert "convention" not in " ".join(entry.network)  # the HPI-GCN paper ran CTR-GCN's own code


STREAMS = [
    (HPI, "hpi_gcn_op", SIX, "6-stream"),
    (HPI, "hpi_gcn_op", SIX[:4], "4-stream"),
    (HPI, "hpi_gcn_op", SIX[:2], "2-stream"),
    (HPI, "hpi_gcn_op", FOUR, None),  # motions are not the paper's streams
    (HPI, "hpi_gcn_op", SIX[:3], None),
    (HPI, "hpi_gcn_op", ("bone",), None),
    (HPI, "ctr_gcn", FOUR, "4-stream"),
    (HPI, "ctr_gcn", SIX[:4], None),
    (HPI, "hd_gcn", FOUR, None),  # its four streams are two centres
    (HPI, "hd_gcn", FOUR[:2], "2-stream"),
    (SPARSE, "dg_stgcn", FOUR, "4-stream"),
]


@pytest.mark.parametrize(("paper", "backbone", "streams", "name"), STREAMS)
def test_an_ensemble_is_a_papers_by_its_streams(paper, backbone, streams, name):
    sweep = MadeUp()
    members = [sweep.network(backbone, 0.8, stream=stream) for stream in streams]
    sweep.ensemble("all", members, 0.9)
    found = {entry.streams for entry in entries(sweep, paper) if entry.row == "all"}
    assert found == ({name} if name else set())


LEVELS = [
    ((0.6, 0.8, 0.95, 0.99), "assemble"),
    ((0.6, 0.8, 0.95), None),
    ((0.0, 0.6, 0.8, 0.95, 0.99), None),
    ((0.6,), "0.6"),
    ((0.9,), None),
    ((0.6, 0.6), None),  # two seeds
]


@pytest.mark.parametrize(("levels", "name"), LEVELS)
def test_an_ensemble_is_a_papers_by_its_levels(levels, name):
    sweep = MadeUp()
    members = [sweep.network("st_gcn", 0.8, level=level) for level in levels]
    sweep.ensemble("all", members, 0.9)
    found = {entry.level for entry in entries(sweep, SPARSE) if entry.row == "all"}
    assert found == ({name} if name else set())


def test_streams_and_levels_must_each_be_there_once():
    sweep = MadeUp()
    members = {
        (stream, level): sweep.network("dg_stgcn", 0.8, stream=stream, level=level)
        for stream in FOUR
        for level in (0.6, 0.8, 0.95, 0.99)
    }
    sweep.ensemble("all", members.values(), 0.9)
    sweep.ensemble("fewer", list(members.values())[:-1], 0.9)
    sweep.ensemble("mixed", [members["joint", 0.6], members["bone", 0.8]], 0.9)
    found = {entry.row: (entry.streams, entry.level) for entry in entries(sweep, SPARSE)}
    assert found["all"] == ("4-stream", "assemble")
    assert not {"fewer", "mixed"} & set(found)


def test_networks_of_two_kinds_are_no_ensemble_of_a_paper():
    sweep = MadeUp()
    members = [sweep.network("st_gcn", 0.8, level=0.6), sweep.network("aa_gcn", 0.8, level=0.8)]
    sweep.ensemble("all", members, 0.9)
    assert "all" not in [entry.row for entry in entries(sweep, SPARSE)]


def test_masks_and_weights_that_are_not_the_papers_are_named():
    sweep = MadeUp()
    sweep.network("st_gcn", 0.8, level=0.6, sparsity={"generator": "rigl", "penalty": "none"})
    levels = [sweep.network("st_gcn", 0.8, level=level) for level in (0.6, 0.8, 0.95, 0.99)]
    sweep.ensemble("greedy", levels, 0.9, method="greedy")
    found = {entry.row: entry for entry in entries(sweep, SPARSE)}
    first = next(iter(found.values()))
    assert first.masks == (
        "generator rigl instead of fixed_random",
        "penalty none instead of group_lasso",
    )
    assert found["greedy"].masks == ("weights by greedy",)


def test_sparse_or_multi_level_networks_are_not_in_the_first_papers_tables():
    sweep = MadeUp()
    sweep.network("hpi_gcn_rp", 0.8, level=0.6)
    experts = {"network": "experts", "levels": (0.6, 0.8, 0.95, 0.99)}
    sweep.network("st_gcn", 0.8, sparsity=experts)
    assert entries(sweep, HPI) == entries(sweep, SPARSE) == []


DATA = [
    ("ntu60", "xsub", 60, "NTU RGB+D 60 X-sub"),
    ("ntu60_3danno", "xview", 60, "NTU RGB+D 60 X-view"),
    ("NTU120", "xset", 120, "NTU RGB+D 120 X-set"),
    ("ntu120", "xview", 120, "ntu120 xview"),  # there is no such protocol
    ("ntu60", "xsub", 10, "ntu60 xsub"),  # a part of its classes
    ("ntu60_hrnet", "xsub", 60, "ntu60_hrnet xsub"),  # poses in the image
    ("k400_hrnet", "val", 400, "Kinetics-400 val"),
    ("gym_hrnet", "val", 99, "FineGYM val"),
    ("nw-ucla", "xview", 10, "nw-ucla xview"),
]


@pytest.mark.parametrize(("dataset", "protocol", "classes", "name"), DATA)
def test_data_sets_are_the_papers_only_if_they_are(dataset, protocol, classes, name):
    division = Division(store="data/x", protocol=protocol, selection=SelectionConfig())
    split = results.TestSplit(
        division=division,
        dataset=dataset,
        classes=classes,
        selection_clips=1,
        test_clips=1,
        clean_clips=1,
    )
    assert str(data_of(split)) == name
    assert isinstance(data_of(split), Data)
