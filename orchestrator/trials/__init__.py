"""Which trials there are: cells, the space of a cell, proposals.

Must not know data, training or Ray.
"""
