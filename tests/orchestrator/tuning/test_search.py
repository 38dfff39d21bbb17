from ray.tune.search import Searcher

from orchestrator.planned import PlannedTrial
from orchestrator.space import Trial
from orchestrator.tuning.search import ListedSearch, SweepSearcher
from trainables.contract.config import DataConfig, TrialConfig


def proposal(cell, number):
    planned = PlannedTrial(trial=f"{cell}-{number}", cell=cell, axes={}, assignment={}, seed=number)
    return Trial(planned, TrialConfig(data=DataConfig(store="s", protocol="p"), seed=number))


def searcher(cells, closed=lambda: False):
    return SweepSearcher({cell: ListedSearch(proposals) for cell, proposals in cells.items()}, lambda p: {"trial": p.planned.trial}, closed)


def all_suggestions(search):
    given = []
    while (suggestion := search.suggest(f"t{len(given)}")) != Searcher.FINISHED:
        given.append(suggestion["trial"])
    return given


def test_cells_take_turns_until_all_are_empty():
    search = searcher({"a": [proposal("a", 0), proposal("a", 1), proposal("a", 2)], "b": [proposal("b", 0)], "c": []})
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

    search = SweepSearcher({"a": Remembering([proposal("a", 7)])}, lambda p: {}, lambda: False)
    search.suggest("tune-id")
    assert search.proposal_of("tune-id").planned.trial == "a-7"
    search.tell("tune-id", None)
    assert told == [("a-7", None)]
