"""Score and label files of any origin: one file per format.

Knows files and arrays; nothing of sweeps, and nothing of what scores are good for.
"""
