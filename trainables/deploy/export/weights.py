"""The weights of an exported program as safetensors, which tools read without running anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainables.contract.disk import write_atomic
from trainables.deploy.export.archive import load_program
from trainables.deploy.export.exported import import_runtime


def save_weights(program: Path, out: Path) -> int:
    """Write every tensor of the program's state under its name; returns how many there are."""
    import torch

    safetensors = import_runtime("safetensors.torch", "publishing")
    state: dict[str, Any] = load_program(program, torch)[0].state_dict()
    # each by itself: the format has no views
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in state.items()}
    write_atomic(out, safetensors.save(tensors, metadata={"format": "pt"}))
    return len(tensors)
