"""A search as another package would bring it: its card, and what it does."""

from orchestrator.search.listed import ListedSearch
from orchestrator.sweep.searches import SearchCard

CARD = SearchCard(
    name="first_good",
    module=f"{__name__}:FirstGood",
    about="stops at the first trial with a result",
)


class FirstGood(ListedSearch):
    def __init__(self, proposals):
        super().__init__(proposals)
        self._found = False

    def ask(self):
        return None if self._found else super().ask()

    def tell(self, trial, outcome):
        self._found = self._found or outcome.result is not None
