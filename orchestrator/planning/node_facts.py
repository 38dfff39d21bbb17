"""What one machine has, as a driver or a worker finds it there. Loads neither torch nor Ray: torch
is asked in a process of its own.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from orchestrator import __version__
from orchestrator.planning.machine import present
from orchestrator.planning.reaching import Place, free_in_cache, unreached
from trainables.contract.addresses import is_address

PACKAGES = ("ray", "torch", "mlflow", "numpy", "pyarrow")
"""Whose versions must be one on all nodes, as must those of Python and the project."""

PATIENCE_S = 120.0
"""Of torch, whose import from a network disk takes long."""

_ASK_TORCH = (
    "import json, torch; print(json.dumps({'build': torch.__version__, 'cuda': torch.version.cuda,"
    " 'gpus': [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]}))"
)


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a machine has, and what it sees of the places that a sweep needs."""

    name: str
    cores: int
    memory: int  # bytes
    gpus: tuple[str, ...]  # as the driver of the cards names them
    driver: str | None  # version
    versions: dict[str, str]
    torch_build: str | None  # None: torch cannot be loaded, see `torch_error`
    torch_gpus: tuple[str, ...]
    torch_error: str = ""
    free: dict[str, int] = field(default_factory=dict)  # bytes, by folder
    unreachable: dict[str, str] = field(default_factory=dict)  # why, by folder or address
    cache: str = ""  # folder of copies of what lies at addresses


def node_facts(places: tuple[Place, ...]) -> NodeFacts:
    """The facts of the machine that this runs on, see `unreached`."""
    cores, cards = present()
    torch = _torch()
    free: dict[str, int] = {}
    unreachable: dict[str, str] = {}
    name = platform.node()
    for place in places:
        reason = unreached(place, name)
        if reason is not None:
            unreachable[place.folder] = reason
        elif not is_address(place.folder):
            free[place.folder] = shutil.disk_usage(place.folder).free
    cache, free_there = free_in_cache()
    return NodeFacts(
        name=name,
        cores=cores,
        memory=_memory(),
        gpus=tuple(cards),
        driver=_driver(),
        versions=package_versions(),
        torch_build=torch.get("build"),
        torch_gpus=tuple(torch.get("gpus", ())),
        torch_error=torch.get("error", ""),
        free=free | {cache: free_there},
        unreachable=unreachable,
        cache=cache,
    )


def package_versions() -> dict[str, str]:
    """Of Python, the project and what its results depend on, as they are installed here."""
    found = {"Python": platform.python_version(), "orchestrate": __version__}
    return found | {name: _installed(name) for name in PACKAGES}


@cache
def _installed(package: str) -> str:
    """Its version: a process does not see that another one is installed beside it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _torch() -> dict[str, Any]:
    """Torch's word on itself and its GPUs: a worker without a GPU of its own hides them."""
    environment = {name: text for name, text in os.environ.items() if "VISIBLE_DEVICES" not in name}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK_TORCH],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {"error": str(error)}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _memory() -> int:
    """Bytes of the machine, or of the container that this runs in."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return whole
    return min(whole, int(limit)) if limit.isdigit() else whole


def _driver() -> str | None:
    """Version of NVIDIA's driver."""
    try:
        words = Path("/proc/driver/nvidia/version").read_text().split()
    except OSError:
        return None
    return next((word for word in words if word[:1].isdigit() and "." in word), None)
