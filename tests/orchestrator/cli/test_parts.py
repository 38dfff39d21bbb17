"""`orchestrate check`: a line per law, and how it ends."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from tests.orchestrator.in_process import run_captured
from trainables.laws import backbone
from trainables.laws.law import Law, require

OUTSIDE = Path(__file__).parents[2] / "outside"


@pytest.fixture
def check(monkeypatch, capsys):
    """Run `orchestrate check` under two laws of our own: (exit code, stdout, stderr)."""
    monkeypatch.syspath_prepend(OUTSIDE)
    few = Law(
        "looks few hops ahead",
        lambda model: require(model.get("options", {}).get("hops", 2) < 3, "3 hops are many"),
    )
    monkeypatch.setattr(backbone, "CARD_LAWS", (Law("has a name", lambda model: None),))
    monkeypatch.setattr(backbone, "LAWS", (few,))

    return partial(run_captured, capsys, "check")


def test_every_law_has_a_line(check):
    code, out, err = check("backbone", "hop_mixer.card:CARD")
    assert (code, err) == (0, "")
    assert out.splitlines() == ["ok      has a name", "ok      looks few hops ahead"]


def test_a_broken_law_says_why_and_the_command_ends_with_4(check):
    code, out, err = check("backbone", "hop_mixer.card:CARD", "--set", "model.options={hops: 3}")
    assert (code, err) == (4, "backbone hop_mixer.card:CARD breaks 1 of 2 laws\n")
    assert out.splitlines()[1] == "failed  looks few hops ahead: 3 hops are many"


def test_verdicts_as_json(check):
    code, out, _ = check("backbone", "st_gcn", "--json")
    assert code == 0
    assert json.loads(out)[0] == {"law": "has a name", "kept": True, "reason": ""}


def test_a_strategy_is_held_to_laws_with_its_options(check):
    code, out, err = check("strategy", "choices.best_half:CARD", "--json")
    assert (code, err) == (0, "")
    assert {"law": "answers the same twice", "kept": True, "reason": ""} in json.loads(out)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["search", "gird"], "or package.module:NAME, got 'gird', did you mean 'grid'?"),
        (["reader", "walk", "."], "PART: must be package.module:NAME, got 'walk'"),
        (["reader", "walks.card:CARD", "nowhere"], "SAMPLE: nowhere must be there, but it is not"),
        (["strategy", "mean", "--with", "{a: 1}"], "--with: options a: Extra inputs are not"),
        (["strategy", "mean", "--with", "[1]"], "--with: must be a mapping, {setting: value}"),
        (["generator", "magnitud"], "PART: must be "),
    ],
)
def test_other_kinds_that_cannot_be_checked_end_with_2(check, arguments, problem):
    code, out, err = check(*arguments)
    assert (code, out) == (2, "")
    assert problem in err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["no_such.net:CARD"], "PART: backbone no_such.net:CARD: must be importable, but there is"),
        (["st_gc"], "or package.module:NAME, got 'st_gc', did you mean 'st_gcn'?"),
        (["hop_mixer.card:CARD", "--set", "model.options={hops: 9}"], "options hops: should be"),
        (["st_gcn", "--set", "model.groups=2"], "--set model.groups: has no effect in st_gcn"),
    ],
)
def test_what_cannot_be_checked_ends_with_2(check, arguments, problem):
    code, out, err = check("backbone", *arguments)
    assert (code, out) == (2, "")
    assert problem in err
