"""Searches that learn: one Optuna study for each cell, in memory, rebuilt from what happened.

The only place that imports Optuna; nothing of it is read back from a file.
"""
