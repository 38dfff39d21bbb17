"""A backbone as another package has it: its card, and the network beside it."""
