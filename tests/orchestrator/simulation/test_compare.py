"""Ways to run a sweep held against each other."""

import json
import sys
from dataclasses import replace

import pytest

from orchestrator.cli.commands.sweeps import main
from orchestrator.planning.check import checked_sweep
from orchestrator.simulation.compare import compare
from orchestrator.simulation.curves import save_curves
from orchestrator.simulation.ways import ways_of
from orchestrator.trials.space import all_trials
from tests.orchestrator.simulation.made_curves import made_curves
from tests.orchestrator.sweep_files import written
from trainables.contract.errors import UserError

TEXT = """\
version: 1
name: small
data: {store: nowhere, protocol: xsub}
parameters:
  sparsity.level: [0.6, 0.99]
  train.lr: [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08]
train: {epochs: 20}
early_terminate: {type: asha}
"""


def shape(trial):
    return 1 - trial.config.train.lr, 2.0


@pytest.fixture
def load(tmp_path):
    path = written(tmp_path, TEXT)
    return lambda changes: checked_sweep(path, list(changes), data=False)


def outcomes(load, *, methods=(), stops=(), workers=4, repeat=1, curves=None):
    ways, _ = ways_of(load, methods, stops)
    curves = curves or made_curves(all_trials(load(())), shape)
    return {each.name: each for each in compare(ways, curves, workers, repeat)}


def test_the_files_own_way_stands_beside_the_plain_ones_and_what_is_asked_for(load):
    found = outcomes(load, methods=["random"], stops=["median", "{type: asha, eta: 4}"])
    assert list(found) == [
        "the file's own",
        "random to the end",
        "random + after_epochs",
        "random + median",
        "random + {type: asha, eta: 4}",
    ]
    whole = found["random to the end"]
    assert (whole.trials, whole.stopped, whole.epochs, whole.seconds) == (16, 0, 320, 80.0)
    assert (whole.regret, whole.worst_regret, whole.own_curves) == (0.0, 0.0, 1.0)
    assert set(whole.best) == {"level0.6", "level0.99"}
    own = found["the file's own"]
    assert (own.trials, own.stopped) == (16, 14)  # the grid begins with the best
    assert own.epochs == 2 * 20 + 14 * 15


def test_regret_is_the_distance_to_the_best_that_was_recorded(load):
    curves = made_curves(all_trials(load(())), shape)
    few = ["parameters.train.lr=[0.06, 0.07, 0.08]"]
    found = outcomes(lambda changes: load([*few, *changes]), curves=curves)["random to the end"]
    best = {curve.cell: [] for curve in curves}
    for curve in curves:
        best[curve.cell].append(curve.result.selection_top1)
    expected = [max(values) - found.best[cell] for cell, values in best.items()]
    assert found.regret == pytest.approx(sum(expected) / 2)
    assert found.worst_regret == pytest.approx(max(expected))
    assert all(value > 0 for value in expected)


def test_it_is_said_how_many_trials_have_a_curve_of_their_own(load):
    curves = made_curves(all_trials(load(["parameters.train.lr=[0.01, 0.02]"])), shape)
    assert outcomes(load, curves=curves)["random to the end"].own_curves == 0.25


def test_a_cell_without_a_finished_trial_is_as_far_as_its_worst(load):
    [_, whole, *_] = ways_of(load, (), ())[0]
    first = {cell: [] for cell in ("level0.6", "level0.99")}
    for curve in made_curves(all_trials(whole.sweep), shape):
        first[curve.cell].append(curve.result.selection_top1)
    one = outcomes(load, workers=1)["random to the end"]
    # a quarter of the epochs is four trials of sixteen, in turn of each cell
    regrets = [max(values) - max(values[:2]) for values in first.values()]
    assert one.early_regret == pytest.approx(sum(regrets) / 2)
    assert max(max(values[:1]) for values in first.values()) < max(map(max, first.values()))
    far = outcomes(load, workers=16)["random to the end"]
    values = [1 - lr for lr in (0.01, 0.08)]
    scale = 1 - 2.718281828 ** (-8 / 2.0)
    assert far.early_regret == pytest.approx((values[0] - values[1]) * scale, rel=1e-3)


def test_repetitions_draw_anew_and_medians_are_shown(load):
    change = ["method={name: random, trials_per_cell: 2}"]
    curves = made_curves(all_trials(load(())), shape)

    def own(seed, repeat):
        changes = [*change, f"method.seed={seed}"]
        found = outcomes(lambda more: load([*changes, *more]), repeat=repeat, curves=curves)
        return found["random to the end"]

    single = sorted(own(seed, 1).regret for seed in range(3))
    assert own(0, 3).regret == single[1]
    assert len(set(single)) > 1


def test_limits_on_metrics_hold_for_what_is_best(load):
    limit = "constraints=[{metric: selection_top1, max: 0.95}]"
    found = outcomes(lambda changes: load([limit, *changes]))["random to the end"]
    assert all(value <= 0.95 for value in found.best.values())
    assert found.regret == 0.0
    with pytest.raises(UserError, match="within the limits"):
        outcomes(lambda changes: load([limit.replace("0.95", "0.1"), *changes]))


def test_of_what_is_minimised_the_smallest_is_the_best_and_is_shown_as_reported(load):
    goal = "objectives=[{metric: train_loss, goal: minimize}]"
    curves = [
        replace(each, result=each.result.model_copy(update={"train_loss": each.leaves["train.lr"]}))
        for each in made_curves(all_trials(load(())), shape)
    ]
    few = ["parameters.train.lr=[0.03, 0.05]", goal]
    found = outcomes(lambda changes: load([*few, *changes]), curves=curves)["random to the end"]
    assert found.best == {"level0.6": 0.03, "level0.99": 0.03}
    assert found.regret == pytest.approx(0.03 - 0.01)


def test_searches_that_make_trials_one_by_one_are_played_too(load):
    method = "{name: qmc, trials_per_cell: 3}"
    found = outcomes(lambda changes: load([f"method={method}", *changes]), curves=None)
    own = found["the file's own"]
    assert (own.trials, set(own.best)) == (6, {"level0.6", "level0.99"})
    assert own.own_curves < 1


def test_sizes_among_the_objectives_are_known_while_trials_run(load):
    goals = "{metric: selection_top1, goal: maximize}, {metric: params, goal: minimize}"
    found = outcomes(lambda changes: load([f"objectives=[{goals}]", *changes]))
    assert found["the file's own"].stopped == outcomes(load)["the file's own"].stopped > 0


@pytest.mark.parametrize(
    ("methods", "stops", "problem"),
    [
        (["bayes"], (), "--method: must be grid, random"),
        ((), ["{type: asha, grace: 100}"], "--stop early_terminate.grace: must leave an epoch"),
    ],
)
def test_what_is_asked_for_wrongly_is_named_by_its_option(load, methods, stops, problem):
    with pytest.raises(UserError) as caught:
        ways_of(load, methods, stops)
    assert str(caught.value).startswith(problem)


def test_a_plain_way_that_the_sweep_cannot_take_is_left_out_with_its_reason(load):
    changes = ["early_terminate={type: none}", "parameters.train.lr=[0.01]"]
    ways, reason = ways_of(lambda more: load([*changes, *more]), (), ())
    assert [way.name for way in ways] == ["the file's own", "random to the end"]
    # what is typed nowhere is not called so
    assert reason.startswith("random + after_epochs is left out: early_terminate")


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["orchestrate", "simulate", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code or 0, *capsys.readouterr()


def test_the_command_prints_a_table_or_json(load, tmp_path, monkeypatch, capsys):
    curves = tmp_path / "c.parquet"
    save_curves(made_curves(all_trials(load(())), shape), curves)
    given = (str(tmp_path / "s.yaml"), "--curves", str(curves), "--workers", "4")
    code, out, _ = run(monkeypatch, capsys, *given)
    assert code == 0
    assert "random + after_epochs" in out
    assert "Best selection_top1 by cell" in out
    code, out, _ = run(monkeypatch, capsys, *given, "--json", "--stop", "{type: median}")
    rows = json.loads(out)
    assert [row["name"] for row in rows][-1] == "grid + {type: median}"
    code, _, err = run(monkeypatch, capsys, *given, "--stop", "ashaa")
    assert (code, err.count("\n")) == (2, 1)
    assert "did you mean 'asha'?" in err
    code, _, err = run(monkeypatch, capsys, *given, "--set", "train.epochs=9")
    assert code == 2
    assert "train.epochs is 20 in the curves and 9 in the sweep" in err
