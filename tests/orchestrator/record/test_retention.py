"""Which checkpoints may go, whatever the order in which trials end, and how they go."""

import random
from dataclasses import replace

import pytest

from orchestrator.record.choice import allowed, by_assignment, order
from orchestrator.record.retention import (
    checkpoint_files,
    may_go,
    remove_checkpoint,
    remove_unneeded,
    unneeded_of_sweep,
)
from orchestrator.record.states import TrialState
from orchestrator.trials.proposed import Proposal
from tests.orchestrator.fake_run import SELECTION, Trial, make_run, make_sweep, result_of
from trainables.contract import locks
from trainables.contract.artifacts import TrialDir


def state(name, errors=None, *, cell="c", lr=0.1, seed=0, after=(), ending=None, latency=1.5):
    """errors: of a finished trial, on the selection clips."""
    proposal = Proposal(name, cell, {}, {"train.lr": lr}, seed, after)
    if errors is None:
        return TrialState(proposal, ending)
    made = Trial("joint", 0.0, wrong_selection=tuple(range(errors)), latency=latency)
    made.name = name
    return TrialState(proposal, "finished", result_of(made))


def gone(states, policy, sweep=None):
    return set(unneeded_of_sweep(states, sweep or make_sweep(), policy))


DIFFERENT = [
    state("a", 3, lr=1),
    state("b", 1, lr=2),
    state("c", 2, lr=3),
    state("waits", lr=4),
    state("stopped", lr=5, ending="interrupted"),
    state("failed", lr=6, ending="failed"),
    state("pruned", lr=7, ending="pruned"),
    state("withdrawn", lr=8, ending="discarded"),
    state("other", 9, cell="d"),
]


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("all", set()),
        ("best_per_cell", {"a", "c", "pruned", "withdrawn"}),
        ("none", {"a", "b", "c", "other", "pruned", "withdrawn"}),
    ],
)
def test_what_may_go_by_policy(policy, expected):
    assert gone(DIFFERENT, policy) == expected


def test_the_best_is_what_objectives_and_limits_choose():
    states = [state("quick", 5, lr=1, latency=1.0), state("slow", 1, lr=2, latency=9.0)]
    assert gone(states, "best_per_cell") == {"quick"}
    limited = make_sweep(limits=({"metric": "deploy_latency_ms", "max": 2.0},))
    assert gone(states, "best_per_cell", limited) == {"slow"}
    quick = make_sweep(objectives=(("deploy_latency_ms", "minimize"),))
    assert gone(states, "best_per_cell", quick) == {"slow"}


def test_an_assignment_is_judged_once_its_seeds_have_ended():
    first, second = state("a0", 1, lr=1), state("a1", lr=1, seed=1)
    other = [state("b0", 2, lr=2), state("b1", 2, lr=2, seed=1)]
    assert gone([first, second, *other], "best_per_cell") == {"b1"}
    bad = state("a1", 9, lr=1, seed=1)
    assert gone([first, bad, *other], "best_per_cell") == {"a0", "a1", "b1"}
    # a single value that may be a lucky one does not compare
    assert gone([first, state("a1", lr=1, ending="failed"), *other], "best_per_cell") == {
        "a0",
        "b1",
    }


def test_what_may_be_repeated_with_other_seeds_stays():
    sweep = make_sweep(final_seeds=2)
    before = [state("a0", 3, lr=1), state("a1", 3, lr=1, seed=1), state("b0", 5, lr=2)]
    assert gone(before, "best_per_cell", sweep) == {"a1", "b0"}
    # the sweep was extended: a better one has a single seed yet
    better = [*before, state("c0", 1, lr=3)]
    assert gone(better, "best_per_cell", sweep) == {"a1", "b0"}
    repeated = [*better, state("c1", 2, lr=3, seed=1)]
    assert gone(repeated, "best_per_cell", sweep) == {"a0", "a1", "b0", "c1"}


def test_the_second_best_stays_while_repeats_may_bring_the_best_outside_a_limit():
    limits = ({"metric": "deploy_latency_ms", "max": 2.0},)
    sweep = make_sweep(final_seeds=2, limits=limits)
    others = [state("b0", 2, lr=2), state("c0", 3, lr=3)]
    best = state("a0", 1, lr=1, latency=1.9)
    assert gone([best, *others], "best_per_cell", sweep) == {"c0"}
    repeat = state("a1", 1, lr=1, seed=1, latency=2.5)
    states = [best, repeat, others[0]]
    found = min(
        allowed(by_assignment((each.proposal, each.result) for each in states), sweep),
        key=lambda each: order(each, sweep),
    )
    assert found[0][0].trial == "b0"
    assert gone(states, "best_per_cell", sweep) == {"a0", "a1"}
    within = state("a1", 1, lr=1, seed=1, latency=2.0)
    assert gone([best, within, *others], "best_per_cell", sweep) == {"a1", "c0"}


@pytest.mark.parametrize("policy", ["best_per_cell", "none"])
def test_the_weights_that_others_start_from_stay(policy):
    dense = [state("d0", 4, cell="dense", lr=1), state("d1", 2, cell="dense", lr=2)]
    sparse = state("s", 1, cell="sparse", after=("d0", "d1"))
    worse = replace(dense[1], proposal=replace(dense[1].proposal, cell="dense2"))
    assert "d1" not in gone([*dense, sparse], policy)
    assert "d1" not in gone([dense[0], worse, sparse], policy)
    only = make_sweep(limits=({"metric": "selection_top1", "max": 1 - 3 / SELECTION},))
    # it is outside the limits, and yet what others start from
    assert "d1" not in gone([*dense, sparse], policy, only)


@pytest.mark.parametrize("seed", range(40))
def test_whoever_ends_later_no_checkpoint_is_missed(seed):
    """Trials end one by one, in any order and way: what went stays unneeded, and at the end the
    best of each cell and what others start from are there.
    """
    chance = random.Random(seed)
    sweep = make_sweep(
        objectives=(("selection_top1", "maximize"), ("deploy_latency_ms", "minimize")),
        limits=({"metric": "deploy_latency_ms", "max": 2.5},),
    )
    names = [(cell, lr, number) for cell in "xy" for lr in range(3) for number in range(2)]
    after = tuple(f"x{lr}{number}" for _, lr, number in names[:6])
    waiting = [
        state(f"{cell}{lr}{number}", cell=cell, lr=lr, seed=number, after=after * (cell == "y"))
        for cell, lr, number in names
    ]
    states = {each.proposal.trial: each for each in waiting}
    chance.shuffle(waiting)
    went: set[str] = set()
    for each in waiting:
        name, proposal = each.proposal.trial, each.proposal
        ended = state(name, chance.randrange(6), latency=chance.choice([1.0, 2.0, 3.0]))
        states[name] = (
            replace(ended, proposal=proposal)
            if chance.random() < 0.8
            else TrialState(proposal, chance.choice(["failed", "pruned", "interrupted"]))
        )
        now = gone(list(states.values()), "best_per_cell", sweep)
        assert went <= now
        went = now
    for cell in "xy":
        finished = [
            (each.proposal, each.result)
            for each in states.values()
            if each.result is not None and each.proposal.cell == cell
        ]
        ended_ones = [
            candidate
            for candidate in by_assignment(finished)
            if all(
                other.ended
                for other in states.values()
                if other.proposal.assignment == candidate[0][0].assignment
                and other.proposal.cell == cell
            )
        ]
        best = min(allowed(ended_ones, sweep), key=lambda c: order(c, sweep), default=None)
        assert best is None or best[0][0].trial not in went
    dense = [(s.proposal, s.result) for s in states.values() if s.result and s.proposal.cell == "x"]
    if dense:
        assert min(dense, key=lambda each: order([each], sweep))[0].trial not in went


@pytest.fixture
def folder(tmp_path):
    """A finished trial with a checkpoint."""
    made = Trial("joint", 0.0)
    found = TrialDir(make_run(tmp_path, [made]) / "trials" / made.name)
    found.checkpoint_file.parent.mkdir()
    names = ("last.pt", "best.pt", "next.best.pt", ".last.pt.0123abcd.partial")
    for name in names:
        found.checkpoint_file.with_name(name).write_bytes(b"12345")
    return found


def test_a_checkpoint_goes_with_what_a_killed_process_left_of_it(folder):
    kept = {path: path.read_bytes() for path in folder.path.iterdir() if path.is_file()}
    assert remove_checkpoint(folder) == 20
    assert not folder.checkpoint_file.parent.exists()
    assert {path: path.read_bytes() for path in kept} == kept
    assert remove_checkpoint(folder) == 0


def test_what_is_not_ours_stays(folder):
    for name in ("mine.pt", "last.pt.bak", "best.pt.partial"):
        folder.checkpoint_file.with_name(name).write_bytes(b"mine")
    assert remove_checkpoint(folder) == 20
    left = sorted(path.name for path in folder.checkpoint_file.parent.iterdir())
    assert left == ["best.pt.partial", "last.pt.bak", "mine.pt"]


def test_a_checkpoint_folder_that_lies_elsewhere_is_left_alone(folder, tmp_path):
    folder.checkpoint_file.parent.rename(tmp_path / "elsewhere")
    folder.checkpoint_file.parent.symlink_to(tmp_path / "elsewhere")
    assert remove_checkpoint(folder) == 0
    assert (tmp_path / "elsewhere" / "best.pt").is_file()


def test_killed_at_any_moment_the_weights_that_ship_are_right_or_gone(folder, monkeypatch):
    """`last.pt` alone would be taken for what a trial ships that keeps its best epoch."""
    unlinked, original = [], type(folder.path).unlink

    def unlink(path, **options):
        original(path, **options)
        unlinked.append(path.name)
        assert folder.best_file.is_file() or not folder.checkpoint_file.is_file()

    monkeypatch.setattr(type(folder.path), "unlink", unlink)
    remove_checkpoint(folder)
    assert unlinked[-1] == "best.pt"


def test_a_trial_that_its_process_still_holds_is_left_alone(folder):
    with locks.held(folder.path, patience=0.0, busy="busy"):
        assert remove_checkpoint(folder) == 0
    assert len(checkpoint_files(folder)) == 4


def test_a_checkpoint_that_cannot_be_removed_is_said_and_stays(folder, monkeypatch, caplog):
    def refuse(path, **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(folder.path), "unlink", refuse)
    name = folder.path.name
    ended = state(name, 1)
    assert remove_unneeded(folder.path.parent.parent, {name: ended}) == []
    assert "its checkpoint stays" in caplog.text


def test_weights_of_a_dense_trial_wait_for_the_tracker(folder):
    ended, run = state(folder.path.name, 1), folder.path.parent.parent
    assert may_go(ended, run, lambda trial: True)
    assert not may_go(ended, run, lambda trial: False)
    sparse = folder.load_config().model_copy(
        update={"sparsity": folder.load_config().sparsity.model_copy(update={"level": 0.6})}
    )
    folder.config_file.write_text(sparse.model_dump_json())
    assert may_go(ended, run, lambda trial: False)
    folder.config_file.write_text("cut sho")
    assert not may_go(ended, run, lambda trial: False)
