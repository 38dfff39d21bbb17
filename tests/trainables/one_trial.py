"""One trial on the CPU, as tests run it."""

import torch

from trainables.run import Setup, Watch
from trainables.run import run_trial as run

CPU = torch.device("cpu")


def run_trial(config, out, **options):
    """options: fields of `Setup` and `Watch`."""
    places = {name: options.pop(name) for name in ("root", "source", "timed") if name in options}
    return run(config, out, Setup(CPU, **places), Watch(**options))
