"""A sparsity generator as another package has it: its card, and its masks beside it."""
