"""The sweep file: what it may say, what it means, and every way of saying it wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import yaml

from orchestrator.planning.check import checked_sweep
from orchestrator.planning.plan import ensemble_count
from orchestrator.sweep import load_sweep, shipped
from orchestrator.sweep.constraints import holds, leaf_names
from orchestrator.sweep.ensembles import is_default_choice
from orchestrator.sweep.json_schema import sweep_schema
from orchestrator.sweep.leaves import DECIDING, LEAVES, UNUSED_WHEN, leaves_of, nest
from orchestrator.trials.cells import expand
from orchestrator.trials.space import all_trials
from tests.orchestrator.sweep_files import SMALL, loaded, problems, written
from trainables.contract.config import TrialConfig
from trainables.contract.errors import UserError


def test_defaults_are_filled_in(tmp_path) -> None:
    sweep = loaded(tmp_path, SMALL)
    assert sweep.cell_axes == ("data.stream", "sparsity.level")
    assert sweep.parameters["sparsity.level"].values == (0.0, 0.8)
    assert (sweep.objectives[0].metric, sweep.objectives[0].goal) == ("selection_top1", "maximize")
    assert [(e.name, e.over, e.per, e.from_) for e in sweep.ensembles] == [
        ("multi_level", "sparsity.level", ("data.stream",), ()),
        ("final", "data.stream", (), ("multi_level",)),
        ("greedy", ("data.stream", "sparsity.level"), (), ()),
    ]
    assert sweep.ensembles[-1].budget.given == {"nonzero_params": "1x"}
    assert sweep.final.protocol_report == ("held_out",)
    assert (sweep.tracking.uri, sweep.tracking.experiment, sweep.storage) == (
        "sqlite:///mlflow.db",
        "small",
        "runs",
    )
    assert (sweep.model.channels, sweep.train.epochs, sweep.train.lr) == (8, 2, 0.1)


def test_resolved_form_is_a_file_with_the_same_digest(tmp_path) -> None:
    text = (
        SMALL + "method: {name: random, trials_per_cell: 3}\nconstraints: [train.lr < 1, {metric:"
        " deploy_latency_ms, max: 45}]\n"
    )
    sweep = loaded(
        tmp_path,
        text,
        "parameters.train.lr={min: 1e-3, max: 0.1}",
        "parameters.model.stages=[[1], [1, 1]]",
    )
    again = load_sweep(written(tmp_path, json.dumps(sweep.resolved()), "again.yaml"))
    assert again.resolved() == sweep.resolved()
    assert again.digest() == sweep.digest() != loaded(tmp_path, text).digest()
    assert len(sweep.digest()) == 12


@pytest.mark.parametrize(
    ("form", "values", "axis"),
    [
        ("[5, 9]", (5, 9), "trial"),
        ("{values: [5, 9]}", (5, 9), "trial"),
        ("{values: [9], axis: cell}", (9,), "cell"),
    ],
)
def test_forms_of_a_searched_parameter(
    tmp_path, form: str, values: tuple[int, ...], axis: str
) -> None:
    parameter = loaded(tmp_path, SMALL, f"parameters.model.kernel_size={form}").parameters[
        "model.kernel_size"
    ]
    assert (parameter.values, parameter.axis) == (values, axis)


@pytest.mark.parametrize("form", ["9", "{value: 9}"])
def test_a_fixed_parameter_replaces_the_section(tmp_path, form: str) -> None:
    sweep = loaded(tmp_path, SMALL + "", f"parameters.model.kernel_size={form}")
    assert sweep.model.kernel_size == 9
    assert "model.kernel_size" not in sweep.parameters


def test_axis_trial_takes_a_level_out_of_the_cells(tmp_path) -> None:
    sweep = loaded(tmp_path, SMALL, "parameters.sparsity.level={values: [0.6, 0.8], axis: trial}")
    assert sweep.cell_axes == ("data.stream",)
    assert sweep.searched == ("sparsity.level",)
    assert [e.name for e in sweep.ensembles] == ["final", "greedy"]


def test_a_list_leaf_is_fixed_by_a_list_and_searched_by_lists(tmp_path) -> None:
    assert loaded(tmp_path, SMALL, "parameters.model.stages=[2, 1]").model.stages == (2, 1)
    assert loaded(tmp_path, SMALL, "parameters.model.stages=[[2], [1, 1]]").parameters[
        "model.stages"
    ].values == ([2], [1, 1])


def test_a_stream_may_be_a_record(tmp_path) -> None:
    assert (
        loaded(tmp_path, SMALL, "parameters.data.stream={bone: true, hops: 3}").data.stream_name
        == "bone_hop3_parent_children"
    )
    values = (
        loaded(tmp_path, SMALL, "parameters.data.stream=[joint, {hops: 3}]")
        .parameters["data.stream"]
        .values
    )
    assert values == (
        "joint",
        {"bone": False, "motion": False, "hops": 3, "orientation": "parent_children"},
    )


@pytest.mark.parametrize(
    ("form", "distribution"),
    [
        ("train.lr={min: 0.01, max: 0.2}", "uniform"),
        ("train.lr={distribution: log_uniform, min: 1e-2, max: 2.0e-1}", "log_uniform"),
        ("sparsity.warmup={min: 0.2, max: 0.8}", "uniform"),  # a share of the epochs
        ("sparsity.warmup={min: 5, max: 20}", "int_uniform"),  # epochs
        ("sparsity.warmup={distribution: log_uniform, min: 0.2, max: 0.8}", "log_uniform"),
        ("train.epochs={min: 2, max: 9}", "int_uniform"),
    ],
)
def test_ranges(tmp_path, form: str, distribution: str) -> None:
    name = form.partition("=")[0]
    sweep = loaded(
        tmp_path, SMALL, f"parameters.{form}", "method={name: random, trials_per_cell: 2}"
    )
    assert sweep.parameters[name].distribution == distribution


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 1e-3), ("1.0e0", 1.0), ("1", 1.0), (".5", 0.5), ("+2.5E-1", 0.25)]
)
def test_numbers_as_people_write_them(tmp_path, text: str, value: float) -> None:
    assert (
        loaded(
            tmp_path,
            SMALL + f"\nsparsity: {{warmup: 0.5}}\nresources: {{per_trial_memory_gb: {text}}}",
        ).resources.per_trial_memory_gb
        == value
    )


def test_variables(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("WHERE", "/mnt")
    monkeypatch.setenv("EMPTY", "")
    text = SMALL.replace("nowhere", "${WHERE}/${NOT_THERE:-a}/${EMPTY:-b}").replace(
        "epochs: 2", "epochs: ${NOT_THERE:-3}"
    )
    sweep = loaded(tmp_path, text + "# ${ONLY_IN_A_COMMENT}\n")
    assert sweep.data.store == "/mnt/a/b"
    assert sweep.train.epochs == 3
    assert problems(tmp_path, SMALL.replace("nowhere", "${NOT_THERE}")) == [
        "s.yaml:3 data.store: environment variable NOT_THERE is not set; set it or write"
        " ${NOT_THERE:-default}"
    ]


def test_overrides_say_where_they_come_from(tmp_path) -> None:
    assert loaded(tmp_path, SMALL, "train.epochs=7", "data.selection.kind=clip").train.epochs == 7
    assert problems(
        tmp_path,
        SMALL,
        "train.epochs=0",
        "parameters.train.lr.max=1",
        "sparsity={lvl: 1}",
        "nothing",
    ) == [
        "--set nothing: must be of the form a.b=value",
        "--set sparsity sparsity.lvl: unknown key, did you mean 'level'?",
        "--set train.epochs: must be at least 1, got 0",
        (
            "--set parameters.train.lr.max parameters.train.lr: needs min and max, but min is not"
            " given"
        ),
    ]
    assert problems(tmp_path, SMALL, "data.stream=bone", "name.x=3") == [
        "--set name.x: name is 'small', which has no 'x'",
        (
            "--set data.stream: has no effect beside parameters.data.stream; use --set"
            " parameters.data.stream=..."
        ),
    ]


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
        "method: {name: tpe, startup: 5}\nearly_terminate: {type: ashaa, eta: 3}\ntrain:",
        [
            "s.yaml:8 method.name: must be grid, random or package.module:NAME, got 'tpe'",
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


def test_without_selection_split_the_last_epoch_counts(tmp_path) -> None:
    text = SMALL.replace("frames: 16", "frames: 16, selection: {kind: none}")
    sweep = loaded(tmp_path, text)
    assert sweep.train.keep == "last"
    assert (sweep.objectives[0].metric, sweep.objectives[0].goal) == ("train_loss", "minimize")
    assert sweep.final.protocol_report == ("paper",)
    wrong = [
        "train.keep=best",
        "objectives=[{metric: selection_loss, goal: minimize}]",
        "final={protocol_report: [held_out]}",
    ]
    assert len(problems(tmp_path, text, *wrong)) == 3


@pytest.mark.parametrize(
    ("ensemble", "message"),
    [
        (
            "{name: a, over: data.steam}",
            (
                "over: must be a cell axis of its sources (data.stream, sparsity.level), did you"
                " mean 'data.stream'?"
            ),
        ),
        (
            "{name: a, over: data.stream, per: [data.stream]}",
            "per[0]: must not be the axis that is combined (over)",
        ),
        (
            "{name: a, over: data.stream, from: [b]}",
            "from[0]: must name an ensemble above it, got 'b'",
        ),
        (
            "{name: a, over: data.stream, method: gredy, budget: 3}",
            "method: must be mean, weights, greedy, simplex, stacking, temperature or"
            " package.module:NAME, got 'gredy', did you mean 'greedy'?",
        ),
        (
            "{name: a, over: data.stream, method: 'no_such_package.votes:CARD'}",
            (
                "method: strategy no_such_package.votes:CARD: must be importable, but there is no"
                " module no_such_package; install its package"
            ),
        ),
        ("{name: a, over: data.stream, options: {k: 3}}", "options.k: unknown key"),
        ("{name: a, over: data.stream, method: weights}", "weights: method weights needs them"),
        (
            "{name: a, over: data.stream, weights: {joint: 1, bone: 1}}",
            "weights: have no meaning for method mean",
        ),
        (
            "{name: a, over: data.stream, method: weights, weights: {joint: 1, bon: 1}}",
            "weights.bon: must be a value of data.stream",
        ),
        (
            "{name: a, over: data.stream, method: weights, weights: {joint: 1}}",
            "weights: must give at least two values",
        ),
        (
            "{name: a, over: data.stream, method: weights, weights: pskl}",
            "weights: must be hpi_gcn, pyskl, ctr_gcn, infogcn, hd_gcn or equal",
        ),
        (
            "{name: a, over: sparsity.level, method: weights, weights: pyskl}",
            "weights: preset pyskl has no weight for 0, 0.8",
        ),
        (
            "{name: a, over: [data.stream, data.steam]}",
            "over[1]: must be a cell axis of its sources (data.stream, sparsity.level), did you",
        ),
        ("{name: a, over: [data.stream, data.stream]}", "over[1]: must name each axis once"),
        ("{name: a, over: []}", "over: must be text or must not be empty"),
        (
            "{name: a, over: seed}",
            "over: combines several seeds of a network, but method.seeds is 1",
        ),
        (
            "{name: a, over: [data.stream, sparsity.level], method: weights, weights: pyskl}",
            "weights: are per value of one axis: combine one axis after the other (from)",
        ),
        (
            "{name: a, over: data.stream, budget: {nonzero_params: 0.66y}}",
            "budget.nonzero_params: must be a number above 0, or a share of the dense network's"
            " such as 0.66x, got '0.66y'",
        ),
        (
            "{name: a, over: data.stream, budget: {latency_ms: 0}}",
            "budget.latency_ms: must be a number above 0, or a share of the dense network's such"
            " as 0.66x, got 0",
        ),
        ("{name: a, over: data.stream, budget: {bytes: 0x}}", "budget.bytes: must be a number"),
        (
            "{name: a, over: data.stream, budget: {members: 2.5}}",
            "budget.members: must be a whole number, got 2.5",
        ),
        (
            "{name: a, over: data.stream, budget: {nonzero_parms: 1x}}",
            "budget.nonzero_parms: unknown key, did you mean 'nonzero_params'?",
        ),
        (
            "{name: a, over: data.stream, budget: {members: 2},"
            " method: 'tests.orchestrator.ensembling.test_strategies:BEST'}",
            "budget: method best cannot keep a budget",
        ),
        (
            "{name: a, over: data.stream, method: greedy, options: {cap: 0.4}}",
            "options.cap: must be at least 1 / 2 with 2 families, got 0.4",
        ),
        (
            "{name: a, over: sparsity.level, method: greedy, options: {cap: 0.5}}",
            "options.cap: must be at least 1 / 1 with 1 families, got 0.5",
        ),
        (
            "{name: a, over: data.stream, method: greedy, options: {cap: 0.5, rounds: 1}}",
            "options.cap: must be at least 1 / 1 with 1 rounds, or more rounds, got 0.5",
        ),
        *(
            (
                f"{{name: a, over: data.stream, method: {method}, combine: normalised, options:"
                " {temperature: true}}",
                "options.temperature: must be false where normalised logits are summed",
            )
            for method in ("greedy", "simplex")
        ),
        (
            "{name: a, over: data.stream, method: temperature, combine: normalised}",
            "combine: must not be normalised for method temperature",
        ),
    ],
)
def test_wrong_ensembles(tmp_path, ensemble: str, message: str) -> None:
    found = problems(tmp_path, SMALL + f"ensembles: [{ensemble}]\n")
    assert found[0].startswith(f"s.yaml:9 ensembles[0].{message}")


def test_ensembles_are_completed(tmp_path) -> None:
    text = """
        ensembles:
          - {name: levels, over: sparsity.level, method: weights, weights: {0.80: 1, 0: 2}}
          - {name: streams, from: [levels], over: data.stream, method: weights, weights: hpi_gcn}
          - name: soft
            over: data.stream
            method: weights
            weights: hpi_gcn
            combine: probabilities
    """
    levels, streams, soft = loaded(
        tmp_path, SMALL + "\n".join(line[8:] for line in text.splitlines())
    ).ensembles
    assert levels.weights == {"0.8": 1.0, "0": 2.0}
    assert (levels.per, streams.per, soft.per) == (("data.stream",), (), ("sparsity.level",))
    assert (streams.combine, soft.combine) == ("logits", "probabilities")


def test_several_axes_and_seeds_are_combined(tmp_path) -> None:
    text = """
ensembles:
  - {name: seeds, over: seed}
  - {name: flat, over: [sparsity.level, data.stream]}
  - {name: by_seed, over: [sparsity.level, data.stream], per: [seed]}
  - {name: then_seeds, from: [by_seed], over: seed, budget: {members: 8, bytes: .5x, latency_ms: 3}}
"""
    sweep = loaded(tmp_path, SMALL + "method: {name: grid, seeds: 3}" + text)
    seeds, flat, by_seed, then_seeds = sweep.ensembles
    assert seeds.per == ("data.stream", "sparsity.level")
    assert (flat.per, flat.axes) == ((), ("sparsity.level", "data.stream"))
    assert (by_seed.per, then_seeds.per) == (("seed",), ())
    assert then_seeds.budget.given == {"members": 8, "bytes": ".5x", "latency_ms": 3.0}
    again = load_sweep(written(tmp_path, json.dumps(sweep.resolved()), "again.yaml"))
    assert (again.ensembles, again.digest()) == (sweep.ensembles, sweep.digest())
    assert ensemble_count(sweep) == 4 + 1 + 3 + 1


@pytest.mark.parametrize(
    ("overrides", "names", "budget"),
    [
        (["data.selection.kind=none", "train.keep=last"], ["multi_level", "final"], None),
        (["parameters.sparsity.level=[0]"], ["final", "greedy"], "1x"),
        (["parameters.sparsity.level=0"], ["final", "greedy"], None),
        (["parameters.sparsity.level=0.8"], ["final", "greedy"], "1x"),
        (["parameters={model.backbone: [st_gcn, aa_gcn]}"], ["greedy"], None),
        (["parameters={data.stream: [joint]}"], [], None),
    ],
)
def test_what_is_chosen_by_default(tmp_path, overrides, names, budget) -> None:
    """Where nothing is held out nothing is chosen; only sparse networks are kept within the size of
    a dense one.
    """
    sweep = loaded(tmp_path, SMALL, *overrides)
    assert [each.name for each in sweep.ensembles] == names
    if "greedy" in names:
        assert sweep.ensembles[-1].budget.nonzero_params == budget
        again = load_sweep(written(tmp_path, json.dumps(sweep.resolved()), "again.yaml"))
        assert again.digest() == sweep.digest()
        assert is_default_choice(again.ensembles[-1])


def test_settings_of_ensembles_that_came_later_change_no_digest(tmp_path) -> None:
    """The digests that these files had when an ensemble had neither budgets nor several axes."""
    text = SMALL + "ensembles: [{name: a, over: data.stream, method: mean}]\n"
    assert loaded(tmp_path, text).digest() == "71c196887afa"
    assert loaded(tmp_path, SMALL).digest() == "e847e216b914"


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
    with pytest.raises(UserError, match="alias must not contain itself"):
        loaded(tmp_path, SMALL + "budget: &a {hours: *a}\n")


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_search_spaces_load_and_follow_the_schema(name: str) -> None:
    sweep = checked_sweep(name, data=False)
    assert sweep.name == name
    assert all_trials(sweep)
    jsonschema.Draft7Validator(sweep_schema()).validate(yaml.safe_load(sweep.text))
    lines = [line for line in sweep.text.splitlines() if "orchestrate " in line]
    assert lines
    assert all(re.match(r" *#   orchestrate \w+ [^#]+$", line) for line in lines), lines


@pytest.mark.parametrize(
    ("table", "rows"),
    [("table1", 18), ("table2", 6), ("table3", 4), ("table4", 3), ("table5", 5)],
)
def test_nothing_competes_in_the_tables_of_the_first_paper(table: str, rows: int) -> None:
    sweep = checked_sweep(f"hpi_gcn_{table}", data=False)
    assert len(all_trials(sweep)) == len(expand(sweep)) == rows


def test_schema_refuses_what_the_command_refuses() -> None:
    checker = jsonschema.Draft7Validator(sweep_schema())
    checker.check_schema(sweep_schema())
    good = yaml.safe_load(SMALL)
    checker.validate(good)
    for wrong in (
        {"modle": {}},
        {"parameters": {"model.group": 3}},
        {"objectives": [{"metric": "x", "goal": "maximize"}]},
        {"method": {"name": "tpe"}},
    ):
        assert not checker.is_valid(good | wrong)
    properties = sweep_schema()["$defs"]["ModelConfig"]["properties"]
    assert properties["channels"]["description"].startswith("width of the first stage")
    assert set(sweep_schema()["properties"]["parameters"]["properties"]) == set(LEAVES)


def test_leaves_are_the_whole_trial_configuration() -> None:
    config = TrialConfig.model_validate({"data": {"store": "s", "protocol": "p"}})
    written = config.model_dump(mode="json")
    written["model"]["options"] = {}  # a file does not speak of options where there are none
    assert nest(leaves_of(config)) | {"seed": 0} == written
    assert UNUSED_WHEN.keys() < LEAVES.keys()


def test_the_leaves_that_decide_what_is_used_are_listed() -> None:
    read = set()

    class Leaves(dict):
        def __getitem__(self, name):
            read.add(name)
            return super().__getitem__(name)

    sparse = {"data": {"store": "s", "protocol": "p"}, "sparsity": {"level": 0.5}}
    for useless in UNUSED_WHEN.values():
        useless(Leaves(leaves_of(TrialConfig.model_validate(sparse))))
    assert read == {*DECIDING, "data.selection.kind"}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("model.channels % model.groups == 0", True),
        ("not model.channels // 5 == 3", True),
        ("1 < model.groups <= 8 and -model.groups < 0", True),
        ("data.stream == 'bone' or model.channels / 3 > 30", False),
        ("model.channels - 2 * model.groups + 1 != 49", False),
    ],
)
def test_expressions(expression: str, expected: bool) -> None:
    leaves = {"model.channels": 64, "model.groups": 8, "data.stream": "joint"}
    assert holds(expression, leaves) is expected
    assert set(leaf_names(expression)) <= set(leaves)


@pytest.mark.parametrize(
    "expression",
    [
        "f(1)",
        "a.b[0] > 1",
        "2 ** 9",
        "(lambda: 1)",
        "x if y else z",
        "a.b +",
        "[1] == [1]",
        "'a'.upper",
    ],
)
def test_expressions_that_are_refused(expression: str) -> None:
    with pytest.raises(ValueError, match="must"):
        leaf_names(expression)


def test_expressions_without_a_value() -> None:
    with pytest.raises(ValueError, match=r"has no value for data.stream='joint'"):
        holds("data.stream < 3", {"data.stream": "joint"})


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
