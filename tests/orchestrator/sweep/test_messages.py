"""Every way of saying a sweep wrong is one message that names the place, the rule and the value."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.sweep import load_sweep
from orchestrator.sweep.problems import nearest
from tests.orchestrator.sweep_files import SMALL, loaded, problems
from trainables.contract.errors import UserError

# Place, rule, value, nearest name.
GOLDEN = {
    "misspelt key": (
        "train: {epochs: 2}",
        "train: {epoch: 2}",
        ["s.yaml:8 train.epoch: unknown key, did you mean 'epochs'?"],
    ),
    "misspelt section": (
        "model:",
        "modle:",
        ["s.yaml:7 modle: unknown key, did you mean 'model'?"],
    ),
    "misspelt leaf": (
        "data.stream",
        "data.straem",
        ["s.yaml:5 parameters.data.straem: unknown parameter, did you mean 'data.stream'?"],
    ),
    "level of 60": (
        "[0, 0.8]",
        "[0, 60]",
        ["s.yaml:6 parameters.sparsity.level[1]: must be less than 1 or learned, got 60"],
    ),
    "misspelt value": (
        "[joint, bone]",
        "[joint, bne]",
        [
            "s.yaml:5 parameters.data.stream[1]: must be one of joint, bone, joint_motion,"
            " bone_motion, joint_hop1, bone_hop1, joint_hop2, bone_hop2, infogcn_hop1,"
            " infogcn_hop2, infogcn_hop1_motion, infogcn_hop2_motion or a record, got 'bne', did"
            " you mean 'bone'?"
        ],
    ),
    "unknown metric": (
        "train:",
        "objectives: [{metric: selection_top_1, goal: maximize}]\ntrain:",
        [
            "s.yaml:8 objectives[0].metric: must be a metric that trials report, got"
            " 'selection_top_1', did you mean 'selection_top1'?"
        ],
    ),
    "duplicate key": (
        "name: small",
        "name: small\nname: other",
        ["s.yaml:3 name: duplicate key, first given at s.yaml:2"],
    ),
    "old boolean": (
        "[joint, bone]",
        "[joint, on]",
        [
            "s.yaml:5 parameters.data.stream[1]: must be true or false, or quoted if text is meant,"
            " got on"
        ],
    ),
    "text for a number": (
        "epochs: 2",
        "epochs: '2'",
        ["s.yaml:8 train.epochs: must be a whole number, got '2'"],
    ),
    "fraction for a whole number": (
        "epochs: 2",
        "epochs: 2.5",
        ["s.yaml:8 train.epochs: must be a whole number, got 2.5"],
    ),
    "boolean for a number": (
        "epochs: 2",
        "epochs: true",
        ["s.yaml:8 train.epochs: must be a whole number, got true"],
    ),
    "missing": (", protocol: xsub", "", ["s.yaml:3 data.protocol: required, but not given"]),
    "a name of each kind": (
        "train:",
        "method: {name: hyperband, startup: 5}\nearly_terminate: {type: ashaa, eta: 3}\ntrain:",
        [
            (
                "s.yaml:8 method.name: must be grid, random, qmc, tpe, gp, nsga2, auto or"
                " package.module:NAME, got 'hyperband'"
            ),
            (
                "s.yaml:9 early_terminate.type: must be none, asha, median, plateau or"
                " after_epochs, got 'ashaa', did you mean 'asha'?"
            ),
        ],
    ),
    "union": (
        "train:",
        "sparsity: {penalty_weight: rampp}\nresources: {gpus: 1.5}\ntrain:",
        [
            (
                "s.yaml:8 sparsity.penalty_weight: must be ramp or a number, got 'rampp', did you"
                " mean 'ramp'?"
            ),
            "s.yaml:9 resources.gpus: must be a fraction up to 1 or a whole number, got 1.5",
        ],
    ),
    "grid over a range": (
        "  sparsity.level: [0, 0.8]",
        "  train.lr: {min: 0.1, max: 0.2}",
        [
            "s.yaml:6 parameters.train.lr: a grid needs values, this is a range; give values or use"
            " method random"
        ],
    ),
    "two clip sets": (
        "  sparsity.level: [0, 0.8]",
        "  data.protocol: [xsub, xview]",
        [
            "s.yaml:6 parameters.data.protocol: cannot be searched: all trials of a sweep are"
            " trained and scored on the same clips"
        ],
    ),
    "what changes no result": (
        "  sparsity.level: [0, 0.8]",
        "  data.residence: [host, mmap]",
        ["s.yaml:6 parameters.data.residence: cannot be searched: it changes no result"],
    ),
    "where trials branch": (
        "  sparsity.level: [0, 0.8]",
        "  sparsity.branch_at: [auto, 1]",
        ["s.yaml:6 parameters.sparsity.branch_at: cannot be searched: it changes no result"],
    ),
    "what changes results by rounding": (
        "  sparsity.level: [0, 0.8]",
        "  train.fast: [auto, 'off']",
        ["s.yaml:6 parameters.train.fast: cannot be searched: it changes results by rounding only"],
    ),
    "which kernels train": (
        "  sparsity.level: [0, 0.8]",
        "  train.sparse_kernels: [auto, 'off']",
        [
            "s.yaml:6 parameters.train.sparse_kernels: cannot be searched: it changes results by"
            " rounding only"
        ],
    ),
    "repeated value": (
        "[0, 0.8]",
        "[0, 0.0]",
        ["s.yaml:6 parameters.sparsity.level[1]: must not repeat a value, got 0.0"],
    ),
    "range the wrong way round": (
        "[0, 0.8]",
        "{min: 0.9, max: 0.2, axis: trial}",
        ["s.yaml:6 parameters.sparsity.level.max: must be greater than min = 0.9, got 0.2"],
    ),
    "constraints": (
        "train:",
        (
            "constraints:\n  - model.chanels > 4\n  - open('x')\n  - {metric: latency_ms, max:"
            " 3}\ntrain:"
        ),
        [
            "s.yaml:9 constraints[0]: unknown leaf 'model.chanels', did you mean 'model.channels'?",
            (
                "s.yaml:10 constraints[1]: must be made of names, numbers, text, + - * / // %,"
                " comparisons, and, or, not, but holds open('x')"
            ),
            (
                "s.yaml:11 constraints[2].metric: must be a metric that trials report, got"
                " 'latency_ms', did you mean 'deploy_latency_ms'?"
            ),
        ],
    ),
    "limits that no trial can keep": (
        "train:",
        (
            "constraints:\n  - {metric: deploy_gmacs, max: 2, min: 3}\n"
            "  - {metric: params, min: 9}\n  - {metric: params, max: 9}\n"
            "  - {metric: params, max: 8.5}\ntrain:"
        ),
        [
            "s.yaml:9 constraints[0]: no trial can keep it: deploy_gmacs would be at least 3 and"
            " at most 2",
            "s.yaml:12 constraints[3]: no trial can keep it: params would be at least 9 and at most"
            " 8.5",
        ],
    ),
    # what follows from a method is not judged where the method is wrong
    "a slip in the method": (
        "  sparsity.level: [0, 0.8]",
        (
            "  train.lr: {min: 0.1, max: 0.2}\n"
            "ensembles: [{name: s, method: mean, over: seed}]\n"
            "method: {name: tpe, trials_per_cell: 5, final_seeds: 0}"
        ),
        ["s.yaml:8 method.final_seeds: must be at least 1, got 0"],
    ),
    "a search that would never learn": (
        "  sparsity.level: [0, 0.8]",
        (
            "  train.lr: {min: 0.1, max: 0.2}\n"
            "method: {name: tpe, trials_per_cell: 5, startup_trials: 5}"
        ),
        [
            "s.yaml:7 method.startup_trials: must be less than trials_per_cell (5): tpe learns"
            " nothing before so many trials of a cell have ended, got 5"
        ],
    ),
    "both reports": (
        "train:",
        "final: {protocol_report: [held_out, paper]}\ntrain:",
        [
            "s.yaml:8 final.protocol_report: must be held_out or paper: they train on different"
            " clips; run two sweeps for both, got ['held_out', 'paper']"
        ],
    ),
    "fraction of nothing": (
        "data: {store: nowhere,",
        "data: {selection: {kind: none, fraction: 0.2, seed: 7}, store: nowhere,",
        [
            "s.yaml:3 data.selection.fraction: has no effect where kind is none, got 0.2; leave"
            " it out"
        ],
    ),
    "seed of nothing": (
        "data: {store: nowhere,",
        "data: {selection: {kind: protocol, seed: 3}, store: nowhere,",
        ["s.yaml:3 data.selection.seed: has no effect where kind is protocol, got 3; leave it out"],
    ),
    "orientation without hops": (
        "[joint, bone]",
        "[joint, {bone: true, orientation: child_parent}]",
        [
            "s.yaml:5 parameters.data.stream[1].orientation: has no effect at hops 0, got"
            " 'child_parent'; leave it out"
        ],
    ),
    "paper report with a selection split": (
        "train:",
        "final: {protocol_report: [paper]}\ntrain:",
        ["s.yaml:8 final.protocol_report: paper needs data.selection.kind none, got ['paper']"],
    ),
}


@pytest.mark.parametrize("case", sorted(GOLDEN))
def test_messages(tmp_path, case: str) -> None:
    old, new, expected = GOLDEN[case]
    text = SMALL.replace("train: {epochs: 2, milestones: [1]}", "train: {epochs: 2}")
    assert old in text
    found = problems(tmp_path, text.replace(old, new))
    assert sorted(found) == sorted(expected)


def test_all_problems_at_once_from_top_to_bottom(tmp_path) -> None:
    text = (
        SMALL.replace("small", "a b")
        .replace("[joint, bone]", "[joint, 3]")
        .replace("epochs: 2", "epochs: 0")
        + "budget: 8\n"
    )
    lines = [int(problem.split(":")[1].split()[0]) for problem in problems(tmp_path, text)]
    assert lines == [2, 5, 8, 9]


def test_not_yaml_and_not_there(tmp_path) -> None:
    with pytest.raises(
        UserError, match=r"s.yaml:2: not valid YAML: mapping values are not allowed"
    ):
        loaded(tmp_path, "a: 1\nb: c: d\n")
    with pytest.raises(UserError, match="must be a mapping"):
        loaded(tmp_path, "- 1\n")
    with pytest.raises(UserError, match="it is not there"):
        load_sweep(tmp_path / "other.yaml")
    with pytest.raises(UserError, match="did you mean 'quickstart'"):
        load_sweep("quikstart")
    with pytest.raises(UserError, match=r"^quickstart \(shipped\):\d+ data\.selection\.fraction: "):
        load_sweep("quickstart", ["data.selection.kind=none"])
    with pytest.raises(UserError, match="alias must not contain itself"):
        loaded(tmp_path, SMALL + "budget: &a {hours: *a}\n")


LAUGHS = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 8)}]\n" for i in range(12)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 20_000, "x.yaml:1: not valid YAML: it is nested too deeply"),
        (b"a: " + b"[" * 300 + b"]" * 300, "x.yaml:1: not valid YAML: it is nested too deeply"),
        (LAUGHS.encode(), "there must be at most 100000 values, those of aliases among them"),
        (b"# " + b"x" * (1 << 20), "must be a sweep file of at most 1048576 bytes, got more"),
        (b"a: \xff", "must be a sweep file, but byte 3 is not text in utf-8"),
        (b"name: x\ntrials: " + b"1" * 5000, "trials"),
    ],
)
def test_hostile_files_are_one_message(tmp_path, content: bytes, message: str) -> None:
    file = tmp_path / "x.yaml"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_sweep(file)
    with pytest.raises(UserError, match="must be a sweep file, but it cannot be read: File name"):
        load_sweep(Path("x" * 300))
    with pytest.raises(UserError, match="must be a sweep file, but it is a folder"):
        load_sweep(tmp_path)


def test_a_name_cut_short_means_the_one_that_goes_on_from_it():
    known = ["name", "startup_trials", "trials_per_cell", "seeds", "final_seeds"]
    assert nearest("trials", known) == ", did you mean 'trials_per_cell'?"
    assert nearest("final", ["final_seeds", "final_epochs", "finals"]) == ", did you mean 'finals'?"
    assert nearest("fin", ["fin_seeds"]) == nearest("xyz", known) == ""
