"""What this machine or a cluster has, and what would fail there before a sweep is started.

Runs no trial and leaves nothing behind.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from orchestrator.planning.check import check_data
from orchestrator.planning.node_facts import NodeFacts, Place, node_facts
from trainables.contract.addresses import is_address
from trainables.contract.errors import UserError

if TYPE_CHECKING:
    from orchestrator.sweep import Sweep

State = Literal["ok", "warning", "fails"]

LITTLE_GB, TOO_LITTLE_GB = 20.0, 1.0
"""Free disk that is worth a word, and that no sweep gets by with."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, where, and what to do if it is not well."""

    where: str  # this machine, or a node's name and address
    what: str
    state: State
    said: str  # what there is
    todo: str = ""  # empty where all is well


HERE = "this machine"


def examine(sweep: Sweep | None, address: str | None, note: Callable[[str], None]) -> list[Finding]:
    """Every finding, of this machine first, then of the nodes. sweep: whose store, storage and
    tracking are looked at; None: `runs` in this folder. address: HOST:PORT of a Ray cluster.
    """
    storage = Path("runs" if sweep is None else sweep.storage).absolute()
    with _probe(storage) as probe:
        if isinstance(probe, Finding):
            return [probe]
        places = [probe]
        note("looking at this machine")
        facts = node_facts(tuple(places))
        found = [*of_machine(HERE, facts, storage, probe, wants_gpu=_wants_gpu(sweep))]
        if sweep is not None:
            found += _of_store(sweep)
            note("asking MLflow")
            found.append(_of_tracking(sweep))
            places += [Place(folder) for folder in _stores(sweep)]
        return found + _of_ray(address, note, facts, tuple(places), storage, sweep)


def _of_ray(
    address: str | None,
    note: Callable[[str], None],
    here: NodeFacts,
    places: tuple[Place, ...],
    storage: Path,
    sweep: Sweep | None,
) -> list[Finding]:
    from orchestrator.tuning.asking import ask_nodes
    from orchestrator.tuning.cluster import ray_cluster

    try:
        with ray_cluster(address, note) as cluster:
            note("asking every node")
            answers = ask_nodes(node_facts, places)
            shared = cluster.shared  # by RAY_ADDRESS, too
    except UserError as error:
        return [Finding(HERE, "Ray", "fails", str(error), "see docs/clusters.md")]
    where = "the cluster answers" if shared else "on this machine"
    found = [Finding(HERE, "Ray", "ok", f"{where}, {_counted(len(answers), 'node')}")]
    for answer in answers:
        if answer.answer is None:
            todo = "install the project on every node, in the environment that runs Ray"
            found.append(Finding(answer.node, "worker", "fails", answer.error, todo))
            continue
        facts: NodeFacts = answer.answer
        gpus = bool(answer.resources.get("GPU")) and _wants_gpu(sweep)
        if shared:
            found += of_machine(answer.node, facts, storage, places[0], wants_gpu=gpus)
        found += of_worker(answer.node, facts, here, places)
    return found


def of_machine(
    where: str, facts: NodeFacts, storage: Path, probe: Place, *, wants_gpu: bool
) -> Iterator[Finding]:
    """What a machine has: cores, GPUs, torch, room."""
    memory = f"{facts.memory / 2**30:.1f} GB of memory"
    yield Finding(where, "machine", "ok", f"{_counted(facts.cores, 'core')}, {memory}")
    versions = ", ".join(f"{name} {version}" for name, version in facts.versions.items())
    missing = [name for name, version in facts.versions.items() if version == "not installed"]
    yield Finding(
        where,
        "versions",
        "fails" if missing else "ok",
        versions,
        f"install {' and '.join(missing)}" if missing else "",
    )
    yield _of_torch(where, facts, wants_gpu=wants_gpu)
    if probe.folder in facts.free:
        yield _of_disk(where, storage, facts.free[probe.folder])


def _of_torch(where: str, facts: NodeFacts, *, wants_gpu: bool) -> Finding:
    if facts.torch_build is None:
        todo = "install torch for this machine"
        return Finding(where, "torch", "fails", facts.torch_error, todo)
    cards = ", ".join(facts.torch_gpus) or "no GPU"
    driver = f", driver {facts.driver}" if facts.driver else ""
    said = f"{facts.torch_build}, {cards}{driver}"
    if facts.gpus and not facts.torch_gpus:
        todo = (
            f"this machine has {_counted(len(facts.gpus), 'GPU')} that torch does not find: install"
            " a build with CUDA that the driver supports"
        )
        return Finding(where, "torch", "fails" if wants_gpu else "warning", said, todo)
    if wants_gpu and not facts.torch_gpus:
        return Finding(
            where, "torch", "fails", said, "the sweep asks for a GPU: see resources.gpus"
        )
    return Finding(where, "torch", "ok", said)


def _of_disk(where: str, storage: Path, free: int) -> Finding:
    said = f"{free / 1e9:.1f} GB free in {storage}"
    if free < TOO_LITTLE_GB * 1e9:
        return Finding(where, "disk", "fails", said, "make room, or give another `storage`")
    if free < LITTLE_GB * 1e9:
        todo = "`orchestrate plan FILE` says what a sweep needs"
        return Finding(where, "disk", "warning", said, todo)
    return Finding(where, "disk", "ok", said)


def of_worker(
    where: str, facts: NodeFacts, here: NodeFacts, places: Sequence[Place]
) -> Iterator[Finding]:
    """What a node sees of what the driver sees, and whether it has the same versions."""
    reached = [place.folder for place in places if place.folder not in facts.unreachable]
    for folder, reason in facts.unreachable.items():
        todo = "mount it under the same path on every node"
        said = f"{Path(folder).parent if _is_probe(folder) else folder}: {reason}"
        yield Finding(where, "storage seen by a worker", "fails", said, todo)
    if reached:
        names = ", ".join(str(Path(each).parent if _is_probe(each) else each) for each in reached)
        yield Finding(where, "storage seen by a worker", "ok", names)
    other = {
        name: version
        for name, version in facts.versions.items()
        if version != here.versions.get(name)
    }
    if other:
        said = ", ".join(f"{name} {version}" for name, version in other.items())
        mine = ", ".join(f"{name} {here.versions.get(name)}" for name in other)
        todo = f"install the same everywhere (here: {mine})"
        yield Finding(where, "same versions", "fails", said, todo)
    else:
        yield Finding(where, "same versions", "ok", "as on this machine")


def _of_store(sweep: Sweep) -> list[Finding]:
    problems = check_data(sweep)
    if not problems:
        return [Finding(HERE, "store", "ok", sweep.data.store)]
    todo = "`orchestrate data import`, or give another `data.store`"
    return [Finding(HERE, "store", "fails", problem, todo) for problem in problems]


def _of_tracking(sweep: Sweep) -> Finding:
    from trainables.contract.secrets import redacted

    if sweep.tracking.is_off:
        return Finding(HERE, "MLflow", "ok", "tracking.uri is none: nothing is recorded")
    from orchestrator.tracking.client import check_store

    shown = redacted(sweep.tracking.uri)
    try:
        return Finding(HERE, "MLflow", "ok", f"{shown}: {check_store(sweep.tracking.uri)}")
    except UserError as error:
        todo = "start the server, or give another `tracking.uri` (none: no tracking)"
        return Finding(HERE, "MLflow", "fails", redacted(str(error)), todo)


def _wants_gpu(sweep: Sweep | None) -> bool:
    """Whether the file says so; `auto` takes what there is."""
    if sweep is None or sweep.resources.gpus == "auto":
        return False
    return float(sweep.resources.gpus) > 0


def _stores(sweep: Sweep) -> list[str]:
    """Folders of the store, where it is one."""
    store = sweep.data.store
    return [] if is_address(store) else [str(Path(store).absolute())]


PREFIX = ".doctor-"


def _is_probe(folder: str) -> bool:
    return Path(folder).name.startswith(PREFIX)


@contextmanager
def _probe(storage: Path) -> Iterator[Place | Finding]:
    """Within: a folder in the storage, with a word in it that a worker must read; gone afterwards.
    A Finding where it cannot be made.
    """
    there = next(folder for folder in (storage, *storage.parents) if folder.exists())
    word = secrets.token_hex(8)
    try:
        folder = tempfile.mkdtemp(dir=there, prefix=PREFIX)
        Path(folder, "word").write_text(word)
    except OSError as error:
        said = f"{there}: {error.strerror}"
        yield Finding(HERE, "storage", "fails", said, "give a `storage` that can be written")
        return
    try:
        yield Place(folder, word)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
