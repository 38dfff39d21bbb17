"""What is known of a reader of another package: its card, and where such cards are found.

Our own formats are commands with options of their own, `orchestrate data import KIND`.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainables.contract.cards import Card, CardTable


@dataclass(frozen=True, kw_only=True)
class ReaderCard(Card):
    """A reader; its `module` is a function Path -> `trainables.data.store.description.Recordings`
    that raises UserError where the files are not of its kind.
    """


READERS = CardTable("reader", "orchestrate.readers", ReaderCard, {})
