"""A search and a strategy as another package has them, each beside its card."""
