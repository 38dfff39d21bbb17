from types import SimpleNamespace

from orchestrator.search.listed import ListedSearch
from orchestrator.search.protocol import Outcome


def test_a_list_is_proposed_in_its_order_whatever_it_is_told():
    trials = [SimpleNamespace(name=name) for name in "abc"]
    search = ListedSearch(trials)
    asked = []
    while (trial := search.ask()) is not None:
        asked.append(trial)
        search.tell(trial.name, Outcome("failed"))
    assert asked == trials
    assert search.ask() is None
