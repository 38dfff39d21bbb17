"""Options of the models in a sweep file: what cannot be combined is one line, and every backbone
has its own defaults.
"""

from __future__ import annotations

import json
import re
from itertools import product

import pytest

from orchestrator.cli.printing.costs import print_plan
from orchestrator.planning.check import check_data, checked_sweep
from orchestrator.planning.plan import plan
from orchestrator.sweep import load_sweep
from orchestrator.trials.space import all_trials
from tests.orchestrator.sweep_files import loaded, written
from trainables.contract.backbones import BACKBONES
from trainables.contract.config import ModelConfig
from trainables.contract.errors import UserError
from trainables.data.store.reading import write_store
from trainables.data.synthetic import SyntheticConfig, synthetic_recordings
from trainables.layouts import load_layout

HEAD = "version: 1\nname: small\ndata: {store: nowhere, protocol: xsub, frames: 16}\n"
DRAWN = "method: {name: random, trials_per_cell: 30}\n"


def refused(folder, text: str) -> str:
    """The one line that says what is wrong with the file."""
    with pytest.raises(UserError) as caught:
        checked_sweep(written(folder, text), data=False)
    (problem,) = caught.value.problems
    return problem.replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "model: {backbone: hpi_gcn_op, channels: 16, groups: 5}\n",
            (
                "s.yaml:4 model.groups: groups must divide channels, got groups=5 and channels=16"
                " (cell all)"
            ),
        ),
        (
            "model: {channels: 12}\n",
            "s.yaml:4 model.channels: channels must be a multiple of 8, got 12 (cell all)",
        ),
        ("model: {kernel_size: 4}\n", "s.yaml:4 model.kernel_size: must be odd, got 4"),
        (
            "parameters: {model.kernel_size: [5, 6]}\n",
            "s.yaml:4 parameters.model.kernel_size[1]: must be odd, got 6",
        ),
        (
            "parameters: {model.kernel_size: {min: 3, max: 9}}\n" + DRAWN,
            (
                "s.yaml:4 parameters.model.kernel_size: draws numbers that are refused: must be"
                " odd, got 4; give a step or values"
            ),
        ),
        (
            "parameters: {model.kernel_size: {distribution: int_log_uniform, min: 3, max: 9}}\n"
            + DRAWN,
            (
                "s.yaml:4 parameters.model.kernel_size: draws numbers that are refused: must be"
                " odd, got 4; give values"
            ),
        ),
        (
            "model: {backbone: ctr_gcn, subsets: 4}\n",
            "s.yaml:4 model.subsets: subsets must be 3 where graph is spatial, got 4 (cell all)",
        ),
        (
            (
                "model: {backbone: st_gcn, subsets: 8}\nparameters: {model.graph: [random,"
                " stgcn_spatial]}\n"
            ),
            (
                "s.yaml:5 parameters.model.graph: subsets must be 3 where graph is stgcn_spatial,"
                " got 8 (cell all, model.graph='stgcn_spatial')"
            ),
        ),
        (
            "parameters:\n  model.backbone: [ctr_gcn, dg_stgcn]\n  model.subsets: [3, 8]\n",
            (
                "s.yaml:6 parameters.model.subsets: subsets must be 3 where graph is spatial, got 8"
                " (cell ctr_gcn, model.subsets=8)"
            ),
        ),
        (
            "model: {kernel_size: 5, branches: [origin, 7]}\n",
            (
                "s.yaml:4 model.branches: branches must be odd and at most kernel_size, got 7 where"
                " kernel_size=5 (cell all)"
            ),
        ),
        (
            "model: {branches: [origin, origin]}\n",
            (
                "s.yaml:4 model.branches: branches must be different and at least one, got"
                " ['origin', 'origin'] (cell all)"
            ),
        ),
        (
            "model: {stages: [2, 2], strides: [1, 2, 2]}\n",
            (
                "s.yaml:4 model.strides: strides must name one stride per stage, got strides=[1, 2,"
                " 2] and stages=[2, 2] (cell all)"
            ),
        ),
        (
            "model:\n  strides: [1, 2]\n",
            (
                "s.yaml:5 model.strides: strides must name one stride per stage, got strides=[1, 2]"
                " and stages=[3, 3, 3] (cell all)"
            ),
        ),
        (
            "model: {stages: []}\n",
            "s.yaml:4 model.stages: stages must name at least one stage, got [] (cell all)",
        ),
        (
            "model: {input_block: emm}\nparameters: {data.stream: [bone]}\n",
            (
                "s.yaml:4 model.input_block: must be auto or conv for the stream bone: explicit"
                " motion modelling is for joint streams, got emm (a stream written as a record may"
                " have it) (cell bone)"
            ),
        ),
        (
            "model: {backbone: st_gcn, adjacency: scaled, graph: random}\n",
            (
                "s.yaml:4 model.adjacency: adjacency scaled needs a graph of the skeleton (spatial"
                " or stgcn_spatial), got graph=random (cell all)"
            ),
        ),
        (
            "model: {backbone: hd_gcn, layout: ntu25, centre: 26}\n",
            "s.yaml:4 model.centre: must be root or a joint of layout ntu25, 1 to 25, got 26",
        ),
        (
            (
                "model: {backbone: hd_gcn, layout: coco17}\nparameters: {model.centre: [root, 17,"
                " 18]}\n"
            ),
            (
                "s.yaml:5 parameters.model.centre: must be root or a joint of layout coco17, 1 to"
                " 17, got 18"
            ),
        ),
        (
            "model: {backbone: hd_gcn, centre: 0}\n",
            "s.yaml:4 model.centre: must be root or at least 1, got 0",
        ),
        (
            "model: {backbone: st_gcn, groups: 3}\n",
            (
                "s.yaml:4 model.groups: has no effect: none of the sweep's backbones (st_gcn) has"
                " it; leave it out"
            ),
        ),
        (
            (
                "model: {centre: 99, layout: ntu25}\nparameters: {model.backbone: [hpi_gcn_rp,"
                " st_gcn]}\n"
            ),
            (
                "s.yaml:4 model.centre: has no effect: none of the sweep's backbones (hpi_gcn_rp,"
                " st_gcn) has it; leave it out"
            ),
        ),
        (
            "model: {backbone: ctr_gcn, branches: [origin]}\n",
            (
                "s.yaml:4 model.branches: has no effect: none of the sweep's temporal modules"
                " (ms_tcn) has it; leave it out"
            ),
        ),
        (
            (
                "model: {branches: [origin]}\nparameters:\n  model.backbone: [ctr_gcn, st_gcn]\n "
                " model.kernel_size: [3, 5]\n"
            ),
            (
                "s.yaml:4 model.branches: has no effect: none of the sweep's temporal modules"
                " (ms_tcn, conv) has it; leave it out"
            ),
        ),
        (
            "parameters: {model.backbone: st_gcn, model.groups: 4}\n",
            (
                "s.yaml:4 parameters.model.groups: has no effect: none of the sweep's backbones"
                " (st_gcn) has it; leave it out"
            ),
        ),
        (
            (
                "model: {backbone: ctr_gcn}\nparameters: {model.groups: [4, 8], model.convention:"
                " [pyskl]}\n"
            ),
            (
                "s.yaml:5 parameters.model.groups: has no effect: none of the sweep's backbones"
                " (ctr_gcn) has it; leave it out"
            ),
        ),
        (
            (
                "model: {backbone: ctr_gcn}\nparameters: {model.attention: {values: [true, false],"
                " axis: cell}}\n"
            ),
            (
                "s.yaml:5 parameters.model.attention: has no effect: none of the sweep's backbones"
                " (ctr_gcn) has it; leave it out"
            ),
        ),
        (
            "parameters: {sparsity.warmup: [0.2, 0.4]}\n",
            (
                "s.yaml:4 parameters.sparsity.warmup: has no effect in any trial of the sweep;"
                " leave it out"
            ),
        ),
        (
            (
                "train: {epochs: 4}\nparameters: {sparsity.level: [0.0, 0.5], sparsity.warmup:"
                " [0.0, 0.1], sparsity.penalty: [none, group_lasso]}\n"
            ),
            (
                "s.yaml:5 parameters.sparsity.penalty: has no effect in any trial of the sweep;"
                " leave it out"
            ),
        ),
        (
            "parameters: {train.schedule: [cosine], train.lr_decay: {min: 0.1, max: 0.5}}\n"
            + DRAWN,
            (
                "s.yaml:4 parameters.train.lr_decay: has no effect in any trial of the sweep; leave"
                " it out"
            ),
        ),
        ("model: {temporal: ms-tcn}\n", None),
        ("model: {backbone: st_gcnn}\n", None),
    ],
)
def test_what_cannot_be_combined_is_one_line(tmp_path, text: str, problem: str | None) -> None:
    found = refused(tmp_path, HEAD + text)
    if problem is None:
        assert re.fullmatch(
            r"s\.yaml:4 model\.\w+: must be .*, got '[\w-]+', did you mean '\w+'\?", found
        )
    else:
        assert found == problem


def test_drawn_values_that_break_one_rule_are_one_line(tmp_path) -> None:
    text = HEAD + "parameters: {model.channels: {min: 9, max: 15}}\n" + DRAWN
    assert re.fullmatch(
        r"s\.yaml:4 parameters\.model\.channels: channels must be a multiple of 8, got \d+ \(cell"
        r" all, model\.channels=\d+\)",
        refused(tmp_path, text),
    )
    checked_sweep(
        written(
            tmp_path, HEAD + "parameters: {model.channels: {min: 8, max: 64, step: 8}}\n" + DRAWN
        ),
        data=False,
    )
    checked_sweep(
        written(
            tmp_path, HEAD + "parameters: {model.kernel_size: {min: 3, max: 9, step: 2}}\n" + DRAWN
        ),
        data=False,
    )


@pytest.mark.parametrize(
    "text",
    [
        # an option of one of them
        "model: {branches: [origin, 5]}\nparameters: {model.backbone: [ctr_gcn, hpi_gcn_rp]}\n",
        (
            "model: {backbone: ctr_gcn, branches: [origin, 5]}\nparameters: {model.temporal: [conv,"
            " rep_tcn]}\n"
        ),
        (  # whatever is drawn
            "model: {groups: 4}\nparameters: {model.backbone: {values: [st_gcn, hpi_gcn_op], axis:"
            " trial}}\nmethod: {name: random, trials_per_cell: 1}\n"
        ),
        "model: {backbone: st_gcn, groups: 8, branches: null}\n",  # as the resolved form says
        "parameters: {sparsity.level: {min: 0, max: 0.9, axis: trial}, sparsity.warmup: [0.2,"
        " 0.4]}\n" + DRAWN,
        "model: {backbone: st_gcn, adjacency: scaled}\n",  # the graph follows
        (
            "model: {input_block: emm}\nparameters: {data.stream: [joint], model.backbone:"
            " [ctr_gcn, hpi_gcn_rp]}\n"
        ),
        "model: {backbone: hd_gcn, centre: 99}\n",  # of a layout that only the store knows
        "parameters: {data.stream: [bone, joint], model.input_block: [auto, conv]}\n",
    ],
)
def test_what_has_no_effect_or_follows_is_no_error(tmp_path, text: str) -> None:
    assert checked_sweep(written(tmp_path, HEAD + text), data=False).parameters is not None


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("options") / "synth"
    config = SyntheticConfig(classes=3, clips_per_class=6, subjects=2, views=3, frames=8)
    recordings = synthetic_recordings(config, load_layout("ucla20"))
    write_store(path, recordings.clips, recordings.description)
    return path


def test_a_centre_beyond_the_stores_joints(tmp_path, store) -> None:
    text = HEAD.replace("nowhere", str(store)).replace(
        "frames: 16", "frames: 8, selection: {kind: clip, fraction: 0.3}"
    )
    text += "parameters: {model.backbone: [hpi_gcn_rp, hd_gcn], model.centre: [root, 20, 21, 25]}\n"
    found = [problem.replace(f"{tmp_path}/", "") for problem in check_data(loaded(tmp_path, text))]
    rule = (
        "s.yaml:4 parameters.model.centre: must be root or a joint of layout ucla20, 1 to 20, got"
    )
    assert found == [f"{rule} 21", f"{rule} 25"]


ALL = "  model.backbone: [" + ", ".join(BACKBONES.own) + "]\n"


def test_every_backbone_of_a_sweep_has_its_own_defaults(tmp_path) -> None:
    sweep = loaded(tmp_path, HEAD + "parameters:\n" + ALL)
    models = [trial.config.model for trial in all_trials(sweep)]
    assert models == [ModelConfig(backbone=name) for name in BACKBONES.own]
    assert len({model.stages for model in models}) > 1
    assert len({model.temporal for model in models}) == 5
    assert len({model.kernel_size for model in models}) > 1
    assert len({model.dropout for model in models}) > 1
    again = load_sweep(written(tmp_path, json.dumps(sweep.resolved()), "again.yaml"))
    assert again.digest() == sweep.digest()
    assert [trial.config for trial in all_trials(again)] == [
        trial.config for trial in all_trials(sweep)
    ]


@pytest.mark.parametrize("backbone", BACKBONES.own)
@pytest.mark.parametrize(
    "searched",
    [
        "{}",
        "{model.temporal: [conv, ms_tcn]}",
        "{model.kernel_size: [3, 5]}",
        "{model.channels: [8, 16]}",
    ],
)
def test_the_resolved_form_is_valid(tmp_path, backbone: str, searched: str) -> None:
    sweep = checked_sweep(
        written(tmp_path, HEAD + f"model: {{backbone: {backbone}}}\nparameters: {searched}\n"),
        data=False,
    )
    again = checked_sweep(written(tmp_path, json.dumps(sweep.resolved()), "again.yaml"), data=False)
    assert again.digest() == sweep.digest()


def test_defaults_follow_what_else_is_searched(tmp_path) -> None:
    temporals = ("conv", "rep_tcn", "ms_tcn", "ms_tcn6", "dg_ms_tcn")
    text = (
        HEAD
        + "parameters:\n"
        + ALL
        + f"  model.temporal: [{', '.join(temporals)}]\n  model.stages: [[1, 1], [2, 1, 1]]\n"
    )
    models = [trial.config.model for trial in all_trials(loaded(tmp_path, text))]
    expected = [
        ModelConfig(backbone=name, temporal=temporal, stages=stages)
        for name, temporal, stages in product(BACKBONES.own, temporals, ((1, 1), (2, 1, 1)))
    ]
    assert models == expected
    assert {model.strides for model in models} == {(1, 2), (1, 2, 2)}


SEARCHED = {
    "normalised": (True, False),
    "adjacencies": (1, 5),
    "groups": (4, 8),
    "attention": (False, True),
    "convention": ("official", "pyskl"),
    "centre": ("root", 2),
    "adjacency": ("learned", "fixed"),
}


def test_options_without_effect_are_reset_and_make_no_further_trials(tmp_path) -> None:
    text = (
        HEAD
        + "parameters:\n"
        + ALL
        + "".join(f"  model.{name}: {json.dumps(values)}\n" for name, values in SEARCHED.items())
    )
    trials = all_trials(checked_sweep(written(tmp_path, text), data=False))
    for backbone in BACKBONES.own:
        own = [name for name in SEARCHED if name in BACKBONES.find(backbone).settings]
        found = [trial for trial in trials if trial.config.model.backbone == backbone]
        assert len(found) == 2 ** len(own)
        assert all(
            list(trial.proposal.assignment) == [f"model.{name}" for name in own] for trial in found
        )
        expected = [
            ModelConfig(backbone=backbone, **dict(zip(own, values, strict=True)))
            for values in product(*(SEARCHED[name] for name in own))
        ]
        assert [trial.config.model for trial in found] == expected


def test_plan_shows_every_backbone_with_its_own_options(tmp_path, store, capsys) -> None:
    text = HEAD.replace("nowhere", str(store)).replace(
        "frames: 16", "frames: 8, selection: {kind: clip, fraction: 0.3}"
    )
    text += (
        f"model: {{channels: 8}}\nparameters:\n  model.backbone: [{', '.join(BACKBONES.own)}]\n "
        " model.groups: [4, 8]\n  model.subsets: [3]\n"
    )
    sweep = checked_sweep(written(tmp_path, text))
    planned = plan(sweep)
    shown = {
        str(variant.settings["model.backbone"]): variant.settings for variant in planned.variants
    }
    assert list(shown) == list(BACKBONES.own)
    for name, settings in shown.items():
        model = ModelConfig(backbone=name)
        assert settings["model.temporal"] == model.temporal
        assert settings["model.kernel_size"] == model.kernel_size
        assert ("model.groups" in settings) == (name == "hpi_gcn_op")
        assert ("model.branches" in settings) == (model.temporal == "rep_tcn")
    print_plan(planned)
    printed = capsys.readouterr().out
    assert all(name in printed for name in BACKBONES.own)
    assert "hpi_gcn_op stages=3/3/3 temporal=rep_tcn kernel_size=5" in " ".join(printed.split())
