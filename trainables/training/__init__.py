"""The training loop: takes a module and batches as arguments, knows neither models nor sparsity."""
