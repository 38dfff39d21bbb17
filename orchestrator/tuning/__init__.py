"""Trials on Ray Tune: searching, stopping, running, showing.

The only rooms of the sweep that import Ray.
"""
