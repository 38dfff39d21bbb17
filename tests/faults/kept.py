"""What a simulated sweep does a hundred times with the same answer is done once: files that did not
change are parsed once, paths joined once. The sweep itself takes no notice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path, PurePath
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.record import copies, folder, proposals, resolved, warm_start
from orchestrator.tracking import records
from orchestrator.trials import space
from trainables.contract import disk
from trainables.contract.artifacts import TrialDir

MOST = 1000
"""Contents of files of one kind that are kept in memory."""


_PARSED: dict[str, Any] = {}
_BUILT: dict[tuple[int, str], Any] = {}
_load_folder, _build_config = folder.load_folder, space.build_config


def _parsed_once(run: Path) -> Any:
    """`load_folder`, which takes longer than a whole life of a driver here, once per content."""
    content = repr(load_resolved(run)["sweep"])
    if content not in _PARSED:
        _PARSED[content] = _load_folder(run)
    return _PARSED[content]


def _built_once(sweep: Any, cell: Any, assignment: Any, seed: int) -> Any:
    """`build_config`, once per trial of the scenarios, whose sweeps live as long as the process."""
    key = id(sweep), repr((cell, assignment, seed))
    if key not in _BUILT:
        _BUILT[key] = _build_config(sweep, cell, assignment, seed)
    return _BUILT[key]


def _read_bytes(file: Path) -> bytes:
    """`Path.read_bytes`, in half of the calls to the system."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        return os.read(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def once_per_content(
    load: Callable[[Any], Any], file_of: Callable[[Any], Path]
) -> Callable[[Any], Any]:
    """`load`, which reads one file and nothing else: files are looked at a hundred times in a
    sweep.
    """
    known: dict[bytes, Any] = {}

    def loaded(place: Any) -> Any:
        try:
            content = _read_bytes(file_of(place))
        except OSError:
            return load(place)
        if content not in known:
            if len(known) >= MOST:
                known.clear()
            known[content] = load(place)
        return known[content]

    return loaded


load_resolved = once_per_content(resolved.load_resolved, lambda run: run / resolved.FILE)
_load_result = once_per_content(TrialDir.load, lambda trial: trial.result_file)
_load_curve = once_per_content(records.load_curve, lambda path: path)
_load_config = once_per_content(TrialDir.load_config, lambda trial: trial.config_file)
_joined = lru_cache(maxsize=100_000)(PurePath.__truediv__)


def _dumped(value: Any, indent: int = 0, **options: Any) -> str:
    """Without the indents: what makes them is written in Python, and ten times as slow."""
    return json.dumps(value, **options)


def install(patch: pytest.MonkeyPatch) -> None:
    """Put what is kept into the places of what it stands for."""
    patch.setattr(folder, "load_folder", _parsed_once)
    patch.setattr(warm_start, "load_folder", _parsed_once)
    patch.setattr(space, "build_config", _built_once)
    patch.setattr(proposals, "load_resolved", load_resolved)
    patch.setattr(TrialDir, "load", _load_result)
    patch.setattr(TrialDir, "load_config", _load_config)
    patch.setattr(records, "load_curve", _load_curve)
    patch.setattr(copies, "_root", cache(copies._root))
    patch.setattr(PurePath, "__truediv__", _joined)
    patch.setattr(Path, "read_bytes", _read_bytes)
    patch.setattr(disk, "json", SimpleNamespace(dumps=_dumped, loads=json.loads))
