"""How the weights of an ensemble are found: one file per strategy, its card and its function.

A strategy sees the selection scores of its sources and never a test label.
"""
