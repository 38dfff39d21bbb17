"""Laws that every search keeps: what it proposes, when it ends, and how it goes on after a restart.

A subject names the search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from orchestrator.search.making import Step, asked_searches
from orchestrator.search.protocol import CellSearch, Outcome, Wait
from orchestrator.sweep import Sweep, parse_sweep
from orchestrator.sweep.searches import SEARCHES
from orchestrator.trials.cells import expand
from orchestrator.trials.proposed import Proposal, Trial
from trainables.contract.artifacts import Cost, TrialResult
from trainables.contract.config import DataConfig, TrainConfig, TrialConfig
from trainables.laws.law import Law, PartSettings, card_is_light, check_about, require

TRIALS = 12
"""Of the cell that a search is tried on."""
_SPACES = ("[0.01, 0.02, 0.03, 0.04]", "{min: 0.001, max: 0.1, distribution: log_uniform}")
"""Of the learning rate, beside a width: 12 assignments, or more than can be listed."""

Run = Callable[[Trial], Outcome]


def card_names_a_search(subject: PartSettings) -> None:
    """It says what it does in one line, and its module makes something that asks and tells."""
    card = SEARCHES.find(subject["search"])
    check_about(card)
    wanted = ("ask", "tell", "recall") if card.asked else ("ask", "tell")
    search = _Case(subject["search"]).search()
    missing = [name for name in wanted if not callable(getattr(search, name, None))]
    require(not missing, f"{card.module} must make a search with {' and '.join(missing)}")


def proposes_trials_of_its_cell(subject: PartSettings, *, at_once: int) -> None:
    """Those it was given, or such as it makes, each at most once and no more than the cell has
    slots; then it needs no more and stays with that.

    at_once: how many run beside each other; their ends come in another order than their starts.
    """
    for case in _cases(subject):
        search = case.search()
        proposed = _names(_run(search, case.outcome, at_once))
        if not case.asked:
            given = {trial.proposal.trial for trial in case.trials}
            strange = [name for name in proposed if name not in given]
            require(not strange, f"{', '.join(strange)} is no trial of the cell")
        twice = {name for name in proposed if proposed.count(name) > 1}
        require(not twice, f"{', '.join(sorted(twice))} is proposed twice")
        require(search.ask() is None, "a search that needs no more must stay with that")


def proposes_the_same_after_the_same_ends(subject: PartSettings) -> None:
    """Two searches that are told the same propose the same: a sweep can be repeated."""
    for case in _cases(subject):
        first, second = (_names(_run(case.search(), case.outcome, 2)) for _ in range(2))
        rule = f"the same ends must lead to the same trials, got {first}, {second}"
        require(first == second, rule)


def takes_every_end(subject: PartSettings) -> None:
    """Trials without a result, pruned ones, and results without an accuracy: nothing was held
    out.
    """
    for case in _cases(subject):
        for top1 in (None, 0.5):
            endings = [
                Outcome("failed"),
                case.finished("trial", top1),
                Outcome("pruned", None, 1, (top1,)),
                Outcome("pruned"),
            ]
            search = case.search()
            for count in range(TRIALS):
                trial = search.ask()
                if trial is None or isinstance(trial, Wait):
                    break
                search.tell(trial.proposal.trial, endings[count % len(endings)])


def goes_on_with_what_is_left(subject: PartSettings) -> None:
    """Made again after an interruption from the trials that have not ended, it proposes those, and
    something as long as there are any before it has been told of an end. One that makes its trials
    proposes what it would have without the interruption.
    """
    for case in _cases(subject):
        if case.asked:
            _goes_on_as_it_would_have(case)
            continue
        for ended in (1, TRIALS // 2, TRIALS - 1):
            left = case.trials[ended:]
            proposed = _names(_run(case.search(left), case.outcome, 1))
            require(bool(proposed), f"with {len(left)} trials left it must propose one")
            names = {trial.proposal.trial for trial in left}
            require(set(proposed) <= names, "only trials that have not ended may be proposed again")
        require(case.search(()).ask() is None, "without trials it must need no more")


def _goes_on_as_it_would_have(case: _Case) -> None:
    past: list[Step] = []
    _run(case.search(), case.outcome, 3, past)
    whole = [step.trial for step in past if step.outcome is None]
    for length in range(1, len(past)):
        before = past[:length]
        proposed = sum(step.outcome is None for step in before)
        following = past[length]
        if following.outcome is not None:
            continue
        trial = case.search(past=before).ask()
        name = trial.proposal.trial if isinstance(trial, Trial) else str(trial)
        expected = whole[proposed].proposal.trial
        rule = f"after {proposed} trials it must go on with {expected}, got {name}"
        require(name == expected, rule)


class _Case:
    """One cell that a search is tried on."""

    def __init__(self, search: str, space: str = _SPACES[0]) -> None:
        self._card = SEARCHES.find(search)
        self.asked = self._card.asked
        self.trials = _trials()
        self._sweep = _sweep(search, space) if self.asked else None

    def search(
        self, trials: Sequence[Trial] | None = None, past: Iterable[Step] = ()
    ) -> CellSearch:
        """Made anew. trials: that it is given, default: all. past: of one that is asked."""
        if self._sweep is None:
            made: CellSearch = self._card.load()(self.trials if trials is None else trials)
            return made
        [made] = asked_searches(self._sweep, expand(self._sweep), (), past).values()
        return made

    def outcome(self, trial: Trial) -> Outcome:
        """Of a trial: the better the closer its learning rate is to 0.02; a few fail."""
        lr = trial.config.train.lr
        if round(lr * 1e6) % 7 == 3:
            return Outcome("failed")
        if round(lr * 1e6) % 5 == 3:
            return Outcome("pruned", None, 1, (0.1,))
        return self.finished(trial.proposal.trial, max(0.0, 1 - abs(lr - 0.02) * 10))

    def finished(self, trial: str, top1: float | None) -> Outcome:
        """With a result that has this accuracy."""
        return Outcome("finished", _result(trial, top1), 2, (top1,))


def _cases(subject: PartSettings) -> list[_Case]:
    name = subject["search"]
    spaces = _SPACES if SEARCHES.find(name).asked else _SPACES[:1]
    return [_Case(name, space) for space in spaces]


def _run(
    search: CellSearch, outcome: Run, at_once: int, past: list[Step] | None = None
) -> list[Trial]:
    """The trials it asks for, in that order; of those that run the last ends first. past: is added
    what happens.
    """
    steps = [] if past is None else past
    proposed: list[Trial] = []
    running: list[Trial] = []
    wants_more = True
    while wants_more or running:
        while wants_more and len(running) < at_once:
            trial = search.ask()
            if isinstance(trial, Wait):
                require(bool(running), "it may not wait where no trial runs")
                break
            wants_more = trial is not None
            if trial is not None:
                running.append(trial)
                proposed.append(trial)
                steps.append(Step(trial))
            require(len(proposed) <= TRIALS, f"it proposes more than the {TRIALS} trials there are")
        if running:
            trial = running.pop()
            steps.append(Step(trial, outcome(trial)))
            search.tell(trial.proposal.trial, outcome(trial))
    return proposed


def _names(trials: Iterable[Trial]) -> list[str]:
    return [trial.proposal.trial for trial in trials]


def _sweep(search: str, space: str) -> Sweep:
    """One cell in which a learning rate and a momentum are searched."""
    text = f"""
version: 1
name: laws
data: {{store: data, protocol: xsub}}
parameters:
  train.lr: {space}
  train.weight_decay: [0.0001, 0.0002, 0.0003]
method: {{name: '{search}', trials_per_cell: {TRIALS}}}
"""
    return parse_sweep("the laws of searches", text)


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
    words = {
        "deploy_folded": "",
        "deploy_structure": "",
        "deploy_kept": "",
        "latency_device": "cpu",
    }
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
