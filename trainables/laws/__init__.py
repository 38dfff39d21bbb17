"""What every backbone and every generator must keep, ours and those of other packages.

The tests hold our own parts to these laws; `orchestrate check` holds anyone's. Knows no sweep.
"""
