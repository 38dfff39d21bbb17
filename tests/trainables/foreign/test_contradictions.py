"""What the user says against what a checkpoint shows, what it cannot show, and files that are no
foreign checkpoints.
"""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from orchestrator.cli.printing.networks import print_import
from tests.trainables.foreign.test_strictness import (
    BACKBONES,
    CTR,
    HD,
    RP,
    imported,
    refused,
    tensors,
)
from trainables.contract.errors import UserError
from trainables.foreign.checkpoint import import_tensors
from trainables.foreign.importing import Outputs, import_checkpoint
from trainables.foreign.state_file import read_tensors
from trainables.layouts import load_layout
from trainables.training.checkpoint import Progress, save_checkpoint

NTU = load_layout("ntu25")


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_the_checkpoint_itself_is_never_written(tmp_path: Path, link) -> None:
    torch.save(tensors(RP), tmp_path / "c.pt")
    before = (tmp_path / "c.pt").read_bytes()
    out = tmp_path / "." / "c.pt" if link is None else tmp_path / "l.pt"
    if link is not None:
        link(tmp_path / "c.pt", out)
    for force in (True, False):
        with pytest.raises(UserError) as caught:
            import_checkpoint(
                tmp_path / "c.pt", "hpi_gcn_rp", outputs=Outputs(weights=out, force=force)
            )
        assert caught.value.problems == (f"{out}: must not be the checkpoint itself",)
    assert (tmp_path / "c.pt").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "options", "problems"),
    [
        (
            CTR,
            {"convention": "pyskl"},
            ("--set model.convention: the file shows official, got pyskl",),
        ),
        (
            "ctr_gcn_pyskl",
            {"convention": "official"},
            ("--set model.convention: the file shows pyskl, got official",),
        ),
        (
            "aa_gcn_attention_on",
            {"attention": False},
            ("--set model.attention: the file shows true, got false",),
        ),
        (
            "info_gcn_k_1",
            {"temporal": "conv"},
            ("--set model.temporal: the file shows ms_tcn, got conv",),
        ),
        (
            RP,
            {"channels": 8, "adjacencies": 2},
            (
                "--set model.channels: the file shows 60, got 8",
                "--set model.adjacencies: the file shows 5, got 2",
            ),
        ),
    ],
)
def test_options_that_the_file_contradicts(name, options, problems) -> None:
    shown = imported(name, tensors(name)).network.spec.model
    found = refused(name, tensors(name), **options)
    assert found == tuple(
        problem.replace("shows 60", f"shows {shown.channels}") for problem in problems
    )


def test_options_that_the_file_shows_too_may_be_said() -> None:
    assert (
        imported(CTR, tensors(CTR), convention="official").network.spec.model.convention
        == "official"
    )


def test_what_the_file_does_not_show_is_reported(tmp_path: Path, capsys) -> None:
    said = "centre=root (joint 21): not in the file, --set model.centre"
    torch.save(tensors(HD), tmp_path / "hd.pt")
    report = import_checkpoint(tmp_path / "hd.pt", "hd_gcn")
    assert report.to_json()["assumed"] == (said,)
    print_import(report)
    assert re.search(rf"assumed\s+{re.escape(said)}", capsys.readouterr().out)
    assert imported(HD, tensors(HD), centre=21).assumed == ()
    (text,) = imported("info_gcn_k_1", tensors("info_gcn_k_1")).assumed
    assert (
        text == "k of the skeleton matrix: not in the file; clips come as the stream gives them"
        " (infogcn_hop1 is k = 1)"
    )
    assert imported(RP, tensors(RP)).assumed == ()


def test_files_of_our_own(tmp_path: Path) -> None:
    torch.save(tensors(RP), tmp_path / "c.pt")
    import_checkpoint(
        tmp_path / "c.pt",
        "hpi_gcn_rp",
        outputs=Outputs(weights=tmp_path / "w.pt", deploy=tmp_path / "d.pt"),
    )
    save_checkpoint(tmp_path / "t.pt", {"a": torch.ones(1)}, {}, Progress())
    for name, what, loader in (
        ("w.pt", "a file of weights of orchestrate", "trainables.deploy.weights.load_weights"),
        ("d.pt", "a deploy form of orchestrate", "trainables.deploy.form.load_deploy"),
        (
            "t.pt",
            "the checkpoint a trial of orchestrate resumes from",
            "trainables.deploy.form.load_deploy",
        ),
    ):
        with pytest.raises(UserError) as caught:
            read_tensors(tmp_path / name)
        (problem,) = caught.value.problems
        assert problem.startswith(
            f"{tmp_path / name}: must be a checkpoint of released code, got {what}"
        )
        assert loader in problem
    torch.save(
        {"model": tensors(RP), "optimizer": {}, "progress": asdict(Progress()) | {"other": 1}},
        tmp_path / "o.pt",
    )
    assert read_tensors(tmp_path / "o.pt")


@pytest.mark.parametrize(
    ("name", "asked", "problem"),
    [
        (
            CTR,
            "st_gcn",
            (
                "names must be those of a st_gcn (PYSKL's ST-GCN), got those of CTR-GCN's"
                " repository; use --as ctr_gcn"
            ),
        ),
        (
            "ctr_baseline_st_gcn_k5",
            "ctr_gcn",
            "must be of ctr_gcn, got st_gcn_k5 (CTR-GCN's repository); use --as st_gcn_k5",
        ),
        (
            "aa_gcn_attention_on",
            "st_gcn_pp",
            "those of a st_gcn_pp (PYSKL's ST-GCN++), got those of PYSKL's AA-GCN; use --as aa_gcn",
        ),
    ],
)
def test_another_backbone_is_named(name, asked, problem) -> None:
    with pytest.raises(UserError) as caught:
        import_tensors(tensors(name), asked, NTU)
    assert str(caught.value).endswith(problem)


def test_missing_parts_are_named_as_in_the_file_all_at_once() -> None:
    theirs = tensors(CTR)
    gone = [
        "l1.gcn1.convs.0.conv2.bias",
        "l1.gcn1.convs.1.conv1.weight",
        "l4.tcn1.branches.0.0.weight",
        "l5.gcn1.bn.bias",
    ]
    for name in gone:
        del theirs[name]
    theirs["l2.gcn1.bn.weight"] = torch.zeros(7)
    *found, shape = refused(CTR, theirs)
    assert sorted(found) == sorted(
        f"{name}: must be in the checkpoint, but is missing" for name in gone
    )
    assert shape.startswith("blocks.1.graph.bn.weight: must have shape")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in (CTR, RP) else pytest.mark.full)
        for name in sorted(BACKBONES)
    ],
)
def test_every_missing_tensor_is_named_as_in_the_file(name) -> None:
    theirs = tensors(name)
    again = imported(name, theirs).unused
    # a second name would stand in
    theirs = {key: tensor for key, tensor in theirs.items() if key not in again}
    gone = [
        key for key in theirs if "num_batches" not in key and re.search(r"(l|gcn\.|net\.)6\.", key)
    ]
    problems = refused(
        name, {key: tensor for key, tensor in theirs.items() if key not in gone[::9]}
    )
    missing = {problem.split(":")[0] for problem in problems if problem.endswith("is missing")}
    assert missing == set(gone[::9])
