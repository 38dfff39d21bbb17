"""Laws that every sparsity generator keeps: what is removed, what is shipped, and when it is drawn.

A subject is settings of `sparsity`, `generator` among them. They are held on a narrow ST-GCN.
"""

from __future__ import annotations

import copy
from typing import Any

import torch

from trainables.contract.config import SparsityConfig
from trainables.contract.generators import GENERATORS
from trainables.deploy.form import deploy
from trainables.laws.law import (
    Law,
    PartSettings,
    card_is_light,
    check_about,
    require,
    require_same,
)
from trainables.laws.narrow import clips_for, narrow_backbone
from trainables.models.build import Backbone
from trainables.sparsity.amounts import removed_count
from trainables.sparsity.build import Subject, attach_sparsity
from trainables.sparsity.masks import kept_weights, maskable, write_masks
from trainables.sparsity.source import dense_name
from trainables.training.schedule import Schedule

STEPS = 3
QUICK = {"rounds": 1, "update_every": 1, "update_until": 0.9, "warmup": 0.0}
"""Settings under which every generator of ours has chosen within three steps."""


def card_fits_sparsity(sparsity: PartSettings) -> None:
    """Its settings are settings of `sparsity`, and its module can be loaded."""
    card = GENERATORS.find(sparsity["generator"])
    known = {field.alias or name for name, field in SparsityConfig.model_fields.items()}
    strange = [name for name in card.settings if name not in known]
    require(not strange, f"there is no setting {', '.join(strange)} of sparsity")
    check_about(card)
    require(callable(card.load()), f"{card.module} must be a function, got {card.load()!r}")


def level_zero_leaves_the_network_alone(sparsity: PartSettings) -> None:
    """No mask is attached and no weight changes."""
    network = narrow_backbone("st_gcn")
    before = copy.deepcopy(network.state_dict())
    schedule = _attach(network, {**sparsity, "level": 0.0})
    require(schedule is None, "level 0 must give no schedule")
    require(list(before) == list(network.state_dict()), "level 0 must attach nothing")
    changed = [k for k, t in network.state_dict().items() if not torch.equal(t, before[k])]
    require(not changed, f"level 0 must change nothing, but changed {', '.join(changed)}")


def removes_what_the_level_says(
    sparsity: PartSettings, *, level: float, backbone: str = "st_gcn"
) -> None:
    """Of every block exactly round(level * weights) after an epoch, and the deploy form with exact
    zeros has the same logits.
    """
    network = narrow_backbone(backbone, dropout=0.0).train()
    _train(network, {**sparsity, "level": level})
    sizes = [
        sum(layer.weight.numel() for layer in block) for block in maskable(list(network.blocks))
    ]
    asked = sum(removed_count(size, level) for size in sizes)
    removed = sum(kept.removed for kept in kept_weights(network, list(network.blocks)))
    require(removed == asked, f"{removed} weights are gone, asked were {asked}")
    write_masks(network.eval())
    zeros = sum(int((layer.weight == 0).sum()) for layer in _layers(network))
    require(zeros >= asked, f"{zeros} weights are exactly zero in the end, asked were {asked}")
    clips = clips_for(network)
    with torch.no_grad():
        require_same(deploy(network, frames=8)(clips), network(clips), 1e-9, "deployed")


def masks_depend_on_the_seed_alone(sparsity: PartSettings) -> None:
    """The same seed gives the same masks, whatever else was drawn; torch's generator is left as it
    is.
    """
    states = []
    for draws in (0, 3):
        network = narrow_backbone("st_gcn")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            torch.rand(draws)
            before = torch.random.get_rng_state()
            _attach(network, {**QUICK, **sparsity, "level": 0.75})
            require(
                torch.equal(torch.random.get_rng_state(), before), "masks must not draw globally"
            )
        states.append(network.state_dict())
    first, second = states
    differ = [key for key in first if not torch.equal(first[key], second[key])]
    require(not differ, f"the same seed must give the same {', '.join(differ[:3])}")


def comes_back_from_its_state(sparsity: PartSettings) -> None:
    """All that it keeps is in the network's state: a fresh network that loads it gives the same
    logits.
    """
    network, fresh = (narrow_backbone("st_gcn", dropout=0.0) for _ in range(2))
    _train(network.train(), {**sparsity, "level": 0.75})
    _attach(fresh, {**QUICK, **sparsity, "level": 0.75})
    fresh.load_state_dict(network.state_dict())
    clips = clips_for(network)
    network.eval(), fresh.eval()
    with torch.no_grad():
        require_same(fresh(clips), network(clips), 1e-12, "loaded")


def begins_as_its_card_says(sparsity: PartSettings) -> None:
    """As long as its card says that it trains as a dense network does, weights, statistics and
    momentum are those of the dense one to the last bit, where no penalty acts.
    """
    if GENERATORS.find(sparsity["generator"]).dense_until == "start":
        return
    states = []
    for level in (0.0, 0.75):
        network = narrow_backbone("st_gcn", dropout=0.0).train()
        settings = {**QUICK, **sparsity, "warmup": 1, "penalty": "none", "level": level}
        schedule = _attach(network, settings, epochs=2)
        optimizer = _steps(network, Schedule() if schedule is None else schedule)
        state: dict[str, torch.Tensor] = {}
        for name, tensor in network.state_dict().items():
            if (shared := dense_name(name)) is not None:
                state[shared] = tensor
        for name, parameter in network.named_parameters():
            if parameter in optimizer.state:
                momentum = optimizer.state[parameter]["momentum_buffer"]
                state[f"momentum of {dense_name(name)}"] = momentum
        states.append(state)
    dense, sparse = states
    differ = [key for key in dense if key not in sparse or not torch.equal(dense[key], sparse[key])]
    require(not differ, f"its first epoch is not the dense network's: {', '.join(differ[:3])}")


def _attach(network: Backbone, sparsity: PartSettings, epochs: int = 1) -> Schedule | None:
    subject = Subject(
        network,
        list(network.blocks),
        network.head,
        epochs=epochs,
        steps=STEPS,
        seed=4,
        clips=clips_for(network)[:1],
    )
    return attach_sparsity(subject, SparsityConfig.model_validate(sparsity))


def _train(network: Backbone, sparsity: PartSettings) -> None:
    """One epoch of three steps."""
    schedule = _attach(network, {**QUICK, **sparsity})
    require(schedule is not None, "a level above 0 must give a schedule")
    assert schedule is not None
    schedule.end_epoch(0, _steps(network, schedule))


def _steps(network: Backbone, schedule: Schedule) -> torch.optim.Optimizer:
    """Three steps of the first epoch; returns the optimiser that made them."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-3, momentum=0.9, weight_decay=1e-3)
    clips = clips_for(network)
    schedule.begin_epoch(0, optimizer)
    for step in range(STEPS):
        schedule.begin_step(0, step)
        loss, _ = network.objective(clips, torch.tensor([0, 1]))
        penalty = schedule.penalty(0)
        optimizer.zero_grad()
        whole = loss if penalty is None else loss + penalty
        whole.backward()  # type: ignore[no-untyped-call]
        schedule.before_update(0, step, optimizer)
        optimizer.step()
        schedule.after_update(0, step, optimizer)
    return optimizer


def _layers(network: Backbone) -> list[Any]:
    return [layer for block in maskable(list(network.blocks)) for layer in block]


CARD_LAWS: tuple[Law, ...] = (
    Law(
        "has a card that imports neither torch nor ray",
        lambda sparsity: card_is_light(GENERATORS.path(sparsity["generator"])),
    ),
    Law("has a card that names what there is", card_fits_sparsity),
)
LAWS: tuple[Law, ...] = (
    Law("leaves the network alone at level 0", level_zero_leaves_the_network_alone),
    Law(
        "removes what the level says and ships it",
        removes_what_the_level_says,
        tuple({"level": level} for level in (0.6, 0.75, 0.95)),
    ),
    Law("has masks that depend on the seed alone", masks_depend_on_the_seed_alone),
    Law("comes back from the network's state", comes_back_from_its_state),
    Law("begins as its card says", begins_as_its_card_says),
)
