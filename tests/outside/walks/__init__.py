"""A reader as another package has it: its card, and the function beside it."""
