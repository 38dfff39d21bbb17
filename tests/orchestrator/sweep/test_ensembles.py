"""The ensembles of a sweep file: what they may say, how they are completed, what is the default."""

from __future__ import annotations

import json

import pytest

from orchestrator.planning.plan import ensemble_count
from orchestrator.sweep import load_sweep
from tests.orchestrator.sweep_files import SMALL, loaded, problems, written


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
        assert again.ensembles[-1].is_default_choice


def test_settings_of_ensembles_that_came_later_change_no_digest(tmp_path) -> None:
    """The digests that these files had when an ensemble had neither budgets nor several axes."""
    text = SMALL + "ensembles: [{name: a, over: data.stream, method: mean}]\n"
    assert loaded(tmp_path, text).digest() == "71c196887afa"
    assert loaded(tmp_path, SMALL).digest() == "e847e216b914"
