"""Which nodes are given up: what failed there and got on elsewhere decides, never a trial's own
fault.
"""

from __future__ import annotations

import random
from collections import Counter
from statistics import median

import pytest

from orchestrator.tuning.failing_nodes import SUSPECTED_S, WITHIN_S, FailingNodes
from tests.orchestrator.tuning.breaking_cluster import BreakingCluster

NODES = ("a", "b", "c")
MOVED = "x a fails\nx b epoch\ny a fails\ny b epoch\n"
"""Two trials that failed on node `a` get on elsewhere: by chance, perhaps."""
WELL = "p b epoch\nq b epoch\nr b epoch\n"
AFTER = "x c epoch\ny a fails\ny c epoch\nz a fails\nz c epoch"
BOTH = "".join(f"{trial} {node} fails\n" for trial in "uvxyzt" for node in "ab")
"""Trials that fail on two nodes."""


def played(script, nodes=None):
    """What is decided on `trial node fails|epoch|ends` lines, one second after another."""
    watched, epochs = nodes or FailingNodes(), Counter()
    for now, line in enumerate(script.split("\n")):
        if not line.strip():
            continue
        trial, node, what = line.split()
        watched.started(trial, node)
        verdict = None
        if what == "fails":
            verdict = watched.failed(trial, float(now))
        elif what == "epoch":
            verdict = watched.got_on(trial, epochs[trial], float(now))
            epochs[trial] += 1
        else:
            watched.finished(trial)
        if verdict is not None:
            return verdict
    return None


@pytest.mark.parametrize(
    ("script", "node", "failures"),
    [
        (f"{MOVED}z a fails\nz c epoch", "a", {"x": 1, "y": 1, "z": 1}),
        # epochs there do not help it: its GPU fails after some
        (
            "z a epoch\nx a epoch\nx a fails\nx b epoch\ny a epoch\ny a fails\ny b epoch\n"
            "z a fails\nz b epoch",
            "a",
            {"x": 1, "y": 1, "z": 1},
        ),
        # in a row: as soon as that is no chance where others get on, one of these as well
        (f"{WELL}x a fails\ny a fails\nx b epoch\nz a fails", "a", {"x": 1, "y": 1, "z": 1}),
        (f"{WELL}x a fails\ny a fails\nz a fails\nx b epoch", "a", {"x": 1, "y": 1, "z": 1}),
        ("x a fails\ny a fails\nz a fails\nx b epoch", None, None),
        # they may be of one cell of a grid
        (f"{WELL}{WELL}x a fails\ny a fails\nz a fails\nu a fails\nw b epoch", None, None),
        (f"x a fails\n{MOVED}z a fails\nz b epoch", "a", {"x": 2, "y": 1, "z": 1}),
        # one trial alone proves nothing, nor does one that fails everywhere
        ("x a fails\nx a fails\nx a fails\nx a fails\nw b epoch", None, None),
        ("x a fails\nx b fails\ny a fails\ny b fails\nz a fails\nz b fails\nw c epoch", None, None),
        (MOVED, None, None),
        # two broken nodes do not absolve each other
        (f"{BOTH}u c epoch", "a", dict.fromkeys("uvxyzt", 1)),
        # one that turns out to be well absolves the other: the trials are at fault
        (f"{BOTH}w b epoch\nw c epoch", None, None),
        # one that was well once, and breaks, is found as well
        (f"w b epoch\n{BOTH}u c epoch", "b", dict.fromkeys("uvxyzt", 1)),
        # what was called a trial's own fault is its node's once the trial gets on elsewhere
        (f"v b epoch\nx a fails\nx b fails\n{AFTER}", "a", {"x": 1, "y": 1, "z": 1}),
        # nor do many failures while nothing gets on anywhere: it may be the storage
        ("x a fails\ny a fails\nz a fails\nw a fails", None, None),
        ("w b epoch\nx a fails\ny a fails\nz a fails", None, None),
        # a trial that finishes there takes one of them back
        (f"{MOVED}w a ends\nz a fails\nz b epoch", None, None),
        (
            f"{MOVED}w a ends\nz a fails\nz b epoch\nu a fails\nu b epoch",
            "a",
            {"y": 1, "z": 1, "u": 1},
        ),
        # an epoch there breaks a row
        ("x a fails\ny a fails\nw a epoch\nz a fails\nv b epoch", None, None),
    ],
)
def test_a_node_is_given_up_where_trials_fail_and_get_on_elsewhere(script, node, failures):
    verdict = played(script)
    assert (verdict and verdict.node) == node
    assert (verdict and verdict.failures) == failures


@pytest.mark.parametrize(("enough", "node"), [(2, "a"), (4, None), ("never", None)])
def test_how_many_trials_are_enough_is_asked(enough, node):
    watched = FailingNodes(enough)
    verdict = played(MOVED, watched)
    assert (verdict and verdict.node) == node
    if enough == "never":
        assert watched.avoided(4.0, lambda: NODES) == set()


def test_its_reason_is_in_words():
    verdict = played(f"x a fails\n{MOVED}z a fails\nz b epoch")
    assert verdict.reason == (
        "4 attempts of 3 trials failed there within 1 min, and trials get on elsewhere"
    )


def test_failures_of_long_ago_are_forgotten():
    watched = FailingNodes()
    for trial, now in (("x", 0.0), ("y", 1.0), ("z", WITHIN_S + 10.0)):
        watched.started(trial, "a")
        watched.failed(trial, now)
    watched.started("w", "b")
    assert watched.got_on("w", 0, WITHIN_S + 11.0) is None


@pytest.mark.parametrize("further", ["w", "xyz"])
def test_so_are_those_of_a_node_where_nothing_happens_since(further):
    watched = FailingNodes()
    played(f"{WELL}x a fails\ny a fails\nz a fails", watched)
    for trial in further:
        watched.started(trial, "b")
        assert watched.got_on(trial, 0, WITHIN_S + 11.0) is None


def test_what_still_runs_on_an_excluded_node_is_no_measure_for_others():
    """A trial of three fails on each of two nodes: three in a row are chance."""
    usual = "".join(
        f"{node}{number} {node} {'fails' if number % 3 == 2 else 'epoch'}\n"
        for number in range(9)
        for node in "bc"
    )
    verdicts = []
    for late in (False, True):
        watched = FailingNodes(excluded=["a"])
        assert played(usual, watched) is None
        for number in range(8 * late):
            watched.started(f"a{number}", "a")
            assert watched.got_on(f"a{number}", 5, 20.0 + number) is None
        for now, trial in enumerate("xyz", 30):
            watched.started(trial, "b")
            verdicts.append(watched.failed(trial, float(now)))
        watched.started("x", "c")
        verdicts.append(watched.got_on("x", 0, 40.0))
    assert verdicts == [None] * 8


def test_what_gets_further_on_an_excluded_node_did_not_fail_by_itself_elsewhere():
    watched, found = FailingNodes(2, excluded=["a"]), []
    for now, trial in enumerate("xy"):
        watched.started(trial, "b")
        watched.failed(trial, float(now))
        watched.started(trial, "a")
        found.append(watched.got_on(trial, 0, now + 0.5))
    assert [verdict and verdict.node for verdict in found] == [None, "b"]


def test_nothing_is_kept_of_trials_that_are_gone():
    watched = FailingNodes()
    played("w b epoch\nx a fails\ny b epoch\ny b fails", watched)
    watched.started("w", "b")
    watched.got_on("w", 3 * 10**6, WITHIN_S + 10.0)
    for trial in "wxy":
        watched.gone(trial)
    assert not any((watched._where, watched._last, watched._reached, watched._blamed))


def test_a_node_is_suspected_for_a_while_after_a_failure():
    watched = FailingNodes()
    watched.started("x", "a")
    watched.failed("x", 10.0)
    assert watched.avoided(11.0, lambda: NODES) == {"a"}
    assert watched.avoided(11.0, lambda: ["a"]) == set()  # there is no other
    assert watched.avoided(11.0 + SUSPECTED_S, lambda: NODES) == set()


def test_a_node_is_suspected_twice_as_long_for_every_failure_in_a_row():
    watched, suspected_s = FailingNodes(), []
    for _ in range(6):
        watched.started("x", "a")
        watched.failed("x", 0.0)
        suspected_s.append(
            next(now for now in range(999) if not watched.avoided(now, lambda: NODES))
        )
    assert suspected_s == [60, 120, 240, 480, 600, 600]
    watched.started("y", "a")
    watched.got_on("y", 0, 5.0)
    assert watched.avoided(64.0, lambda: NODES)
    assert not watched.avoided(65.0, lambda: NODES)  # an epoch ended there


def test_a_trial_that_fails_where_others_get_on_says_nothing_of_the_node_before():
    watched = FailingNodes()
    watched.started("w", "b")
    watched.got_on("w", 0, 1.0)
    for now, node in ((10.0, "a"), (11.0, "b"), (12.0, "c")):
        watched.started("x", node)
        watched.failed("x", now)
    assert watched.avoided(12.0, lambda: NODES) == {"b"}


def test_epochs_that_are_done_again_prove_nothing():
    """A trial that fails in its second epoch everywhere, after a checkpoint of its first that was
    not written.
    """
    watched = FailingNodes()
    for trial in "xyz":
        for now, node in enumerate("abc"):
            watched.started(trial, node)
            assert watched.got_on(trial, 0, 10.0 + now) is None
            assert watched.failed(trial, 10.0 + now) is None


@pytest.mark.parametrize(("epoch_s", "suspected_s"), [(1.0, 60.0), (600.0, 900.0)])
def test_all_waiting_follows_the_length_of_epochs(epoch_s, suspected_s):
    watched = FailingNodes()
    watched.started("w", "b")
    for epoch in range(3):
        watched.got_on("w", epoch, epoch * epoch_s)
    began = 3 * epoch_s
    watched.started("x", "a")
    watched.failed("x", began)
    assert watched.avoided(began + suspected_s - 1.0, lambda: NODES) == {"a"}
    assert watched.avoided(began + suspected_s + 1.0, lambda: NODES) == set()
    found = []
    for number, trial in enumerate("xyz"):  # each fails on `a` and gets on elsewhere, rarely
        now = began + number * 10.0 * max(epoch_s, 120.0)
        watched.started(trial, "a")
        first = watched.failed(trial, now)
        watched.started(trial, "b")
        found.append(first or watched.got_on(trial, 0, now + epoch_s))
    assert [verdict is not None for verdict in found] == [False, False, epoch_s > 1.0]


def test_some_node_is_always_left():
    watched = FailingNodes(excluded=["a", "b"])
    assert watched.avoided(0.0, lambda: NODES) == {"a", "b"}
    assert watched.avoided(0.0, lambda: ["a", "b"]) == set()
    watched.started("x", "c")
    watched.failed("x", 1.0)
    assert watched.avoided(2.0, lambda: NODES) == {"a", "b"}


def test_where_nobody_knows_the_node_nothing_is_decided():
    watched = FailingNodes()
    for now, trial in enumerate("xyz"):
        watched.started(trial, None)
        assert watched.failed(trial, float(now)) is None
        assert watched.got_on(trial, 0, float(now)) is None
    assert watched.avoided(3.0, lambda: NODES) == set()


@pytest.mark.parametrize("broken", ["a", "ab"])
@pytest.mark.parametrize("seed", range(20))
def test_a_broken_node_is_found_and_no_other_whatever_trials_fail_by_themselves(seed, broken):
    """Some nodes fail every attempt; some trials fail wherever they are."""
    rng, watched, now, found = random.Random(seed), FailingNodes(), 0.0, []
    hopeless = {f"t{number}" for number in range(120) if rng.random() < 0.1}
    for number in range(120):
        trial = f"t{number}"
        for _ in range(4):
            now += rng.uniform(1.0, 20.0)
            free = [node for node in NODES if node not in watched.avoided(now, lambda: NODES)]
            node = rng.choice(free)
            watched.started(trial, node)
            if node in broken or trial in hopeless:
                found.append(watched.failed(trial, now))
                continue
            found.append(watched.got_on(trial, 0, now))
            watched.finished(trial)
            break
    assert sorted(verdict.node for verdict in found if verdict) == list(broken)


@pytest.mark.parametrize("epoch_s", [30.0, 600.0])
@pytest.mark.parametrize(
    ("broken", "how", "hopeless", "cell", "missed", "usual", "may_lose"),
    [
        (0, "start", 0.1, 0.0, 0, 0, 0),
        (0, "start", 0.3, 0.0, 0, 0, 0),
        (0, "start", 0.0, 0.1, 0, 0, 0),
        (0, "start", 0.0, 0.3, 0, 0, 0),
        (1, "start", 0.1, 0.0, 0, 9, 0.02),
        (1, "late", 0.1, 0.0, 0, 8, 0.02),
        (1, "start", 0.0, 0.2, 0.1, 8, 0.07),
        (1, "late", 0.0, 0.2, 0, 10, 0.02),
        (2, "start", 0.1, 0.0, 0.05, 8, 0.11),
        (2, "late", 0.1, 0.0, 0, 7, 0.03),
        (2, "half", 0.1, 0.0, 0.2, 27, 0.02),
    ],
)
def test_in_a_cluster_broken_nodes_are_found_and_no_others(
    epoch_s, broken, how, hopeless, cell, missed, usual, may_lose
):
    """missed: share of the broken nodes that failed often and were kept, at most. usual: how many
    failures it takes, the median, at most. may_lose: share of the trials.
    """
    found, kept, lost = [], 0, 0
    trials = 200 if how == "half" else 60
    for seed in range(20):
        cluster = BreakingCluster(
            seed,
            FailingNodes(),
            broken=broken,
            epoch_s=epoch_s,
            hopeless=hopeless,
            how=how,
            cell=cell,
            trials=trials,
        )
        measured = cluster.run()
        assert measured.wronged == []
        found += measured.found.values()
        kept += sum(failures >= 6 for failures in measured.missed.values())
        lost += measured.lost
    assert kept <= missed * 20 * broken
    assert lost <= may_lose * 20 * trials
    assert not found or median(found) <= usual


@pytest.mark.parametrize("epoch_s", [30.0, 600.0])
def test_where_epochs_fail_by_chance_most_sweeps_keep_all_nodes(epoch_s):
    """Each with 3 %, on any node."""
    wronged = 0
    for seed in range(20):
        cluster = BreakingCluster(
            seed,
            FailingNodes(),
            broken=0,
            epoch_s=epoch_s,
            hopeless=0.0,
            how="start",
            chance=0.03,
        )
        wronged += bool(cluster.run().wronged)
    assert wronged <= 6
