"""Every law notices a backbone that breaks it; ours are held to them in test_conformance."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainables.laws.backbone import CARD_LAWS, LAWS
from trainables.laws.law import Law, LawBroken, Verdict, held_to, require

OUTSIDE = Path(__file__).parents[2] / "outside"
BY_NAME = {law.says: law for law in (*CARD_LAWS, *LAWS)}


@pytest.fixture(autouse=True)
def outside(monkeypatch):
    monkeypatch.syspath_prepend(OUTSIDE)


@pytest.mark.parametrize(
    ("card", "law", "reason"),
    [
        ("FORGETS", "deploys to the same logits", "folded in full: logits differ by"),
        (
            "MIXES",
            "gives a clip the same logits in any batch",
            "at once and one by one",
        ),
        ("MIXES_PERSONS", "runs absent persons once in training", "loss: logits differ by"),
        ("SHARES", "ships frozen kernels of its own", "the deploy form"),
        ("IDLE", "has a gradient for every parameter", "no gradient reaches idle"),
        ("TIME", "has weights that depend on the seed alone", "the same seed must give the same"),
        ("PICKLE", "pickles and copies", "pickle"),
        ("NOTHING", "learns sixteen clips by heart", "of 16 clips were right after 150 updates"),
        ("ASKS", "compiles without a break", "Could not guard on data-dependent expression"),
        ("ASKS", "exports for any batch", "Could not guard on data-dependent expression"),
        ("MISCOUNTED", "is counted as it is built", "parameters of the network: counted"),
        ("NO_BACKBONE", "has a card that names what there is", "must be a subclass of"),
        ("STRANGE", "has a card that names what there is", "there is no setting width of model"),
        pytest.param(
            "FORGETS",
            "has a card that imports neither torch nor ray",
            "must import no torch",
            marks=pytest.mark.full,  # a process that imports torch
        ),
    ],
)
def test_a_law_notices_who_breaks_it(card, law, reason):
    (verdict,) = held_to([BY_NAME[law]], {"backbone": f"broken_nets:{card}"})
    assert not verdict.kept
    assert reason in verdict.reason


@pytest.mark.parametrize("law", ["deploys to the same logits", "ships with its masks"])
def test_a_sound_backbone_of_another_package_keeps_the_law(law):
    subject = {"backbone": "hop_mixer.card:CARD", "options": {"hops": 3}}
    (verdict,) = held_to([BY_NAME[law]], subject)
    assert verdict == Verdict(law, "")


def test_whatever_goes_wrong_breaks_the_law_under_its_setting():
    def divides(subject, *, by):
        require(subject["x"] / by > 1, f"{subject['x']} / {by} must be above 1")

    law = Law("is large", divides, ({"by": 1}, {"by": 4}, {"by": 0}))
    assert list(held_to([law], {"x": 2})) == [
        Verdict("is large", "with by=4: 2 / 4 must be above 1")
    ]
    assert list(held_to([Law("is large", divides, ({"by": 0},))], {"x": 2})) == [
        Verdict("is large", "with by=0: ZeroDivisionError: division by zero")
    ]
    with pytest.raises(LawBroken, match="2 / 4 must be above 1"):
        law.hold({"x": 2}, by=4)
