"""The card of a search. Imports neither torch nor ray."""

from orchestrator.sweep.searches import SearchCard

CARD = SearchCard(
    name="first_few",
    module="choices.first_few:FirstFew",
    about="Draws until three in a row were no better than the best.",
)
