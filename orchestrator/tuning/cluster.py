"""Ray's own life: started or joined, what its nodes have, whether it is still there.

Knows nothing of trials.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from orchestrator.sweep import Resources
from orchestrator.tuning.joining import check_head
from orchestrator.tuning.loopback import on_loopback
from orchestrator.tuning.signals import handlers_kept
from trainables.contract.errors import Interrupted, UserError

log = logging.getLogger(__name__)

RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the journal and the trials' files are the record
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",  # a restart and a failure are one line each, of ours
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",  # nothing is restored from Tune's snapshot
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1e9",  # `WaitingForCores` says it
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S_AUTOSCALER": "1e9",
}

ASK_EVERY_S = 3.0
LOST_AFTER_S = 15.0
"""A head that does not answer for so long is gone. Ray itself ends the process without a word after
60 s.
"""


@dataclass(frozen=True, slots=True)
class Slots:
    """What one trial gets, and how many run at once."""

    cpus: float
    gpus: float
    concurrent: int

    @property
    def threads(self) -> int:
        """Threads of one CPU trial; two trials never share a team."""
        return max(1, int(self.cpus))

    @property
    def words(self) -> str:
        """`1 CPU`, `4 CPUs and 0.5 GPUs`."""
        gpus = f" and {in_words(self.gpus, 'GPU')}" if self.gpus else ""
        return f"{in_words(self.cpus, 'CPU')}{gpus}"


def in_words(number: float, what: str) -> str:
    """`1 CPU`, `0.5 CPUs`."""
    return f"{number:g} {what}{'' if number == 1 else 's'}"


def live_nodes() -> list[dict[str, float]]:
    """What each node of the cluster has, by Ray's names."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


LOOK_EVERY_S = 5.0
"""Between two looks at which nodes a cluster has that may grow."""

MOST_NODES = 1000
"""Of one kind that an autoscaler with no limit of its own is thought to start."""


def possible_nodes() -> list[dict[str, float]]:
    """What each node has that the cluster has, or that its autoscaler may start."""
    alive, config = live_nodes(), ray._private.state.state.get_cluster_config()
    if config is None:
        return alive
    scaled = [
        dict(group.resources)
        for group in config.node_group_configs
        for _ in range(MOST_NODES if group.max_count < 0 else group.max_count)
    ]
    return scaled if len(scaled) > len(alive) else alive


def fit_slots(
    wanted: Resources, nodes: Sequence[Mapping[str, float]], place: str = "resources: "
) -> Slots:
    """`resources` of the file, "auto" resolved against the cluster's nodes: one GPU per trial where
    there are GPUs, none elsewhere.

    nodes: what each node has, by Ray's names (CPU, GPU, memory in bytes). A trial runs on one node.
    place: of `resources` in the file, as messages begin.
    """
    gpus = (
        (1.0 if any(node.get("GPU", 0) for node in nodes) else 0.0)
        if wanted.gpus == "auto"
        else float(wanted.gpus)
    )
    concurrent = sum(_trials_on(node, wanted, gpus) for node in nodes)
    if concurrent < 1:
        have = "; ".join(
            f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs,"
            f" {node.get('memory', 0) / 2**30:.1f} GB"
            for node in nodes
        )
        memory = (
            ""
            if wanted.per_trial_memory_gb is None
            else f" per_trial_memory_gb={wanted.per_trial_memory_gb:g}"
        )
        raise UserError(
            f"{place}one trial must fit on one node, asked for cpus={wanted.cores:g}"
            f" gpus={gpus:g}{memory}, the nodes have {have}"
        )
    return Slots(wanted.cores, gpus, min(concurrent, wanted.max_concurrent or concurrent))


class Growing:
    """How many trials there are workers for, or soon will be: on the nodes that a cluster has, and
    on one more of those that its autoscaler may start. As it grows, so does the number.
    """

    def __init__(self, wanted: Resources, gpus: float) -> None:
        """wanted: what the file asks for; gpus: of a trial."""
        self._wanted = wanted
        self._gpus = gpus
        self._more = max(self._places(possible_nodes()), default=0)
        self._most = 0
        self._look_at = 0.0

    def __call__(self) -> int:
        """As it was at most `LOOK_EVERY_S` ago; at least 1."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            self._most = max(sum(self._places(live_nodes())) + self._more, 1)
        return self._most

    def _places(self, nodes: Sequence[Mapping[str, float]]) -> list[int]:
        return [_trials_on(node, self._wanted, self._gpus) for node in nodes]


def _trials_on(node: Mapping[str, float], wanted: Resources, gpus: float) -> int:
    """How many trials fit on a node at once; a fraction of a GPU is never spread over two."""
    fits = [int(node.get("CPU", 0) // wanted.cores)]
    if gpus:
        cards = int(node.get("GPU", 0))
        fits.append(cards * int(1 / gpus + 1e-9) if gpus < 1 else int(cards // gpus))
    if wanted.per_trial_memory_gb is not None:
        fits.append(int(node.get("memory", 0) // (wanted.per_trial_memory_gb * 2**30)))
    return min(fits)


class ClusterLost(Exception):
    """The cluster's head does not answer any more."""


class Cluster:
    """The Ray cluster that the sweep runs on."""

    def __init__(self, head: str, *, shared: bool) -> None:
        """head: HOST:PORT of its control service; shared: other sweeps may run on it too."""
        self.shared = shared
        self._head = head
        self._answered = time.monotonic()
        self._ask_at = 0.0
        self.lost = False

    def check(self, *, signalled: bool = False) -> None:
        """ClusterLost once the head has not answered for LOST_AFTER_S seconds.

        signalled: this process was asked to end: what asked it, such as `timeout` or Slurm, may
        have asked the Ray of this machine as well, which then does not come back.
        """
        now, gone = time.monotonic(), signalled and not self.shared
        if now < self._ask_at and not gone:
            return
        self._ask_at = now + ASK_EVERY_S
        if answers(self._head, timeout=1.0):
            self._answered = now
        elif gone or now - self._answered > LOST_AFTER_S:
            self.lost = True
            raise ClusterLost(f"the Ray cluster at {self._head} does not answer any more")


@contextmanager
def ray_cluster(address: str | None, note: Callable[[str], None]) -> Iterator[Cluster]:
    """Ray for the time of the run: quiet, without its usage report, and ended afterwards.

    address: HOST:PORT of a cluster to join; None is that in RAY_ADDRESS, else a Ray of this machine
    alone.
    """
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    with ExitStack() as around:
        local: dict[str, Any] = {}
        if where == "local":
            around.enter_context(on_loopback())
            local = {"include_dashboard": False, **_own_cores()}
            note("starting Ray on this machine")
        else:
            check_address(where, _said_by(address))
            if where != "auto":
                check_head(where)
            note(f"joining the Ray cluster at {where}")
        _init(where, local, _said_by(address))
        cluster = Cluster(ray.get_runtime_context().gcs_address, shared=where != "local")
        try:
            yield cluster
        finally:
            _leave(cluster)


@contextmanager
def cluster_ahead(
    address: str | None, note: Callable[[str], None], end: ExitStack
) -> Iterator[Callable[[], Cluster]]:
    """`ray_cluster` while its caller does other things: Ray's processes take seconds to start and
    to end, in which this one would wait. Yields what waits for the cluster, or raises why there is
    none. end: its exit waits until Ray is gone; what goes wrong then is a warning, as what it was
    needed for is done. UserError at once where nothing listens: then nothing has been written yet.

    The thread ends last: the kernel kills Ray's processes with the thread that started them.
    """
    where = address or os.environ.get("RAY_ADDRESS") or "local"
    if where != "local":
        check_address(where, _said_by(address))
    thread, around = end.enter_context(ThreadPoolExecutor(1)), ExitStack()
    begun = thread.submit(around.enter_context, ray_cluster(address, note))
    try:
        yield begun.result
    finally:
        end.callback(thread.submit(_end, around).result)


def _end(around: ExitStack) -> None:
    try:
        around.close()
    except Exception as error:  # whatever Ray raises as it ends
        log.warning("Ray did not end as it should: %s: %s", type(error).__name__, error)


def _own_cores() -> dict[str, int]:
    """The cores of this process, where they are fewer than the machine's: a job of Slurm has a
    share of a node, by affinity or by trust, and Ray counts all of it.
    """
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    job = os.environ.get("SLURM_CPUS_ON_NODE", "")
    own = min(own, int(job)) if job.isdigit() else own
    return {"num_cpus": own} if own < (os.cpu_count() or 1) else {}


def _to_the_log(data: Mapping[str, Any], ignore_prefix: bool) -> None:
    """What Ray says of lost nodes: many lines, on standard output, which is data."""
    for text in data["lines"]:
        log.info("Ray: %s", text)


def _init(where: str, options: Mapping[str, Any], said_by: str) -> None:
    ray._private.worker.print_to_stdstream = _to_the_log
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    # for good: other threads have filters of their own meanwhile, see `cluster_ahead`
    warnings.filterwarnings("ignore", module=r"(ray|orchestrator\.tuning\.cluster)(\.|$)")
    try:
        with handlers_kept():  # Ray's print a stack trace at SIGTERM, and abort
            ray.init(address=where, log_to_driver=False, logging_level="error", **options)
    except (ConnectionError, RuntimeError, ValueError, RayError) as error:
        raise UserError(
            f"{said_by}: Ray must be reachable at {where}: {str(error).splitlines()[0]}"
        ) from error


def _leave(cluster: Cluster) -> None:
    """Disconnect. Where the head is gone Ray would wait for it, and then end the process in its own
    way: the process ends in ours once everything else is done.
    """
    if cluster.lost:
        atexit.register(_end_process)  # last registered, first called: before Ray's own
        return
    # Ray ends the process where a reference to one of its objects is dropped while it shuts down,
    # and Python collects cycles in whatever thread allocates, such as that which writes to MLflow:
    # so everything is collected before, and nothing meanwhile.
    gc.collect()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        gc.enable()


def _end_process() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(Interrupted.exit_code)


def _said_by(address: str | None) -> str:
    """What the address of the cluster was given by, for messages."""
    from_the_environment = not address and "RAY_ADDRESS" in os.environ
    return "RAY_ADDRESS" if from_the_environment else "--address"


def check_address(address: str, said_by: str = "--address") -> None:
    """UserError where no Ray cluster can be joined, at once: Ray
    itself keeps trying for minutes. said_by: the option or variable that named it.
    """
    if address == "auto":
        return
    if "://" in address:
        raise UserError(
            f"{said_by}: must be HOST:PORT of a Ray cluster, got '{address}'; Ray's client protocol"
            " cannot run a sweep: start it on a machine of the cluster, for example with `ray job"
            " submit`"
        )
    try:
        socket.create_connection(_host_and_port(address), timeout=5).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"{said_by}: must be HOST:PORT of a running Ray cluster, got '{address}': {error}"
        ) from error


def _host_and_port(address: str) -> tuple[str, int]:
    """Of HOST:PORT, where an IPv6 host is in brackets. ValueError where there is no number."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)


def answers(address: str, timeout: float) -> bool:
    """Whether something listens at HOST:PORT."""
    try:
        socket.create_connection(_host_and_port(address), timeout=timeout).close()
    except OSError:
        return False
    return True
