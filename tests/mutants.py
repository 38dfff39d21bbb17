"""Would the tests notice? Changes one operator, constant or statement of the core at a time and
runs the tests that stand beside it.

    python -m tests.mutants [--count 300] [--seed 0] [--module PART ...] [--jobs 2] [--least 85]

A module gives as many changes as its share of all possible ones; the same seed draws the same
changes of the same code. Every test file is run once first, on the unchanged code, to see which
test runs which line: a change is tried on the tests that run its line, then on the other tests of
its module, up to the first that fails. Prints every change that no test noticed, a table per
module, and the share that was noticed with its standard error; exits with 1 below `--least`.
Works on copies: the checkout stays as it is. A change that cannot matter (an equal algorithm)
counts as unnoticed all the same.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutation.changes import Mutant, sample
from tests.mutation.core import CORE
from tests.mutation.laboratory import Laboratory, copies


def main() -> int:
    """Draw mutants, try them, print what survived."""
    parser = argparse.ArgumentParser(description="Would the tests notice a change of the core?")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--module", action="append", help="only modules whose path holds this")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--least", type=float, default=85.0, help="per cent that must be noticed")
    asked = parser.parse_args()
    modules = [name for name in CORE if any(part in name for part in asked.module or [""])]
    mutants, began = sample(modules, asked.count, asked.seed), time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(asked.jobs) as threads:
        laboratory = Laboratory(copies(asked.jobs, Path(folder)))
        files = sorted({f"tests/{file}" for module in modules for file in CORE[module]})
        try:
            ran = dict(zip(files, threads.map(laboratory.watched, files), strict=True))
        except RuntimeError as error:
            threads.shutdown(cancel_futures=True)
            print(error, file=sys.stderr)
            return 2
        print(f"{len(files)} files of tests ran in {_minutes(began)} min", flush=True)

        def attempt(mutant: Mutant) -> bool:
            tests = [test for file in CORE[mutant.module] for test in ran[f"tests/{file}"]]
            return laboratory.noticed(mutant, tests)

        noticed: list[bool] = []
        for mutant, result in zip(mutants, threads.map(attempt, mutants), strict=True):
            noticed.append(result)
            if not result:
                print(f"not noticed: {mutant}", flush=True)
            if len(noticed) % 20 == 0:
                words = f"{len(noticed)} of {len(mutants)} tried, {sum(noticed)} noticed"
                print(f"{words}, {_minutes(began)} min", flush=True)
    return report(mutants, noticed, asked.least, f"{_minutes(began)} min, seed {asked.seed}")


def report(mutants: Sequence[Mutant], noticed: Sequence[bool], least: float, how: str) -> int:
    """Print a table and the score; returns the exit code."""
    tried = Counter(mutant.module for mutant in mutants)
    right = Counter(mutant.module for mutant, one in zip(mutants, noticed, strict=True) if one)
    for module, number in sorted(tried.items()):
        print(f"{module:<50}{right[module]:>4} of {number}")
    for mutant in (mutant for mutant, one in zip(mutants, noticed, strict=True) if not one):
        print(f"not noticed: {mutant}")
    share = sum(noticed) / len(noticed)
    error = 100 * math.sqrt(share * (1 - share) / len(noticed))
    print(
        f"{sum(noticed)} of {len(noticed)} noticed: {100 * share:.1f} % (standard error "
        f"{error:.1f}; {how}, {len(tried)} modules)"
    )
    return int(100 * share < least)


def _minutes(began: float) -> str:
    return f"{(time.monotonic() - began) / 60:.1f}"


if __name__ == "__main__":
    sys.exit(main())
