"""One trial on the CPU, as tests run it."""

import torch

from trainables.data.store.reading import write_store
from trainables.data.synthetic import SyntheticConfig, synthetic_recordings
from trainables.layouts import LAYOUTS
from trainables.run import Setup, Watch
from trainables.run import run_trial as run

CPU = torch.device("cpu")


SETUP = ("root", "source", "timed", "beginnings")


def run_trial(config, out, **options):
    """options: fields of `Setup` and `Watch`."""
    places = {name: options.pop(name) for name in SETUP if name in options}
    return run(config, out, Setup(CPU, **places), Watch(**options))


def write_synthetic(path):
    """A small store to train on: 4 classes, 6 subjects."""
    made = synthetic_recordings(
        SyntheticConfig(classes=4, clips_per_class=12, subjects=6, views=2, frames=12),
        LAYOUTS["coco17"],
    )
    write_store(path, made.clips, made.description)
    return path
