"""Work in several processes gives the results of one, in order, holds few at a time, and ends when
it is told to.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.waiting import until
from trainables.contract.errors import UserError
from trainables.data.readers.parallel import AHEAD, CHUNK, cores, ordered


def square(number: int) -> int:
    """The sooner it is needed, the longer it takes."""
    time.sleep(0.001 * max(0, 3 - number // CHUNK))
    return number * number


def where(number: int) -> int:
    if number == 3 * CHUNK:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def fail(number: int) -> int:
    raise ArithmeticError(number)


def touch(file: Path) -> None:
    file.touch()


def test_results_come_in_order() -> None:
    numbers = range(5 * CHUNK + 3)
    assert list(ordered(square, numbers, 2)) == [number * number for number in numbers]
    assert list(ordered(square, numbers, 1)) == [number * number for number in numbers]
    assert list(ordered(square, [], 2)) == []
    assert cores() >= 1


def test_few_items_stay_in_this_process() -> None:
    assert set(ordered(where, range(CHUNK), 8)) == {os.getpid()}


def test_no_more_than_a_few_chunks_are_made_ahead(tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(20 * CHUNK)]
    results = ordered(touch, files, 2)
    next(results)
    time.sleep(0.3)
    results.close()
    assert len(list(tmp_path.iterdir())) <= (2 * AHEAD + 1) * CHUNK


def test_what_ends_a_process_is_said() -> None:
    with pytest.raises(UserError, match="one of 2 reading processes was ended from outside"):
        list(ordered(where, range(5 * CHUNK), 2))
    with pytest.raises(ArithmeticError, match="0"):
        list(ordered(fail, range(5 * CHUNK), 2))


def deaf(_: int) -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_ctrl_c_is_for_this_process_only() -> None:
    """Also while the others start, when nothing of ours runs in them yet: they are started with the
    signal blocked.
    """
    assert all(ordered(deaf, range(5 * CHUNK), 2))
    assert not deaf(0)


PARENT = """
import signal
from tests.trainables.data.readers.test_parallel import nap
from trainables.data.readers.parallel import ordered
if __name__ == "__main__":
    # what a shell runs in the background ignores it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for pid in ordered(nap, range(10_000), 2):
        print(pid, flush=True)
"""


def nap(number: int) -> int:
    time.sleep(0.005)
    return os.getpid()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_processes_end_with_their_parent(tmp_path: Path, number: signal.Signals) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([".", *sys.path])}
    parent = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    assert parent.stdout is not None
    pids = {int(parent.stdout.readline()) for _ in range(3 * CHUNK)}
    if number == signal.SIGINT:
        os.killpg(parent.pid, number)  # as a terminal sends it
    else:
        parent.send_signal(number)
    parent.communicate(timeout=60)
    until(lambda: not any(alive(pid) for pid in pids))
    assert parent.returncode == (-number if number == signal.SIGKILL else -signal.SIGINT)
