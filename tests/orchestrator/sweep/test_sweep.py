"""The sweep file: what it may say, what it means, and every way of saying it wrong."""

from __future__ import annotations

import json
import re
from functools import cache

import jsonschema
import pytest
import yaml

from orchestrator.planning.check import checked_sweep
from orchestrator.sweep import load_sweep, shipped
from orchestrator.sweep.json_schema import sweep_schema
from orchestrator.sweep.leaves import LEAVES
from orchestrator.trials.cells import expand
from orchestrator.trials.space import all_trials
from tests.orchestrator.sweep_files import SMALL, loaded, problems, written


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
        "--set sparsity.lvl: unknown key, did you mean 'level'?",
        "--set train.epochs: must be at least 1, got 0",
        (
            "--set parameters.train.lr.max parameters.train.lr: needs min and max, but min is not"
            " given"
        ),
    ]
    [item] = problems(tmp_path, SMALL, "parameters.data.stream=[joint, bon]")
    assert item.startswith("--set parameters.data.stream[1]: must be one of joint, bone, ")
    assert problems(tmp_path, SMALL, "data.stream=bone", "name.x=3") == [
        "--set name.x: name is 'small', which has no 'x'",
        (
            "--set data.stream: has no effect beside parameters.data.stream; use --set"
            " parameters.data.stream=..."
        ),
    ]


@cache
def validator() -> jsonschema.Draft7Validator:
    """Of sweep files."""
    return jsonschema.Draft7Validator(sweep_schema())


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_search_spaces_load_and_follow_the_schema(name: str) -> None:
    sweep = checked_sweep(name, data=False)
    assert sweep.name == name
    assert all_trials(sweep)
    validator().validate(yaml.safe_load(sweep.text))
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
        {"method": {"name": "hyperband"}},
    ):
        assert not checker.is_valid(good | wrong)
    properties = sweep_schema()["$defs"]["ModelConfig"]["properties"]
    assert properties["channels"]["description"].startswith("width of the first stage")
    assert set(sweep_schema()["properties"]["parameters"]["properties"]) == set(LEAVES)
