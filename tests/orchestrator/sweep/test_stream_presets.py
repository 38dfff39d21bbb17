"""`data.stream: {preset: ...}`: the streams that papers combine, by name."""

from __future__ import annotations

import json

import pytest

from orchestrator.sweep import load_sweep
from orchestrator.sweep.json_schema import sweep_schema
from orchestrator.sweep.presets import PRESETS
from orchestrator.trials.space import all_trials
from tests.orchestrator.sweep_files import loaded, problems, written
from trainables.contract.config import STREAM_PRESETS, STREAMS

HEAD = "version: 1\nname: small\ndata: {store: nowhere, protocol: xsub, frames: 16}\nparameters:\n"


def test_presets_are_sets_of_known_streams() -> None:
    assert all(
        len(set(streams)) == len(streams) and set(streams) <= set(STREAMS)
        for streams in STREAM_PRESETS.values()
    )
    assert set(PRESETS["infogcn"].weights) == set(STREAM_PRESETS["infogcn"])
    assert set(PRESETS["hpi_gcn"].weights) == set(STREAM_PRESETS["hpi_code"])
    assert set(PRESETS["pyskl"].weights) == set(STREAM_PRESETS["pyskl"])


def test_infogcn_weighs_positions_above_motions() -> None:
    preset = PRESETS["infogcn"]
    assert preset.combine == "logits"
    assert preset.weights == {
        name: 1.0 if STREAMS[name].motion else 1.5 for name in STREAM_PRESETS["infogcn"]
    }
    assert {(STREAMS[name].hops, STREAMS[name].motion) for name in preset.weights} == {
        (k, m) for k in (0, 1, 2) for m in (False, True)
    }


@pytest.mark.parametrize("name", sorted(STREAM_PRESETS))
@pytest.mark.parametrize("axis", ["", ", axis: cell"])
def test_a_preset_is_its_streams(tmp_path, name: str, axis: str) -> None:
    ensembles = (
        "ensembles: [{name: all, over: data.stream, method: weights, weights:"
        f" {'hpi_gcn' if name == 'hpi_code' else name}}}]\n"
    )
    sweep = loaded(tmp_path, f"{HEAD}  data.stream: {{preset: {name}{axis}}}\n{ensembles}")
    spelled = loaded(
        tmp_path, f"{HEAD}  data.stream: [{', '.join(STREAM_PRESETS[name])}]\n{ensembles}"
    )
    assert sweep.digest() == spelled.digest()
    assert sweep.parameters["data.stream"].axis == "cell"
    assert [trial.config.data.stream for trial in all_trials(sweep)] == list(STREAM_PRESETS[name])
    assert (
        load_sweep(written(tmp_path, json.dumps(sweep.resolved()), "again.yaml")).digest()
        == sweep.digest()
    )


def test_a_preset_may_be_searched_within_a_cell(tmp_path) -> None:
    assert (
        loaded(tmp_path, f"{HEAD}  data.stream: {{preset: pyskl, axis: trial}}\n")
        .parameters["data.stream"]
        .axis
        == "trial"
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "data.stream: {preset: pyskel}",
            (
                "data.stream.preset: must be hpi_code, infogcn or pyskl, got 'pyskel', did you mean"
                " 'pyskl'?"
            ),
        ),
        ("data.stream: {preset: [joint]}", "data.stream.preset: must be text, got ['joint']"),
        (
            "data.stream: {preset: pyskl, values: [joint]}",
            (
                "data.stream: must give one of value, values, preset or min and max, got values and"
                " preset"
            ),
        ),
        ("data.stream: {preset: pyskl, step: 1}", "data.stream.step: has no meaning beside preset"),
        (
            "model.groups: {preset: pyskl}",
            "model.groups.preset: is a set of streams: only data.stream has presets",
        ),
        (
            "model.groups: {axis: cell}",
            "model.groups: must give one of value, values or min and max, got none of them",
        ),
    ],
)
def test_wrong_presets_are_one_line(tmp_path, text: str, problem: str) -> None:
    assert problems(tmp_path, f"{HEAD}  {text}\n") == [f"s.yaml:5 parameters.{problem}"]


def test_the_schema_knows_presets() -> None:
    assert sweep_schema()["$defs"]["ParameterSpec"]["properties"]["preset"]["enum"] == list(
        STREAM_PRESETS
    )
