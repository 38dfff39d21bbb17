"""The card of a reader of JSON files, a clip each. Imports no torch."""

from trainables.contract.readers import ReaderCard

CARD = ReaderCard(name="walks", module="walks.read:read_walks", about="JSON files, a clip each.")
