"""The adapter to Ray Tune: a dict becomes a TrialConfig, Tune's report becomes `report`; everything
else is `run_trial`.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypedDict

from trainables.contract.addresses import is_address
from trainables.contract.artifacts import TrialDir
from trainables.contract.config import TrialConfig
from trainables.contract.disk import disk_problem
from trainables.contract.errors import Interrupted, StorageFailed, TrialFailed, Unreached, UserError

if TYPE_CHECKING:
    import torch

    from trainables.training.beginning import SharedFile, SharedStates

FAILED = "failed"
"""Key of the last report of a trial that failed; its value is the reason."""

DISK = "disk"
"""Key of the last report of a trial that met a disk which takes no more; its value says which."""

AWAY = "away"
"""Key of the last report of an attempt whose node did not reach the trial's address, or the store;
its value says so.
"""

WARNING = "warning"
"""Key of a report of what a person should know of the trial: of its masks, before the first epoch,
or that its batches do not fit into memory; its value is a sentence.
"""

WALL_S, CPU_S = "wall_s", "cpu_s"
"""Keys of the last report of a trial that finished: how long its last attempt took, and the
processor time of it, both in seconds.
"""

GPU, GPU_MEMORY_GB, GPU_PEAK_GB = "gpu", "gpu_memory_gb", "gpu_peak_gb"
"""Keys of reports of trials on a GPU: which one of which node, before the first epoch, with each
epoch its memory, and the most of it that the trial's tensors have taken, in 1e9 bytes.
"""

BRANCHED, BEGAN, SHARED_EPOCHS, SHARED_S = "branched", "began", "shared_epochs", "shared_s"
"""Keys of reports on a beginning, whose digest is the value of the first two: that the trial starts
from it, or has left it to others; its epochs, and the seconds that they took.
"""

SHARED = "shared"
"""Key of the report of an epoch that another trial has trained for this one."""

EPOCHS = "epochs"
"""Key of a report of several epochs: their reports, the earliest first."""

STEP, STEPS = "step", "steps"
"""Keys of a report within an epoch, which is `IN_EPOCH` (0-based): steps done, and of how many."""
IN_EPOCH = "in_epoch"

STEPS_EVERY_S = 60.0
"""Between two reports within an epoch that takes minutes."""

STOP_CHECK_S = 0.5
"""A stop request is looked for at most this often: it is a file, possibly on a network disk."""


class SharedRequest(TypedDict):
    """A file that holds the state after a beginning that several trials share, or is to hold it."""

    path: str  # absolute, or an address
    digest: str
    epochs: int


class NoGpu(RuntimeError):
    """Ray gave the trial a GPU that torch does not find: another node may have one that works."""


class TrialRequest(TypedDict):
    """What the sweep sends to a worker."""

    config: str  # TrialConfig as JSON
    root: str  # where relative store paths start
    out: str  # the trial's folder, absolute, or its address
    # absolute folder, or address, of the trial whose weights training starts from; None: from
    # weights that are drawn
    source: str | None
    # training checkpoints and ends once this file exists, or what lies at this address
    cancel_file: str
    threads: int
    cpus: float  # what it asks of its node, as `gpu_fraction` does
    gpu_fraction: float  # 0 for a CPU trial
    timed: bool  # the trial measures the latency of its network itself, beside other trials
    start: SharedRequest | None  # the beginning to start from, where it is there
    leave: list[SharedRequest]  # those to leave to others
    # epochs that end within so many seconds may be reported together; 0: each by itself
    together_s: float


def train(request: TrialRequest) -> None:
    """Tune's trainable: one trial in this process.

    How it ended is read from the trial's folder, never from the last report.

    A trial that failed or was interrupted for a reason that another attempt would meet again
    returns normally, so that Tune does not repeat it; its last report says why. So does one that
    met a full disk, or an address that refused it, which concerns the whole sweep. Any other
    exception and a dead process are retried and continue from the trial's checkpoint.
    """
    _load()
    import torch
    from ray import tune

    from trainables.run import Setup, Watch, run_trial

    torch.set_num_threads(request["threads"])
    began, began_cpu = time.monotonic(), time.process_time()
    tell = Reports(tune.report, request["together_s"])
    try:
        with _place(request) as place:
            device = _device(request["gpu_fraction"])
            if device.type == "cuda":
                torch.cuda.empty_cache()  # a trial before it in this process may have left some
                torch.cuda.reset_peak_memory_stats()
                tell({GPU: which_gpu()})
            shared = Shared(request, tell, place)

            def report(metrics: Mapping[str, float]) -> None:
                place.saved()
                tell.epoch({**metrics, **shared.mark(metrics), **gpu_memory(device)})

            run_trial(
                TrialConfig.model_validate_json(request["config"]),
                place.folder,
                Setup(
                    device=device,
                    root=Path(request["root"]),
                    source=place.source,
                    timed=request["timed"],
                    beginnings=shared.beginnings(),
                ),
                Watch(
                    report=report,
                    warn=lambda text: tell({WARNING: text}),
                    should_stop=place.stopped,
                    stepped=StepReports(tell),
                ),
            )
            place.finish()
            took = {
                WALL_S: time.monotonic() - began,
                CPU_S: time.process_time() - began_cpu,
            }
        # a trial that reports nothing, its epochs being done before, makes Tune print a line
        tell({"complete": True, **took})
    except Interrupted as stop:
        tell({"interrupted": str(stop)})
    except Exception as error:
        tell.flush()
        problem = disk_problem(error)
        silent = isinstance(error, StorageFailed) and not error.refused
        if silent or (isinstance(error, Unreached) and problem is None):
            tell({AWAY: str(error)})
            raise  # another node may reach it
        if problem is not None:
            tell({DISK: problem})
        elif isinstance(error, TrialFailed | UserError):
            tell({FAILED: str(error)})
        else:
            raise


@cache
def _load() -> None:
    """Load what trials need. Python looks for cycles among all objects now and then, of which
    modules of torch and Ray are 300,000: not while they are loaded, nor later. Once a process,
    before its first trial: what a trial leaves is to be found.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        import_module("trainables.run")
        gc.freeze()
    finally:
        if enabled:
            gc.enable()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a trial runs on its node, and how it hears of a stop."""

    folder: TrialDir
    source: Path | None  # folder of the trial whose weights it starts from
    stopped: Callable[[], bool]
    saved: Callable[[], None] = lambda: None  # told after an epoch, once its checkpoint is safe
    # the file here of a beginning that others share, and what is told of one that was left there
    shared: Callable[[str], Path] = Path
    left: Callable[[Path], None] = lambda _file: None
    finish: Callable[[], None] = lambda: None  # what the trial wrote lies where its folder is


@contextmanager
def _place(request: TrialRequest) -> Iterator[Place]:
    """Within: the trial's folder, which an address has once the block is left. Interrupted where
    the sweep is to stop already.
    """
    if not is_address(request["out"]):
        stop_file = StopFile(Path(request["cancel_file"]))
        _refuse_if(stop_file)
        with _fetched(request["source"]) as source:
            yield Place(TrialDir(Path(request["out"])), source, stop_file)
        return
    from trainables.remote.attempt import StopObject, attempt

    stop = StopObject(request["cancel_file"])
    try:
        _refuse_if(stop)
        with attempt(request["out"]) as current, _fetched(request["source"]) as source:
            yield Place(
                current.folder,
                source,
                stop,
                current.saved,
                current.shared_file,
                current.send_shared,
                current.finish,
            )
    finally:
        stop.close()


@contextmanager
def _fetched(source: str | None) -> Iterator[Path | None]:
    """Within: the folder here of the trial whose weights training starts from."""
    if source is None or not is_address(source):
        yield None if source is None else Path(source)
        return
    from trainables.remote.attempt import fetched

    with fetched(source) as folder:
        yield folder


def _refuse_if(stopped: Callable[[], bool]) -> None:
    if stopped():
        raise Interrupted("stopped before the first step")


def resources_of(request: TrialRequest, memory_bytes: float | None = None) -> Any:
    """Tune's form of what a trial asks of its node."""
    from ray.tune.execution.placement_groups import PlacementGroupFactory

    asked = {"CPU": request["cpus"], "GPU": request["gpu_fraction"], "memory": memory_bytes or 0.0}
    return PlacementGroupFactory([asked])


def which_gpu() -> str:
    """Names the GPU that Ray gave this worker, among all of the cluster."""
    import ray

    context = ray.get_runtime_context()
    return f"{context.get_node_id()}:{','.join(context.get_accelerator_ids().get('GPU', ()))}"


def gpu_memory(device: torch.device) -> dict[str, float]:
    """What a trial on a GPU reports of its memory with each epoch; nothing of one on a CPU."""
    import torch

    if device.type != "cuda":
        return {}
    return {
        GPU_MEMORY_GB: torch.cuda.get_device_properties(device).total_memory / 1e9,
        GPU_PEAK_GB: torch.cuda.max_memory_reserved(device) / 1e9,
    }


def time_form(deploy_file: str, threads: int, gpu_fraction: float) -> str:
    """A `Latency` as JSON: how long the deploy form of that file, or at that address, takes in this
    process.
    """
    import torch

    from trainables.deploy.timing import time_file

    torch.set_num_threads(threads)
    with TemporaryDirectory() as folder:
        file = Path(deploy_file)
        if is_address(deploy_file):
            from trainables.remote.objects import Objects

            place, name = deploy_file.rsplit("/", 1)
            file = Path(folder) / name
            Objects(place).fetch({name: file})
        return time_file(file, _device(gpu_fraction)).model_dump_json()


class Shared:
    """What a trial shares with others, and its reports of that."""

    def __init__(
        self, request: TrialRequest, report: Callable[[dict[str, Any]], None], place: Place
    ) -> None:
        self._request = request
        self._report = report
        self._place = place
        self._epochs = 0  # that another trial has trained for this one

    def beginnings(self) -> SharedStates:
        """What the trial may start from and leaves."""
        from trainables.training.beginning import SharedStates

        start = self._request["start"]
        return SharedStates(
            start=None if start is None else self._file(start),
            leave=tuple(map(self._file, self._request["leave"])),
            branched=self._branched,
            left=self._left,
        )

    def mark(self, metrics: Mapping[str, float]) -> dict[str, bool]:
        """What the report of an epoch has beside its metrics."""
        return {SHARED: True} if metrics["epoch"] < self._epochs else {}

    def _file(self, request: SharedRequest) -> SharedFile:
        from trainables.training.beginning import SharedFile

        path = self._place.shared(request["path"])
        return SharedFile(path, request["digest"], request["epochs"])

    def _branched(self, file: SharedFile, seconds: float) -> None:
        self._epochs = file.epochs
        self._report({BRANCHED: file.digest, SHARED_EPOCHS: file.epochs, SHARED_S: seconds})

    def _left(self, file: SharedFile, seconds: float) -> None:
        self._place.left(file.path)
        self._report({BEGAN: file.digest, SHARED_EPOCHS: file.epochs, SHARED_S: seconds})


class Reports:
    """What a trial tells Tune. For each report it waits until the driver has heard it, 4 ms of a
    CPU: epochs that are short go together, and with whatever is told next.
    """

    def __init__(self, report: Callable[[dict[str, Any]], None], together_s: float) -> None:
        self._report = report
        self._together_s = together_s
        self._waiting: list[dict[str, Any]] = []
        self._told_at = time.monotonic()

    def __call__(self, message: dict[str, Any]) -> None:
        """Tell this now, and the epochs that wait."""
        waiting, self._waiting = self._waiting, []
        self._report({EPOCHS: waiting, **message} if waiting else message)
        self._told_at = time.monotonic()

    def epoch(self, metrics: dict[str, Any]) -> None:
        """Tell how an epoch went, where `together_s` seconds have gone by with the last report, or
        with the next one.
        """
        self._waiting.append(metrics)
        if time.monotonic() - self._told_at >= self._together_s:
            self.flush()

    def flush(self) -> None:
        """Tell of the epochs that wait."""
        if len(self._waiting) == 1:
            self._told_at = time.monotonic()
            self._report(self._waiting.pop())
        elif self._waiting:
            self({})


def epochs_of(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a report says of each of the epochs that it tells of, the earliest first."""
    return [*report.get(EPOCHS, ()), *([report] if "epoch" in report else [])]


class StepReports:
    """Callable: reports how far an epoch is, every STEPS_EVERY_S seconds."""

    def __init__(self, report: Callable[[dict[str, Any]], None]) -> None:
        self._report = report
        self._next = time.monotonic() + STEPS_EVERY_S

    def __call__(self, epoch: int, step: int, steps: int) -> None:
        now = time.monotonic()
        if now >= self._next and step < steps:  # the report of the epoch comes next
            self._next = now + STEPS_EVERY_S
            self._report({IN_EPOCH: epoch, STEP: step, STEPS: steps})


class StopFile:
    """Callable: has the file appeared? Asks the disk at most every STOP_CHECK_S seconds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = 0.0

    def __call__(self) -> bool:
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + STOP_CHECK_S
        return self._path.exists()


def _device(gpu_fraction: float) -> torch.device:
    """The GPU Ray gave this worker, its memory capped to the trial's share; the CPU otherwise."""
    import torch

    if gpu_fraction <= 0:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise NoGpu(
            "resources.gpus asks for a GPU, but torch finds none on this node (is it the CPU"
            " build?)"
        )
    if gpu_fraction < 1:
        torch.cuda.set_per_process_memory_fraction(gpu_fraction)
    return torch.device("cuda")
