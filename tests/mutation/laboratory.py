"""Runs tests on copies of the checkout, with and without a change."""

from __future__ import annotations

import gc
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any

import pytest

from tests.mutation.changes import ROOT, Mutant
from tests.mutation.core import CORE

COPIED = ("orchestrator", "trainables", "search_spaces", "tests", "docs", "pyproject.toml")
LOADED_ONCE = """
    matplotlib.pyplot numpy pandas pyarrow.parquet pydantic pytest ray.tune rich.live scipy.stats
    sympy torch torch._dynamo torch.onnx typer yaml
""".split()
PATIENCE = 4.0  # of the time that its tests take without a change: what is endless is noticed
LEAST_PATIENCE_S = 60.0
MEMORY = 12 * 2**30  # bytes of one run: what asks for more without a bound is noticed


@dataclass(frozen=True, slots=True)
class Ran:
    """One test on the unchanged code."""

    name: str  # pytest's
    seconds: float
    lines: Mapping[str, Collection[int]]  # module -> the lines that ran


@dataclass(eq=False)  # pytest may put its plugins into a set
class Watch:
    """A plugin of pytest: which test runs which lines of the core."""

    home: Path
    tests: list[Ran] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._modules = {str(self.home / module): module for module in CORE}
        self._lines: dict[str, set[int]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._lines, began = {}, time.monotonic()
        threading.settrace(self._called)
        sys.settrace(self._called)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]
            self.tests.append(Ran(item.nodeid, time.monotonic() - began, self._lines))

    def _called(self, frame: FrameType, event: str, argument: object) -> Any:
        module = self._modules.get(frame.f_code.co_filename)
        if module is None:
            return None
        lines = self._lines.setdefault(module, set())

        def ran(frame: FrameType, event: str, argument: object) -> Any:
            lines.add(frame.f_lineno)
            return ran

        return ran


@dataclass(frozen=True, eq=False, slots=True)
class Order:
    """A plugin of pytest: the tests in this order."""

    names: Sequence[str]

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        place = {name: number for number, name in enumerate(self.names)}
        items.sort(key=lambda item: place.get(item.nodeid, len(place)))


def order_for(mutant: Mutant, tests: Sequence[Ran]) -> Order:
    """Tests that run the changed line first; in both parts file by file, quick ones first."""
    near = {
        test.name: not set(mutant.lines).isdisjoint(test.lines.get(mutant.module, ()))
        for test in tests
    }
    files: dict[tuple[bool, str], float] = defaultdict(float)
    for test in tests:
        files[near[test.name], _file(test)] += test.seconds

    def key(test: Ran) -> tuple[Any, ...]:
        part = near[test.name], _file(test)
        return not near[test.name], files[part], part, test.seconds

    return Order([test.name for test in sorted(tests, key=key)])


def _file(test: Ran) -> str:
    return test.name.partition("::")[0]


def _pytest(
    home: Path, files: Sequence[str], order: Order | None, answer: Connection | None
) -> None:
    """The tests of files, in a process of its own; `answer` gets what each test ran."""
    os.setsid()  # a group to end with what it started
    gc.freeze()  # pytest collects garbage; what was loaded once holds none
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    os.chdir(home)
    os.environ["PYTHONPATH"] = str(home)
    sys.path.insert(0, str(home))
    sys.dont_write_bytecode = order is not None
    with (home / "output").open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        options = ["-x", "-m", "not full", "-p", "no:cacheprovider", f"--basetemp={home / 'tmp'}"]
        watch = Watch(home)
        code = pytest.main([*options, *files], plugins=[order or watch])
    if answer is not None:
        answer.send(watch.tests)
    os._exit(int(code))  # whatever threads a changed module has left


@dataclass
class Laboratory:
    """Copies of the checkout, and processes that have loaded what is large and never changes."""

    homes: SimpleQueue[Path]

    def __post_init__(self) -> None:
        os.environ["OMP_NUM_THREADS"] = "1"
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(LOADED_ONCE)

    def watched(self, file: str) -> list[Ran]:
        """The tests of a file on the unchanged code; raises RuntimeError where one fails."""
        home, (ours, theirs) = self.homes.get(), self._processes.Pipe(duplex=False)
        try:
            process = self._processes.Process(target=_pytest, args=(home, [file], None, theirs))
            process.start()
            theirs.close()
            tests: list[Ran] = ours.recv()
            process.join()
            if process.exitcode != 0:
                raise RuntimeError(f"{file} fails without a change\n{_end(home / 'output')}")
            return tests
        finally:
            self.homes.put(home)

    def noticed(self, mutant: Mutant, tests: Sequence[Ran]) -> bool:
        """Whether a test fails, or the tests end too late, once the module is changed."""
        home = self.homes.get()
        file = home / mutant.module
        before, stat = file.read_text(), file.stat()
        file.write_text(mutant.source)
        patience = LEAST_PATIENCE_S + PATIENCE * sum(test.seconds for test in tests)
        try:
            files = sorted({_file(test) for test in tests})
            order = order_for(mutant, tests)
            process = self._processes.Process(target=_pytest, args=(home, files, order, None))
            process.start()
            process.join(patience)
            noticed = process.exitcode != 0  # None: it has not ended
            with suppress(ProcessLookupError):
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.join()
            return noticed
        finally:
            file.write_text(before)
            os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            self.homes.put(home)


def _end(output: Path) -> str:
    return "\n".join(output.read_text(errors="replace").splitlines()[-30:])


def copies(count: int, folder: Path) -> SimpleQueue[Path]:
    """Copies of what the tests need, their times included: compiled code stays valid."""
    homes: SimpleQueue[Path] = SimpleQueue()
    for number in range(count):
        home = folder / str(number)
        home.mkdir()
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, home / name)
            else:
                shutil.copy2(ROOT / name, home / name)
        homes.put(home)
    return homes
