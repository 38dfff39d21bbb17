"""What crosses the line between a sweep and a trial: configuration, scores, files, errors.

Imports nothing heavy.
"""
