"""The bench: what is timed, in which order, and what the ratios mean; no figure of speed is
asserted.
"""

from __future__ import annotations

import pytest
import torch

from trainables.contract.backbones import BACKBONES
from trainables.contract.config import ModelConfig, StreamConfig
from trainables.contract.errors import UserError
from trainables.cost.counting.count import count
from trainables.deploy import bench as module
from trainables.deploy.bench import Setting, bench, find_device
from trainables.deploy.form import persons_at_once
from trainables.layouts import load_layout
from trainables.reparam.fusible import RELEASED

SMALL = {
    "batches": (1, 2),
    "frames": 8,
    "classes": 5,
    "channels": 8,
    "rounds": 3,
    "device": "cpu",
    "threads": 1,
}


@pytest.fixture
def clock(monkeypatch):
    """Calls in order as (kind of network, clips); every call takes as many seconds as the network
    has thousands of parameters.
    """
    calls = []

    def timed(network, clips):
        assert torch.is_inference_mode_enabled()
        assert not network.training
        calls.append((network, clips))
        return sum(parameter.numel() for parameter in network.parameters()) / 1e3

    monkeypatch.setattr(module, "call_seconds", timed)
    return calls


def test_every_form_has_its_turn_in_every_round_and_ratios_are_of_medians(clock):
    threads = torch.get_num_threads()
    found = bench(["hpi_gcn_rp", "hpi_gcn_op"], load_layout("ntu25"), Setting(**SMALL))
    assert torch.get_num_threads() == threads
    assert found.threads == 1
    forms = ["training", "plain deploy", "deploy"]
    assert [(row.backbone, row.form) for row in found.measured] == [
        (name, form) for name in ("hpi_gcn_rp", "hpi_gcn_op") for form in forms
    ]
    # a warm-up call each: they take longer than the warm-up may
    networks = [network for network, _ in clock[:6]]
    timed = clock[6:24]  # the first batch size, three rounds of six
    order = [networks.index(network) for network, _ in timed]
    assert order == [*range(6), *range(1, 6), 0, *range(2, 6), 0, 1]
    training, plain, deploy = found.measured[:3]
    assert training.timings[0].median_ms == pytest.approx(training.params)
    assert deploy.timings[0].calls == 3
    assert deploy.timings[1].clips_per_s == pytest.approx(2e3 / deploy.params)
    assert deploy.timings[0].to_training == pytest.approx(training.params / deploy.params)
    assert plain.timings[0].to_training == pytest.approx(training.params / plain.params)
    assert deploy.timings[0].to_first == 1
    assert found.measured[5].timings[0].to_first == pytest.approx(
        deploy.params / found.measured[5].params
    )


def test_settled_deploy_forms_say_how_they_run(clock, monkeypatch):
    persons = persons_at_once(torch.device("cpu"))
    usual = bench(["hpi_gcn_rp"], load_layout("ntu25"), Setting(**SMALL))
    assert [row.runs for row in usual.measured[1:]] == [
        "folded as released; all persons at once",
        f"everything folded; {persons} persons at a time, as rows",
    ]
    monkeypatch.setattr(
        "trainables.deploy.form.call_seconds",
        lambda form, _clips: 1.0 + form.execution.rows - (form.folding == RELEASED),
    )
    settled = bench(["hpi_gcn_rp"], load_layout("ntu25"), Setting(**SMALL, settle=True))
    assert settled.measured[2].runs == "folded as released; all persons at once"
    assert settled.measured[2].params == settled.measured[1].params


def test_fast_networks_get_several_calls_in_a_turn(monkeypatch):
    monkeypatch.setattr(module, "call_seconds", lambda network, clips: module.TURN_S / 10.5)
    found = bench(["hpi_gcn_rp"], load_layout("ntu25"), Setting(**SMALL))
    assert {timing.calls for row in found.measured for timing in row.timings} == {30}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ("hpi_gcn_rp", "ctr_gcn") else pytest.mark.full)
        for name in sorted(BACKBONES.own)
    ],
)
def test_sizes_are_those_of_the_counting(name, clock):
    layout = load_layout("ntu25")
    found = bench([name], layout, Setting(**{**SMALL, "batches": (1,)}))
    cost = count(
        ModelConfig(backbone=name, channels=8),
        layout,
        classes=5,
        persons=2,
        frames=8,
        stream=StreamConfig(),
    )
    rows = {row.form: row for row in found.measured}
    assert (rows["training"].params, rows["training"].gmacs) == (
        cost.training.params,
        cost.training.gmacs,
    )
    assert (rows["deploy"].params, rows["deploy"].gmacs) == (cost.deploy.params, cost.deploy.gmacs)
    assert ("plain deploy" in rows) == name.startswith("hpi_gcn")
    assert all(row.timings[0].peak_mb > 0 for row in found.measured)


def test_clips_with_one_person(clock):
    found = bench(
        ["hpi_gcn_rp"], load_layout("ntu25"), Setting(**{**SMALL, "batches": (4, 1)}, single=0.5)
    )
    assert found.single_clips == {4: 2, 1: 0}
    clips = clock[0][1]
    assert [bool(clip[..., 1].any()) for clip in clips] == [False, False, True, True]
    assert clips[..., 0].flatten(1).any(dim=1).all()


def test_progress_and_place(clock):
    notes: list[str] = []
    found = bench(
        ["hpi_gcn_rp"], load_layout("ntu25"), Setting(**{**SMALL, "rounds": 2}), note=notes.append
    )
    rounds = [note for note in notes if note.startswith("round")]
    assert rounds == [
        f"round     batch {batch}  {number}/2" for batch in (1, 2) for number in (1, 2)
    ]
    assert notes[0] == "building  hpi_gcn_rp"
    assert found.device == "cpu"
    assert "CPU" in found.processor
    assert torch.__version__ in found.torch


def test_without_names_all_are_measured(clock):
    found = bench([], load_layout("coco17"), Setting(**{**SMALL, "batches": (1,), "rounds": 1}))
    assert list(dict.fromkeys(row.backbone for row in found.measured)) == list(BACKBONES.own)
    firsts = [row.timings[0].to_first for row in found.measured if row.form == "deploy"]
    assert firsts[0] == 1
    assert len(firsts) == len(BACKBONES.own)
    assert len(set(firsts)) > 1


def test_settings_that_cannot_be_measured():
    with pytest.raises(UserError) as caught:
        bench(
            ["hpi_gcn_rp", "stgcn", "hpi_gcn_rp"],
            load_layout("ntu25"),
            Setting(batches=(1, 1), persons=1, single=0.5, channels=12, device="cpu"),
        )
    unknown, twice, batches, single, channels = caught.value.problems
    assert unknown == (
        f"backbone must be {', '.join(BACKBONES.own)} or package.module:NAME, got 'stgcn', did you"
        " mean 'st_gcn'?"
    )
    assert twice == "backbone hpi_gcn_rp must be named once"
    assert batches == "--batch: must be different sizes, got 1, 1"
    assert single == "--single: needs --persons 2 or more, got --single 0.5"
    assert channels == "--channels: must be a multiple of 8, got 12"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there():
    assert find_device("auto").type == "cpu"
    with pytest.raises(UserError, match="--device: must be cpu or auto here, got cuda"):
        find_device("cuda")
