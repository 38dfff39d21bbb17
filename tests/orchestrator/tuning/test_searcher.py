from ray.tune.search import Searcher

from orchestrator.search.listed import ListedSearch
from orchestrator.search.protocol import WAIT, Outcome
from orchestrator.search.turns import Turns
from orchestrator.trials.proposed import Proposal
from orchestrator.trials.space import Trial
from orchestrator.tuning.searcher import SweepSearcher
from trainables.contract.config import DataConfig, TrialConfig
from trainables.contract.errors import TrialFailed

FAILED = Outcome("failed")


def proposal(cell, number, *after):
    proposal = Proposal(
        trial=f"{cell}-{number}", cell=cell, axes={}, assignment={}, seed=number, after=after
    )
    return Trial(proposal, TrialConfig(data=DataConfig(store="s", protocol="p"), seed=number))


class Listening:
    """Remembers what ends without having started."""

    def __init__(self):
        self.given_up, self.discarded = [], []

    def give_up(self, trial, reason):
        self.given_up.append((trial.proposal.trial, reason))

    def discard(self, trial):
        self.discarded.append(trial.proposal.trial)


def searcher(
    cells, closed=lambda: False, request=lambda p: {"trial": p.proposal.trial}, search=ListedSearch
):
    searches = {cell: search(trials) for cell, trials in cells.items()}
    return SweepSearcher(Turns(searches, cells), request, closed)


def all_suggestions(search):
    given = []
    while (suggestion := search.suggest(f"t{len(given)}")) != Searcher.FINISHED:
        given.append(suggestion["trial"])
    return given


def test_cells_take_turns_until_all_are_empty():
    search = searcher(
        {
            "a": [proposal("a", 0), proposal("a", 1), proposal("a", 2)],
            "b": [proposal("b", 0)],
            "c": [],
        }
    )
    assert all_suggestions(search) == ["a-0", "b-0", "a-1", "a-2"]
    assert search.suggest("again") == Searcher.FINISHED


def test_nothing_is_proposed_once_closed():
    answers = iter([False, True])
    search = searcher({"a": [proposal("a", 0), proposal("a", 1)]}, closed=lambda: next(answers))
    assert search.suggest("t0") == {"trial": "a-0"}
    assert search.suggest("t1") == Searcher.FINISHED


def test_ends_are_told_to_the_cell_of_the_trial():
    told = []

    class Remembering(ListedSearch):
        def tell(self, trial, result):
            told.append((trial, result))

    search = searcher({"a": [proposal("a", 7)]}, search=Remembering)
    search.suggest("tune-id")
    assert search.trial_of("tune-id").proposal.trial == "a-7"
    search.tell("tune-id", FAILED)
    assert told == [("a-7", FAILED)]


def test_what_starts_from_another_trial_waits_until_that_has_ended():
    search = searcher(
        {
            "sparse": [proposal("sparse", 0, "dense-0", "dense-1"), proposal("sparse", 1)],
            "dense": [proposal("dense", 0), proposal("dense", 1)],
        }
    )
    assert [search.suggest(name)["trial"] for name in "abc"] == ["dense-0", "sparse-1", "dense-1"]
    assert search.suggest("d") is None  # nothing now, but not the end
    search.tell("a", FAILED)
    assert search.suggest("d") is None  # the better of both is known once both have ended
    search.tell("c", FAILED)
    assert search.suggest("d") == {"trial": "sparse-0"}
    assert search.suggest("e") == Searcher.FINISHED


def test_what_another_run_of_the_sweep_has_ended_is_not_waited_for():
    search = searcher({"sparse": [proposal("sparse", 0, "dense-0")]})
    assert search.suggest("a") == {"trial": "sparse-0"}


def test_what_cannot_start_is_given_up_and_the_rest_goes_on():
    def request(asked):
        if asked.proposal.trial != "dense-0" and asked.proposal.after:
            raise TrialFailed("no dense trial to start from has a result")
        return {"trial": asked.proposal.trial}

    listening = Listening()
    tickets = [
        proposal("sparse", 0, "dense-0"),
        proposal("sparse", 1, "dense-0"),
        proposal("sparse", 2),
    ]
    search = searcher({"dense": [proposal("dense", 0)], "sparse": tickets}, request=request)
    search.listen(listening)
    assert search.suggest("a") == {"trial": "dense-0"}
    assert search.suggest("b") == {"trial": "sparse-2"}
    search.tell("a", FAILED)
    assert search.suggest("c") == Searcher.FINISHED
    assert listening.given_up == [
        (f"sparse-{i}", "no dense trial to start from has a result") for i in range(2)
    ]


def test_a_closed_sweep_does_not_wait():
    answers = iter([False, True])
    search = searcher(
        {"dense": [proposal("dense", 0)], "sparse": [proposal("sparse", 0, "dense-0")]},
        closed=lambda: next(answers),
    )
    assert search.suggest("a") == {"trial": "dense-0"}
    assert search.suggest("b") == Searcher.FINISHED


class OnlyOne(ListedSearch):
    """A search that needs no more once it was told of an end."""

    def __init__(self, trials):
        super().__init__(trials)
        self.told = 0

    def ask(self):
        return None if self.told else super().ask()

    def tell(self, trial, result):
        self.told += 1


def test_what_a_search_does_not_ask_for_is_discarded_and_not_waited_for():
    listening = Listening()
    cells = {
        "dense": [proposal("dense", 0), proposal("dense", 1), proposal("dense", 2)],
        "sparse": [proposal("sparse", 0, "dense-2")],
    }
    search = searcher(cells, search=OnlyOne)
    search.listen(listening)
    assert search.suggest("a") == {"trial": "dense-0"}
    search.tell("a", FAILED)
    assert search.suggest("b") == {"trial": "sparse-0"}
    assert listening.discarded == ["dense-1", "dense-2"]
    assert search.suggest("c") == Searcher.FINISHED


def test_a_trial_that_gets_no_resources_now_is_the_next_one_again():
    free, asked = [], []

    def request(trial):
        asked.append(trial.proposal.trial)
        return {"trial": trial.proposal.trial} if free else None

    found = searcher({"a": [proposal("a", 0), proposal("a", 1)]}, request=request)
    assert [found.suggest("t0"), found.suggest("t0")] == [None, None]
    free.append(1)
    assert [found.suggest("t0"), found.suggest("t1")] == [{"trial": "a-0"}, {"trial": "a-1"}]
    assert asked == ["a-0"] * 3 + ["a-1"]


def test_what_waits_for_others_of_its_kind_keeps_no_other_cell_waiting():
    measured, asked = [], []

    def request(trial):
        asked.append(trial.proposal.trial)
        waits = trial.proposal.cell == "a" and asked.count("a-0") > 0 and not measured
        return WAIT if waits and trial.proposal.trial != "a-0" else {"trial": trial.proposal.trial}

    cells = {
        "a": [proposal("a", 0), proposal("a", 1), proposal("a", 2)],
        "b": [proposal("b", 0)],
        "c": [proposal("c", 0)],
    }
    found = searcher(cells, request=request)
    given = [found.suggest(f"t{number}") for number in range(5)]
    assert given == [{"trial": "a-0"}, {"trial": "b-0"}, {"trial": "c-0"}, None, None]
    measured.append(1)
    assert [found.suggest(name) for name in "xy"] == [{"trial": "a-1"}, {"trial": "a-2"}]


def test_several_that_wait_for_others_of_their_kind_keep_no_other_cell_waiting():
    """So a sweep goes on that was interrupted: it knows more trials of a cell than it can start."""
    begun = [proposal("a", 0), proposal("a", 1), proposal("b", 0)]
    searches = {cell: ListedSearch([]) for cell in "ab"}
    found = SweepSearcher(
        Turns(searches, {}, begun=begun),
        lambda trial: WAIT if trial.proposal.cell == "a" else {"trial": trial.proposal.trial},
        lambda: False,
    )
    assert found.suggest("t0") == {"trial": "b-0"}


def test_a_trial_that_goes_on_waits_for_no_other_kind_of_its_cell():
    """With `resources: auto` the first of a kind is measured alone: others of the kind wait."""
    begun = [proposal("a", number) for number in range(3)]
    found = SweepSearcher(
        Turns({"a": ListedSearch([])}, {}, begun=begun),
        lambda trial: WAIT if trial.proposal.seed == 0 else {"trial": trial.proposal.trial},
        lambda: False,
    )
    assert [found.suggest(name) for name in "tu"] == [{"trial": "a-1"}, {"trial": "a-2"}]
    assert found.suggest("v") is None  # a-0 is to come


def test_one_trial_of_each_cell_is_passed_over_at_most():
    made = []

    class Noting(ListedSearch):
        def ask(self):
            trial = super().ask()
            made.append(trial and trial.proposal.trial)
            return trial

    cells = {cell: [proposal(cell, number) for number in range(5)] for cell in "ab"}
    found = searcher(cells, request=lambda trial: WAIT, search=Noting)
    assert [found.suggest("t0") for _ in range(4)] == [None] * 4
    assert made == ["a-0", "b-0"]


def test_no_more_trials_are_given_than_there_are_workers_for():
    most = [2]
    trials = [proposal("a", number) for number in range(4)]
    found = SweepSearcher(
        Turns({"a": ListedSearch(trials)}, {"a": trials}),
        lambda trial: {"trial": trial.proposal.trial},
        lambda: False,
        lambda: most[0],
    )
    assert [found.suggest(name) for name in "tuv"] == [{"trial": "a-0"}, {"trial": "a-1"}, None]
    found.tell("t", FAILED)
    assert [found.suggest(name) for name in "vw"] == [{"trial": "a-2"}, None]
    most[0] = 9  # a node has come
    assert found.suggest("w") == {"trial": "a-3"}
    assert found.suggest("x") == Searcher.FINISHED


def test_what_never_can_start_counts_as_failed_for_its_search_and_for_who_waits_for_it():
    told = []

    class Remembering(ListedSearch):
        def tell(self, trial, outcome):
            told.append((trial, outcome))

    def request(asked):
        if asked.proposal.trial == "low-0":
            raise TrialFailed("no dense trial to start from has a result")
        return {"trial": asked.proposal.trial}

    cells = {"high": [proposal("high", 0, "low-0")], "low": [proposal("low", 0)]}
    found = searcher(cells, request=request, search=Remembering)
    assert found.suggest("t0") == {"trial": "high-0"}
    assert told == [("low-0", FAILED)]
