"""The tables of the two papers with their published figures, and ours beside them.

Knows what the evaluation found and what the papers print; computes no accuracy of its own.
"""
