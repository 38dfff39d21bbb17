"""Laws that every search keeps: what it proposes, when it ends, and how it goes on after a restart.

A subject names the search.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.search.listed import CellSearch
from orchestrator.sweep.searches import SEARCHES
from orchestrator.trials.proposed import Proposal
from orchestrator.trials.space import Trial
from trainables.contract.artifacts import Cost, TrialResult
from trainables.contract.config import DataConfig, TrainConfig, TrialConfig
from trainables.laws.law import Law, PartSettings, card_is_light, check_about, require

TRIALS = 12
"""Of the cell that a search is tried on."""


def card_names_a_search(subject: PartSettings) -> None:
    """It says what it does in one line, and its module makes something that asks and tells."""
    card = SEARCHES.find(subject["search"])
    check_about(card)
    search = card.load()(_trials())
    missing = [name for name in ("ask", "tell") if not callable(getattr(search, name, None))]
    require(not missing, f"{card.module} must make a search with {' and '.join(missing)}")


def proposes_trials_of_its_cell(subject: PartSettings, *, at_once: int) -> None:
    """Those it was given, each at most once; then it needs no more and stays with that.

    at_once: how many run beside each other; their ends come in another order than their starts.
    """
    trials = _trials()
    search = _made(subject, trials)
    proposed = _run(search, trials, at_once)
    strange = [name for name in proposed if name not in {trial.proposal.trial for trial in trials}]
    require(not strange, f"{', '.join(strange)} is no trial of the cell")
    twice = {name for name in proposed if proposed.count(name) > 1}
    require(not twice, f"{', '.join(sorted(twice))} is proposed twice")
    require(search.ask() is None, "a search that needs no more must stay with that")


def proposes_the_same_after_the_same_ends(subject: PartSettings) -> None:
    """Two searches that are told the same propose the same: a sweep can be repeated."""
    first, second = (_run(_made(subject, _trials()), _trials(), 2) for _ in range(2))
    require(first == second, f"the same ends must lead to the same trials, got {first}, {second}")


def takes_every_end(subject: PartSettings) -> None:
    """Trials without a result, and results without an accuracy: nothing was held out."""
    for top1 in ([None] * TRIALS, [0.5] * TRIALS, [*([None, 0.5] * TRIALS)][:TRIALS]):
        search = _made(subject, _trials())
        for value in top1:
            trial = search.ask()
            if trial is None:
                break
            name = trial.proposal.trial
            search.tell(name, None)
            trial = search.ask()
            if trial is not None:
                search.tell(trial.proposal.trial, _result(trial.proposal.trial, value))


def goes_on_with_what_is_left(subject: PartSettings) -> None:
    """Made again after an interruption from the trials that have not ended, it proposes those, and
    something as long as there are any before it has been told of an end.
    """
    trials = _trials()
    for ended in (1, TRIALS // 2, TRIALS - 1):
        left = trials[ended:]
        proposed = _run(_made(subject, left), left, 1)
        require(bool(proposed), f"with {len(left)} trials left it must propose one")
        names = {trial.proposal.trial for trial in left}
        require(set(proposed) <= names, "only trials that have not ended may be proposed again")
    require(_made(subject, []).ask() is None, "without trials it must need no more")


def _made(subject: PartSettings, trials: Sequence[Trial]) -> CellSearch:
    search: CellSearch = SEARCHES.find(subject["search"]).load()(trials)
    return search


def _run(search: CellSearch, trials: Sequence[Trial], at_once: int) -> list[str]:
    """The names of the trials it asks for, in that order; of those that run the last ends first,
    and every fourth without a result.
    """
    number = {trial.proposal.trial: count for count, trial in enumerate(trials)}
    proposed: list[str] = []
    running: list[str] = []
    wants_more = True
    while wants_more or running:
        while wants_more and len(running) < at_once:
            trial = search.ask()
            wants_more = trial is not None
            if trial is not None:
                running.append(trial.proposal.trial)
                proposed.append(trial.proposal.trial)
            require(len(proposed) <= TRIALS, f"it proposes more than the {TRIALS} trials there are")
        if running:
            name = running.pop()
            lost = number.get(name, 0) % 4 == 3
            search.tell(name, None if lost else _result(name, (7 * number.get(name, 0) % 12) / 12))
    return proposed


def _trials() -> list[Trial]:
    """The trials of one cell, which differ in their learning rate."""
    made = []
    for number in range(TRIALS):
        config = TrialConfig(
            data=DataConfig(store="data", protocol="xsub"), train=TrainConfig(lr=(number + 1) / 100)
        )
        proposal = Proposal(f"cell-{number:02d}", "cell", {}, {"train.lr": config.train.lr}, 0)
        made.append(Trial(proposal, config))
    return made


def _result(trial: str, top1: float | None) -> TrialResult:
    """How a trial ended that reached this accuracy on the selection split."""
    numbers: dict[str, Any] = dict.fromkeys(Cost.model_fields, 1)
    words = {"deploy_folded": "", "deploy_structure": "", "latency_device": "cpu"}
    cost = Cost.model_validate(numbers | words | {"latency_measured": "in trial"})
    return TrialResult(
        trial=trial,
        epochs=2,
        kept_epoch=1,
        selection_clips=0 if top1 is None else 12,
        selection_top1=top1,
        selection_top5=None if top1 is None else 1.0,
        selection_loss=None if top1 is None else 1.0 - top1,
        selection_top1_last=top1,
        train_loss=0.5,
        seconds=1.0,
        clips_per_s=100.0,
        cost=cost,
    )


CARD_LAWS: tuple[Law, ...] = (
    Law(
        "has a card that imports neither torch nor ray",
        lambda subject: card_is_light(SEARCHES.path(subject["search"])),
    ),
    Law("has a card that names a search", card_names_a_search),
)
LAWS: tuple[Law, ...] = (
    Law(
        "proposes trials of its cell, each once",
        proposes_trials_of_its_cell,
        tuple({"at_once": number} for number in (1, 3, TRIALS)),
    ),
    Law("proposes the same after the same ends", proposes_the_same_after_the_same_ends),
    Law("takes every end of a trial", takes_every_end),
    Law("goes on with what is left after an interruption", goes_on_with_what_is_left),
)
