"""Backbones: one file each, the layers they share, and the table they are built from.

Knows nothing of data, masks or training.
"""
