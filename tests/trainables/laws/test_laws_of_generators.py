"""A generator of another package keeps the laws, and what breaks one is noticed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from trainables.contract.generators import GeneratorCard
from trainables.laws.generator import CARD_LAWS, LAWS
from trainables.laws.law import held_to

OUTSIDE = Path(__file__).parents[2] / "outside"
BY_NAME = {law.says: law for law in (*CARD_LAWS, *LAWS)}


@pytest.fixture
def broken(monkeypatch):
    """A card whose generator is `attach`, made of the sound one."""
    monkeypatch.syspath_prepend(OUTSIDE)
    module = ModuleType("broken_masks")
    monkeypatch.setitem(sys.modules, "broken_masks", module)

    def make(attach, **card) -> str:
        module.attach = attach
        name = f"CARD_{attach.__name__}"
        fields = {"name": name, "module": "broken_masks:attach", "about": "Breaks a law.", **card}
        setattr(module, name, GeneratorCard(**fields))
        return f"broken_masks:{name}"

    return make


def sound(subject, sparsity):
    from every_nth.masks import every_nth

    return every_nth(subject, sparsity)


def one_too_few(subject, sparsity):
    schedule = sound(subject, sparsity)
    kept = schedule.masks[0]
    kept.view(-1)[int((kept == 0).int().view(-1).argmax())] = 1
    return schedule


def draws_globally(subject, sparsity):
    torch.rand(1)
    return sound(subject, sparsity)


def nothing(subject, sparsity):
    return None


def keeps_its_word(subject, sparsity):
    return sound(subject, sparsity)


def acts_at_once(subject, sparsity):
    schedule = sound(subject, sparsity)
    schedule.warmup_epochs = 0
    return schedule


@pytest.mark.parametrize("law", list(LAWS), ids=lambda law: law.says)
def test_a_generator_of_another_package_keeps_the_law(monkeypatch, law):
    monkeypatch.syspath_prepend(OUTSIDE)
    subject = {"generator": "every_nth.card:CARD", "options": {"start": 2}}
    (verdict,) = held_to([law], subject)
    assert verdict.reason == ""


@pytest.mark.parametrize(
    ("attach", "law", "reason"),
    [
        (one_too_few, "removes what the level says and ships it", "weights are gone, asked were"),
        (nothing, "removes what the level says and ships it", "must give a schedule"),
        (draws_globally, "has masks that depend on the seed alone", "must not draw globally"),
    ],
)
def test_a_law_notices_who_breaks_it(broken, attach, law, reason):
    (verdict,) = held_to([BY_NAME[law]], {"generator": broken(attach)})
    assert reason in verdict.reason


@pytest.mark.parametrize(("attach", "whole"), [(keeps_its_word, True), (acts_at_once, False)])
def test_a_card_that_promises_a_dense_beginning(broken, attach, whole):
    path = broken(attach, settings=("warmup", "penalty"), dense_until="warmup")
    (verdict,) = held_to([BY_NAME["begins as its card says"]], {"generator": path})
    assert ("its first epoch is not the dense network's" in verdict.reason) == (not whole)
    assert bool(verdict.reason) == (not whole)


def test_a_card_that_speaks_of_settings_there_are_not(broken):
    path = broken(sound, settings=("colour",))
    (verdict,) = held_to([BY_NAME["has a card that names what there is"]], {"generator": path})
    assert verdict.reason == "there is no setting colour of sparsity"
