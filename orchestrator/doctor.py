"""What this machine or a cluster has, and what would fail there before a sweep is started.

Runs no trial and leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeGuard

from orchestrator.planning.check import check_data
from orchestrator.planning.node_facts import NodeFacts, node_facts
from orchestrator.planning.reaching import Place, makes_once, probe
from trainables.contract.addresses import is_address
from trainables.contract.errors import OrchestrateError, UserError
from trainables.data.store.description import INFO_FILE

if TYPE_CHECKING:
    from orchestrator.sweep import Sweep
    from orchestrator.tuning.asking import NodeAnswer

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
    storage = "runs" if sweep is None else sweep.storage
    if not is_address(storage):
        storage = str(Path(storage).absolute())
    with ExitStack() as stack:
        try:
            made = stack.enter_context(probe(storage))
        except UserError as error:
            todo = "give a `storage` that can be written"
            return [Finding(HERE, "storage", "fails", str(error), todo)]
        places = [made]
        note("looking at this machine")
        facts = node_facts(tuple(places))
        found = [*of_machine(HERE, facts, sweep, made)]
        if is_address(storage):
            found.append(_of_bucket(storage, made))
        if sweep is not None:
            found += _of_store(sweep)
            note("asking MLflow")
            found.append(_of_tracking(sweep))
            places.append(_store(sweep))
        return found + _of_ray(address, note, facts, tuple(places), sweep)


def _of_ray(
    address: str | None,
    note: Callable[[str], None],
    here: NodeFacts,
    places: tuple[Place, ...],
    sweep: Sweep | None,
) -> list[Finding]:
    from orchestrator.tracking.client import unanswered
    from orchestrator.tuning.asking import ask_nodes
    from orchestrator.tuning.cluster import ray_cluster

    try:
        with ray_cluster(address, note) as cluster:
            note("asking every node")
            answers = ask_nodes(node_facts, places)
            shared = cluster.shared  # by RAY_ADDRESS, too
            tracking = sweep.tracking.uri if shared and _sent_by_nodes(sweep) else None
            tracked = [] if tracking is None else ask_nodes(unanswered, tracking)
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
        if shared:
            without = not answer.resources.get("GPU")  # a head that runs no trial
            found += of_machine(answer.node, facts, sweep, places[0], without_gpu=without)
        found += of_worker(answer.node, facts, here, places)
    return found + [_tracking_from(answer) for answer in tracked]


def of_machine(
    where: str, facts: NodeFacts, sweep: Sweep | None, probe: Place, *, without_gpu: bool = False
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
    yield _of_torch(where, facts, wants_gpu=_wants_gpu(sweep) and not without_gpu)
    if probe.folder in facts.free:
        yield _of_disk(where, probe.shown, facts.free[probe.folder], "give another `storage`")
    if facts.cache in facts.free and (
        is_address(probe.folder) or (sweep is not None and is_address(sweep.data.store))
    ):
        todo = "set ORCHESTRATE_CACHE to another folder"
        yield _of_disk(where, facts.cache, facts.free[facts.cache], todo)


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


def _of_disk(where: str, folder: str, free: int, otherwise: str) -> Finding:
    said = f"{free / 1e9:.1f} GB free in {folder}"
    if free < TOO_LITTLE_GB * 1e9:
        return Finding(where, "disk", "fails", said, f"make room, or {otherwise}")
    if free < LITTLE_GB * 1e9:
        todo = "`orchestrate plan FILE` says what a sweep needs"
        return Finding(where, "disk", "warning", said, todo)
    return Finding(where, "disk", "ok", said)


def of_worker(
    where: str, facts: NodeFacts, here: NodeFacts, places: Sequence[Place]
) -> Iterator[Finding]:
    """What a node sees of what the driver sees, and whether it has the same versions."""
    reached = [place.shown for place in places if place.folder not in facts.unreachable]
    for place in places:
        if place.folder in facts.unreachable:
            todo = "mount it under the same path on every node"
            if is_address(place.folder):
                todo = "give every node the package and the credentials: see docs/clusters.md"
            said = f"{place.shown}: {facts.unreachable[place.folder]}"
            yield Finding(where, "storage seen by a worker", "fails", said, todo)
    if reached:
        yield Finding(where, "storage seen by a worker", "ok", ", ".join(reached))
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


def _of_bucket(storage: str, made: Place) -> Finding:
    """A storage at an address that was reached."""
    said = f"{storage}: read, written, listed and deleted"
    try:
        once = makes_once(made)
    except OrchestrateError as error:
        return Finding(HERE, "storage", "fails", str(error), "see docs/clusters.md")
    if once:
        return Finding(HERE, "storage", "ok", said)
    todo = "start no second driver of a sweep: this storage cannot refuse it"
    return Finding(HERE, "storage", "warning", f"{said}, but not written once only", todo)


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


def _sent_by_nodes(sweep: Sweep | None) -> TypeGuard[Sweep]:
    """Whether nodes send the files of finished trials to MLflow themselves, where they reach it."""
    from orchestrator.tracking.client import may_be_told

    if sweep is None or sweep.tracking.is_off:
        return False
    try:
        return may_be_told(sweep.tracking.uri)
    except UserError:  # a variable that is not set, which is said already
        return False


def _tracking_from(answer: NodeAnswer[str]) -> Finding:
    """Whether a node reaches MLflow; it is no fault where it does not."""
    reason = answer.error if answer.answer is None else answer.answer
    if not reason:
        return Finding(answer.node, "MLflow seen by a worker", "ok", "it answers")
    todo = (
        "nothing, if the driver may send the files of its trials; else give `ray start` there the"
        " name and password"
    )
    return Finding(answer.node, "MLflow seen by a worker", "warning", reason, todo)


def _wants_gpu(sweep: Sweep | None) -> bool:
    """Whether the file says so; `auto` takes what there is."""
    if sweep is None or sweep.resources.gpus == "auto":
        return False
    return float(sweep.resources.gpus) > 0


def _store(sweep: Sweep) -> Place:
    """The store as a worker has to see it."""
    store = sweep.data.store
    if is_address(store):
        return Place(store.rstrip("/"), file=INFO_FILE)
    return Place(str(Path(store).absolute()))


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
