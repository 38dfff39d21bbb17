"""What is known of single leaves: kinds, defaults, names, and which have an effect."""

from types import SimpleNamespace

import pytest
from pydantic import BaseModel

from orchestrator.sweep import leaves as leaves_module
from orchestrator.sweep.leaves import (
    DECIDING,
    LEAVES,
    UNUSED_WHEN,
    completed,
    label,
    leaves_of,
    nest,
    unused,
)
from trainables.contract.config import TrialConfig

COMPLETE = leaves_of(TrialConfig.model_validate({"data": {"store": "s", "protocol": "p"}}))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.6, "0.6"),
        (0, "0"),
        (0.0, "0"),
        (None, "none"),
        (True, "True"),
        (1, "1"),
        ("a", "a"),
        ([1, 2], "[1, 2]"),
    ],
)
def test_values_as_they_stand_in_names(value, text):
    assert label(value) == text


def test_kinds_of_leaves():
    assert [name for name, leaf in LEAVES.items() if leaf.required] == [
        "data.store",
        "data.protocol",
    ]
    assert {name for name, leaf in LEAVES.items() if leaf.is_list} == {
        "model.stages",
        "model.strides",
        "model.branches",
        "sparsity.levels",
        "train.milestones",
    }
    assert {name for name, leaf in LEAVES.items() if leaf.takes_mapping} == {
        "data.stream",
        "model.options",
        "sparsity.options",
    }
    kinds = {
        "train.lr": ("number",),
        "data.frames": ("integer",),
        "data.store": (),
        "sparsity.warmup": ("integer", "number"),  # epochs, or a share of them
    }
    assert {name: LEAVES[name].numbers for name in kinds} == kinds
    assert "seed" not in LEAVES


def test_what_is_wrong_with_one_value():
    frames, stages = LEAVES["data.frames"], LEAVES["model.stages"]
    assert frames.errors(64) == []
    [found] = frames.errors(1)
    assert (found["loc"], found["type"]) == ((), "greater_than_equal")
    assert [each["loc"] for each in stages.errors([3, "a"])] == [(1,)]
    assert LEAVES["train.lr"].canonical(1) == 1.0


def test_values_are_nested_and_found_again():
    assert nest({"a.b": 1, "a.c.d": 2, "e": 3}) == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    config = TrialConfig.model_validate(nest(COMPLETE))
    assert leaves_of(config) == COMPLETE


def test_defaults_that_follow_others_are_kept_for_a_while(monkeypatch):
    leaf = LEAVES["train.warmup_epochs"]
    monkeypatch.setattr(leaves_module, "MOST_KEPT", 3)
    monkeypatch.setattr(leaves_module, "_DERIVED", kept := {})
    assert [leaf.default_beside({"train.epochs": n}) for n in (2, 3, 4)] == [1, 2, 3]
    assert len(kept) == 3
    assert leaf.default_beside({"train.epochs": 4}) == 3
    assert len(kept) == 3
    assert leaf.default_beside({"train.epochs": 110}) == 5
    assert len(kept) == 1


def test_what_has_no_effect_is_kept_for_a_while(monkeypatch):
    monkeypatch.setattr(leaves_module, "MOST_KEPT", 2)
    monkeypatch.setattr(leaves_module, "_UNUSED", kept := {})
    for level in (0.0, 0.5, 0.5):
        unused({**COMPLETE, "sparsity.level": level})
    assert len(kept) == 2
    unused({**COMPLETE, "sparsity.level": 0.6})
    assert len(kept) == 1


@pytest.mark.parametrize(
    ("changed", "leaf", "idle"),
    [
        ({"train.schedule": "step"}, "train.lr_decay", False),
        ({"train.schedule": "cosine"}, "train.lr_decay", True),
        ({"train.schedule": "cosine"}, "train.milestones", True),
        ({"data.selection.kind": "subject"}, "data.selection.seed", False),
        ({"data.selection.kind": "protocol"}, "data.selection.seed", True),
        ({"data.selection.kind": "none"}, "data.selection.fraction", True),
        ({"data.pipeline": "auto"}, "data.views", False),
        ({"data.pipeline": "pyskl"}, "data.views", False),
        ({"data.pipeline": "ctr"}, "data.views", True),
        ({"data.pipeline": "ucla"}, "data.align_persons", True),
        ({"data.pipeline": "ctr"}, "data.align_persons", False),
        ({"sparsity.level": 0.8, "sparsity.warmup": 0.5}, "sparsity.penalty", False),
        ({"sparsity.level": 0.8, "sparsity.warmup": 0.0}, "sparsity.penalty", True),
        ({"sparsity.level": 0.0}, "sparsity.scope", True),
        ({"sparsity.level": 0.8}, "sparsity.scope", False),
    ],
)
def test_which_leaves_have_an_effect(changed, leaf, idle):
    assert (leaf in unused({**COMPLETE, **changed})) is idle


def test_defaults_that_follow_others_are_filled_in_their_order():
    asked = {**COMPLETE, "train.epochs": 30, "train.warmup_epochs": None, "train.milestones": None}
    found = completed(asked)
    assert (found["train.warmup_epochs"], found["train.milestones"]) == (5, [24, 27])
    assert asked["train.milestones"] is None


SETTINGS = {
    "data.pipeline": "ctr",
    "data.selection.kind": "none",
    "model.backbone": "hpi_gcn_rp",
    "model.temporal": "rep_tcn",
    "sparsity.level": 0.8,
    "sparsity.network": "nested",
    "sparsity.generator": "rewinding",
    "sparsity.structure": "channel",
    "sparsity.scope": "tensor",
    "sparsity.sharing": "channels",
    "sparsity.warmup": 0.5,
    "sparsity.penalty": "none",
    "sparsity.from": "dense",
    "train.epochs": 3,
    "train.schedule": "cosine",
}


def test_what_is_kept_of_leaves_without_effect_is_what_would_be_found(monkeypatch):
    """Whatever was asked before: each setting is changed beside others."""
    sparse = {**COMPLETE, "sparsity.level": 0.8, "sparsity.warmup": 0.5}
    asked = [
        {**start, name: value}
        for start in (COMPLETE, sparse, {**sparse, "sparsity.generator": "rigl"})
        for name, value in SETTINGS.items()
    ]
    kept = [unused(leaves) for leaves in asked]
    for leaves, known in zip(asked, kept, strict=True):
        monkeypatch.setattr(leaves_module, "_UNUSED", {})
        assert unused(leaves) == known
    assert len(set(kept)) > len(SETTINGS)


def test_options_that_are_defaults_of_a_part_are_the_same_as_none(monkeypatch):
    class Own(BaseModel, extra="forbid"):
        start: int = 1

    class Cards:
        def find(self, part):
            assert part == "a part"
            return SimpleNamespace(options=Own)

    class Others:
        def find(self, part):
            raise ValueError(f"{part}: must be one of them")

    for name, other, options, named in (
        ("BACKBONES", "GENERATORS", "model.options", "model.backbone"),
        ("GENERATORS", "BACKBONES", "sparsity.options", "sparsity.generator"),
    ):
        monkeypatch.setattr(leaves_module, name, Cards())
        monkeypatch.setattr(leaves_module, other, Others())
        for given, kept in (({"start": 1}, {}), ({"start": 2}, {"start": 2})):
            leaves = {**COMPLETE, named: "a part", options: given}
            assert completed(leaves)[options] == kept
        refused = {**COMPLETE, named: "a part", options: {"begin": 2}}
        assert completed(refused)[options] == {"begin": 2}


def test_leaves_are_the_whole_trial_configuration() -> None:
    config = TrialConfig.model_validate({"data": {"store": "s", "protocol": "p"}})
    written = config.model_dump(mode="json")
    written["model"]["options"] = {}  # a file does not speak of options where there are none
    assert nest(leaves_of(config)) | {"seed": 0} == written
    assert UNUSED_WHEN.keys() < LEAVES.keys()


def test_the_leaves_that_decide_what_is_used_are_listed() -> None:
    read = set()

    class Leaves(dict):
        def __getitem__(self, name):
            read.add(name)
            return super().__getitem__(name)

    sparse = {"data": {"store": "s", "protocol": "p"}, "sparsity": {"level": 0.5}}
    for useless in UNUSED_WHEN.values():
        useless(Leaves(leaves_of(TrialConfig.model_validate(sparse))))
    assert read == {*DECIDING, "data.selection.kind"}
