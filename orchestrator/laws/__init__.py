"""What every search and every ensemble strategy must keep, ours and those of other packages.

The tests hold our own parts to these laws; `orchestrate check` holds anyone's. Loads no torch.
"""
