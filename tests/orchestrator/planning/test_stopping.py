"""What can be known of early stopping before a trial runs: comparisons that cannot be made, and
how much is expected to be left.
"""

import pytest

from orchestrator.planning.check import checked_sweep
from orchestrator.planning.stopping import SIZE_METRICS, EarlyStopping, _range, early_stopping
from orchestrator.trials.space import all_trials
from tests.orchestrator.sweep_files import written
from trainables.contract.errors import UserError

LAST_LINES = """\
train: {epochs: 20}
sparsity: {warmup: 0.5}
early_terminate: {type: asha}
"""
TEXT = f"""\
version: 1
name: small
data: {{store: nowhere, protocol: xsub}}
parameters:
  sparsity.level: [0, 0.8]
  train.lr: {{min: 0.1, max: 0.2}}
method: {{name: random, trials_per_cell: 9}}
{LAST_LINES}"""


def check(folder, *changes, text=TEXT):
    return checked_sweep(written(folder, text), changes, data=False)


WRONG = {
    "a rung beyond the epochs": (
        ("early_terminate: {type: asha}", "early_terminate: {type: asha, grace: 10}"),
        "early_terminate.grace: must leave an epoch after the first comparison, got 10 after the"
        " first 10 of 20 epochs (cell level0.8)",
    ),
    "no epoch left": (
        ("epochs: 20", "epochs: 2"),
        "early_terminate: of 2 epochs the first 1 count for no comparison, and the last is none:"
        " there is no other (cell level0.8)",
    ),
    "patience beyond the epochs": (
        ("{type: asha}", "{type: plateau, patience: 9}"),
        "early_terminate.patience: must leave an epoch after the first comparison, got 9 after the"
        " first 10 of 20 epochs (cell level0.8)",
    ),
    "epochs that do not count beyond the epochs, whatever follows": (
        ("{type: asha}", "{type: asha, min_epochs: 25, grace: 1}"),
        "early_terminate.min_epochs: must leave an epoch after the first comparison, got 25 of 20"
        " epochs (cell level0)",
    ),
    "no epoch left, whatever the grace": (
        (LAST_LINES, LAST_LINES.replace("20", "2").replace("asha", "asha, grace: 1")),
        "early_terminate: of 2 epochs the first 1 count for no comparison, and the last is none:"
        " there is no other (cell level0.8)",
    ),
    "epochs that do not count beyond the epochs": (
        ("{type: asha}", "{type: asha, min_epochs: 25}"),
        "early_terminate.min_epochs: must leave an epoch after the first comparison, got 25 of 20"
        " epochs (cell level0)",
    ),
    "before the masks are final": (
        ("{type: asha}", "{type: asha, min_epochs: 9}"),
        "early_terminate.min_epochs: must be at least 10, the epochs after which the masks are"
        " final (cell level0.8), got 9; before, all levels are the same dense network, which"
        " during_warmup: true lets it compare",
    ),
    "one trial per cell": (
        ("trials_per_cell: 9", "trials_per_cell: 1"),
        "early_terminate: asha compares trials of one cell and needs 2 in some cell to end one,"
        " but no cell has more than 1",
    ),
    "fewer trials than are kept": (
        ("{type: asha}", "{type: after_epochs, keep: 9}"),
        "early_terminate: after_epochs compares trials of one cell and needs 10 in some cell to"
        " end one, but no cell has more than 9",
    ),
    "fewer trials than the median waits for": (
        ("{type: asha}", "{type: median, min_trials: 9}"),
        "early_terminate: median compares trials of one cell and needs 10 in some cell to end"
        " one, but no cell has more than 9",
    ),
    "known at the end alone": (
        ("{type: asha}", "{type: asha}\nobjectives: [{metric: seconds, goal: minimize}]"),
        "objectives[0].metric: seconds is known at a trial's end alone, but early_terminate asha"
        " compares trials before; such a sweep may have train_loss, selection_loss,",
    ),
    "nothing that is learned": (
        ("{type: asha}", "{type: asha}\nobjectives: [{metric: params, goal: minimize}]"),
        "objectives: early_terminate asha compares what trials learn and needs one of train_loss,",
    ),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_comparisons_that_cannot_be_made_are_refused(tmp_path, case):
    (old, new), expected = WRONG[case]
    assert old in TEXT
    with pytest.raises(UserError) as caught:
        check(tmp_path, text=TEXT.replace(old, new))
    [problem] = caught.value.problems
    place, _, rule = problem.removeprefix(f"{tmp_path}/").partition(" ")
    assert place.startswith("s.yaml:1")
    assert rule.startswith(expected)


@pytest.mark.parametrize(
    "changes",
    [
        ["early_terminate.min_epochs=10"],
        ["early_terminate.min_epochs=2", "early_terminate.during_warmup=true"],
        ["early_terminate.min_epochs=2", "sparsity.warmup=0.0"],
        ["early_terminate={type: none}", "method.trials_per_cell=1"],
        ["early_terminate={type: none}", "objectives=[{metric: seconds, goal: minimize}]"],
        ["objectives=[{metric: train_loss, goal: minimize}, {metric: level, goal: maximize}]"],
    ],
)
def test_others_are_let_through(tmp_path, changes):
    check(tmp_path, *changes)


def test_contradicting_objectives_are_refused_whatever_stops_trials(tmp_path):
    one, other = "{metric: train_loss, goal: minimize}", "{metric: train_loss, goal: maximize}"
    for second, rule in ((other, "goal: contradicts the objective above"), (one, "metric: must")):
        with pytest.raises(UserError, match=rf"objectives\[1\]\.{rule}"):
            check(tmp_path, "early_terminate={type: none}", f"objectives=[{one}, {second}]")


def test_a_setting_that_is_not_given_changes_no_digest(tmp_path):
    plain = TEXT.replace("early_terminate: {type: asha}\n", "")
    digests = [
        check(tmp_path, text=text).digest()
        for text in (plain, plain + "early_terminate: {type: none}\n", TEXT)
    ]
    # the first is that of the version before there were rules
    assert digests[:2] == ["e1bf1630036e"] * 2
    assert digests[2] != digests[0]


def expected(folder, *changes, at_once=1):
    sweep = check(folder, *changes)
    return early_stopping(sweep, all_trials(sweep), at_once)


def test_rungs_survivors_and_epochs_are_a_range(tmp_path):
    assert [kind.points for kind in expected(tmp_path).kinds] == [(7,), (14,)]
    found = expected(tmp_path, "early_terminate.grace=1")
    dense, sparse = found.kinds
    assert (dense.points, sparse.points) == ((1, 3, 9), (11, 13, 19))
    assert (sparse.cells, sparse.trials, sparse.epochs) == (1, 9, 20)
    low, high = sparse.reach[0]
    assert 1 <= low <= 3.48 <= high <= 9  # the mean that the rule's docstring has
    assert all(a >= b for a, b in zip(sparse.reach, sparse.reach[1:], strict=False))
    assert 9 * 11 < sparse.spent[0] <= sparse.spent[1] < 9 * 20
    assert found.total == 2 * 9 * 20
    assert found.low == sum(kind.spent[0] for kind in found.kinds)


def test_after_epochs_side_by_side_keeps_as_many_as_it_says(tmp_path):
    change = "early_terminate={type: after_epochs, keep: 1, grace: 1}"
    for kind, point in zip(expected(tmp_path, change, at_once=9).kinds, (1, 11), strict=True):
        # all but the best end at the point, or an epoch later when a better one had come
        assert 8 * point + 20 <= kind.spent[0] <= kind.spent[1] <= 8 * (point + 1) + 20
        assert kind.reach[-1] == (1, 1)


def test_how_soon_curves_are_flat_is_not_known(tmp_path):
    found = expected(tmp_path, "early_terminate={type: plateau, patience: 2}")
    assert found.high == found.total > found.low


def test_trials_that_others_start_from_count_in_full(tmp_path):
    found = expected(tmp_path, "sparsity.from=dense", "early_terminate.grace=1")
    assert found.never == 9
    assert [kind.points for kind in found.kinds] == [(11, 13, 19)]
    assert found.low == 9 * 20 + found.kinds[0].spent[0]


def test_repeats_of_the_best_count_in_full(tmp_path):
    changes = ("method={name: tpe, trials_per_cell: 9}", "early_terminate.grace=1")
    once = expected(tmp_path, *changes)
    found = expected(tmp_path, *changes, "method.final_seeds=3")
    assert [kind.trials for kind in found.kinds] == [kind.trials for kind in once.kinds]
    assert (found.total, found.low) == (once.total + 2 * 2 * 20, once.low + 2 * 2 * 20)


def test_no_rule_is_no_expectation(tmp_path):
    assert expected(tmp_path, "early_terminate={type: none}") is None


def test_every_size_that_may_be_an_objective_is_known(tmp_path):
    from orchestrator.planning.sizes import Sizes

    sizes = Sizes.__new__(Sizes)
    assert set(SIZE_METRICS) == set(metrics_of(sizes, tmp_path))


def metrics_of(sizes, folder):
    from types import SimpleNamespace

    from trainables.layouts import load_layout

    info = SimpleNamespace(classes=("a", "b"), persons=1)
    sizes.__init__(SimpleNamespace(layout=load_layout("ucla20"), info=info))
    return sizes.metrics(all_trials(check(folder))[0].config)


def test_nine_in_ten_orders_lie_within_a_range():
    assert _range(list(range(100, -1, -1))) == (5, 95)
    assert _range([7]) == (7, 7)
    assert _range([1, 3]) == (1, 3)


def test_what_is_expected_in_words():
    found = EarlyStopping("asha", (), 0, 12_000, 14_000, 22_000)
    assert found.words == "12,000 to 14,000 of 22,000 epochs (55 to 64 %)"


@pytest.mark.parametrize(
    ("early", "words", "reach"),
    [
        (
            "{type: asha, grace: 1}",
            "140 to 228 of 360 epochs (39 to 63 %)",
            ((2, 6), (1, 4), (1, 4), (1, 4)),
        ),
        (
            "{type: after_epochs, keep: 2, grace: 3}",
            "216 to 288 of 360 epochs (60 to 80 %)",
            ((3, 6), (3, 6)),
        ),
        (
            "{type: median, grace: 2, min_trials: 3}",
            "230 to 360 of 360 epochs (64 to 100 %)",
            ((5, 8), (4, 8)),
        ),
    ],
)
def test_a_plan_says_the_same_in_every_version(tmp_path, early, words, reach):
    found = expected(tmp_path, f"early_terminate={early}", at_once=2)
    assert found.words == words
    assert [kind.reach for kind in found.kinds] == [reach, reach]
