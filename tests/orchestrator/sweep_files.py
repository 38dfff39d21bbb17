"""Sweep files for tests: a small valid one, and ways to write and load variations of it."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from orchestrator.sweep import Sweep, load_sweep
from trainables.contract.errors import UserError

SMALL = """\
version: 1
name: small
data: {store: nowhere, protocol: xsub, frames: 16}
parameters:
  data.stream: [joint, bone]
  sparsity.level: [0, 0.8]
model: {channels: 8, stages: [1, 1]}
train: {epochs: 2, milestones: [1]}
"""

LOCAL = "resources={gpus: 0, cpus: 1, max_concurrent: 1}"
"""An override: one trial at a time on one core."""

THREE_LEVELS = """
version: 1
name: small
data: {store: nowhere, protocol: xsub}
parameters:
  sparsity.level: [0.0, 0.6, 0.8]
"""


def written(folder: Path, text: str, name: str = "s.yaml") -> Path:
    """The file, with the text's common indentation removed."""
    path = folder / name
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def loaded(folder: Path, text: str, *overrides: str) -> Sweep:
    return load_sweep(written(folder, text), overrides)


def problems(folder: Path, text: str, *overrides: str) -> list[str]:
    """What is wrong with the file, its folder left out of the messages."""
    with pytest.raises(UserError) as caught:
        loaded(folder, text, *overrides)
    return [problem.replace(f"{folder}/", "") for problem in caught.value.problems]
