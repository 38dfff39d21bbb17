"""Checkpoints of other code bases: read safely, renamed by rule, matched tensor by tensor.

One file per code base.
"""
