"""Would the tests notice? Changes one operator, constant or statement of the core at a time and
runs the tests that stand beside it.

    python tests/mutants.py [--count 150] [--seed 0] [--module PART ...] [--jobs 2] [--least 85]

Prints every change that no test noticed, and the share that was noticed; exits with 1 below
`--least`. Works on copies: the checkout stays as it is. The same seed makes the same changes of
the same code. A change that cannot matter (an equal algorithm) counts as unnoticed all the same.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).parents[1]
COPIED = ("orchestrator", "trainables", "search_spaces", "tests", "docs", "pyproject.toml")
PATIENCE = 4.0  # of the time that its tests take without a change: what is endless is noticed
LEAST_PATIENCE_S = 60.0

CORE: dict[str, tuple[str, ...]] = {  # module -> the tests that should notice a change of it
    "orchestrator/trials/cells.py": ("orchestrator/trials",),
    "orchestrator/trials/space.py": ("orchestrator/trials", "orchestrator/sweep"),
    "orchestrator/sweep/constraints.py": ("orchestrator/sweep", "orchestrator/trials"),
    "orchestrator/sweep/leaves.py": ("orchestrator/sweep", "orchestrator/trials"),
    "orchestrator/record/journal.py": ("orchestrator/record",),
    "orchestrator/record/states.py": ("orchestrator/record", "orchestrator/ensembling"),
    "orchestrator/record/status.py": ("orchestrator/record",),
    "orchestrator/record/running.py": ("orchestrator/record",),
    "orchestrator/tuning/callbacks.py": ("orchestrator/tuning",),
    "orchestrator/tuning/cluster.py": ("orchestrator/tuning",),
    "orchestrator/tuning/progress.py": ("orchestrator/tuning",),
    "orchestrator/tuning/run.py": ("orchestrator/tuning",),
    "orchestrator/tuning/searcher.py": ("orchestrator/tuning",),
    "orchestrator/tuning/signals.py": ("orchestrator/tuning",),
    "orchestrator/tuning/workers.py": ("orchestrator/tuning",),
    "orchestrator/ensembling/evaluate.py": ("orchestrator/ensembling",),
    "orchestrator/ensembling/collect.py": ("orchestrator/ensembling",),
    "orchestrator/ensembling/final.py": ("orchestrator/ensembling", "orchestrator/report"),
    "orchestrator/planning/plan.py": ("orchestrator/planning",),
    "trainables/contract/scores.py": ("orchestrator/ensembling", "trainables/contract"),
    "trainables/contract/pickles.py": ("trainables/contract",),
    "trainables/layouts.py": ("trainables/test_layouts.py", "trainables/data/batches"),
    "trainables/data/batches/streams.py": ("trainables/data/batches",),
    "trainables/data/batches/transforms.py": ("trainables/data/batches",),
    "trainables/data/store/protocols.py": ("trainables/data/store", "trainables/data/inspection"),
    "trainables/reparam/kernels.py": ("trainables/reparam", "trainables/models/backbones"),
    "trainables/sparsity/amounts.py": ("trainables/sparsity",),
    "trainables/sparsity/masks.py": ("trainables/sparsity",),
    "trainables/sparsity/generator.py": ("trainables/sparsity",),
    "trainables/training/loop.py": ("trainables/training", "trainables/test_run.py"),
    "trainables/training/checkpoint.py": ("trainables/training", "trainables/test_run.py"),
    "trainables/training/evaluate.py": ("trainables/training", "trainables/test_run.py"),
}

COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}
CALLED = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One changed module."""

    module: str
    line: int
    change: str  # in words
    source: str  # of the whole module


def mutants_of(module: str) -> Iterator[Mutant]:
    """Every change of a module, in the order of its code."""
    tree = ast.parse((ROOT / module).read_text())
    for number, node in enumerate(_code(tree)):
        for choice in range(_choices(node)):
            changed = copy.deepcopy(tree)
            target = list(_code(changed))[number]
            words = _change(target, choice)
            yield Mutant(module, getattr(node, "lineno", 0), words, ast.unparse(changed))


def _code(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes that decide something when the module runs: no annotations, docstrings or messages."""
    for field, value in ast.iter_fields(tree):
        if field in ("annotation", "returns", "decorator_list") or isinstance(tree, ast.Raise):
            continue
        for node in value if isinstance(value, list) else [value]:
            if isinstance(node, ast.AST) and not isinstance(node, ast.JoinedStr):
                yield node
                yield from _code(node)


def _choices(node: ast.AST) -> int:
    """In how many ways `_change` can change a node."""
    match node:
        case ast.Compare(ops=[op]) if type(op) in COMPARED:
            return 1
        case ast.BinOp(op=ast.Div(), right=ast.JoinedStr() | ast.Constant(value=str())):
            return 0  # a path
        case ast.BinOp(op=op) if type(op) in COMPUTED:
            return 1
        case ast.BoolOp() | ast.IfExp():
            return 1
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            return 1
        case ast.Constant(value=bool() | int() | float()):
            return 1
        case ast.Call(func=ast.Name(id=name)) if name in CALLED:
            return 1
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="log")))):
            return 0
        case ast.Expr(value=ast.Call()):
            return 1
        case ast.If():
            return 2
    return 0


def _change(node: ast.AST, choice: int) -> str:
    """Change a node in place; returns what was changed, in words."""
    before = ast.unparse(node).splitlines()[0]
    match node:
        case ast.Compare(ops=[op]):
            node.ops = [COMPARED[type(op)]()]
        case ast.BinOp(op=op):
            node.op = COMPUTED[type(op)]()
        case ast.BoolOp(op=op):
            node.op = ast.Or() if isinstance(op, ast.And) else ast.And()
        case ast.IfExp(body=body, orelse=orelse):
            node.body, node.orelse = orelse, body
        case ast.UnaryOp(op=ast.Not()):
            node.operand = ast.UnaryOp(ast.Not(), node.operand)
        case ast.UnaryOp():
            node.op = ast.UAdd()
        case ast.Constant(value=bool() as value):
            node.value = not value
        case ast.Constant(value=value):
            node.value = value + 1  # type: ignore[operator]
        case ast.Call(func=ast.Name(id=name)):
            node.func = ast.Name(CALLED[name], ast.Load())
        case ast.Expr():
            node.value = ast.Constant(None)
        case ast.If():
            node.test = ast.Constant(bool(choice))
    return f"{before}  ->  {ast.unparse(node).splitlines()[0]}"


def sample(modules: Sequence[str], count: int, seed: int) -> list[Mutant]:
    """About the same number of changes of each module, drawn without repetition."""
    drawn: list[Mutant] = []
    for number, module in enumerate(modules):
        everything = list(mutants_of(module))
        share = count // len(modules) + (number < count % len(modules))
        drawn += random.Random(f"{seed} {module}").sample(everything, min(share, len(everything)))
    return drawn


def noticed(mutant: Mutant, home: Path, patience: float) -> bool:
    """Whether the tests beside the module fail, or end too late, in the copy `home`."""
    file = home / mutant.module
    before = file.read_text()
    file.write_text(mutant.source)
    try:
        return _tests_fail(mutant.module, home, patience)
    finally:
        file.write_text(before)


def _tests_fail(module: str, home: Path, patience: float | None = None) -> bool:
    tests = [f"tests/{part}" for part in CORE[module]]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-m", "not full", *tests]
    environment = {**os.environ, "PYTHONPATH": str(home), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [*command, "-p", "no:cacheprovider"],
            cwd=home,
            env=environment,
            capture_output=True,
            timeout=patience,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def copies(count: int, folder: Path) -> list[Path]:
    """Copies of what the tests need."""
    homes = [folder / str(number) for number in range(count)]
    for home in homes:
        for name in COPIED:
            source, target = ROOT / name, home / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
    return homes


def main() -> int:
    """Draw mutants, try them, print what survived."""
    parser = argparse.ArgumentParser(description="Would the tests notice a change of the core?")
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--module", action="append", help="only modules whose path holds this")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--least", type=float, default=85.0, help="per cent that must be noticed")
    asked = parser.parse_args()
    modules = [name for name in CORE if any(part in name for part in asked.module or [""])]
    mutants, began = sample(modules, asked.count, asked.seed), time.monotonic()
    survivors: list[Mutant] = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(asked.jobs) as threads:
        homes: SimpleQueue[Path] = SimpleQueue()
        for home in copies(asked.jobs, Path(folder)):
            homes.put(home)
        patience: dict[str, float] = {}
        for module in modules:  # tests that fail on the unchanged code would notice everything
            start = time.monotonic()
            if _tests_fail(module, Path(folder) / "0"):
                print(f"{module}: its tests fail without a change", file=sys.stderr)
                return 2
            patience[module] = max(LEAST_PATIENCE_S, PATIENCE * (time.monotonic() - start))

        def attempt(mutant: Mutant) -> None:
            home = homes.get()
            try:
                if not noticed(mutant, home, patience[mutant.module]):
                    survivors.append(mutant)
                    print(
                        f"not noticed: {mutant.module}:{mutant.line}: {mutant.change}", flush=True
                    )
            finally:
                homes.put(home)

        list(threads.map(attempt, mutants))
    share = 100 * (1 - len(survivors) / len(mutants))
    minutes = (time.monotonic() - began) / 60
    print(
        f"{len(mutants) - len(survivors)} of {len(mutants)} noticed: {share:.1f} % "
        f"({minutes:.1f} min, seed {asked.seed}, {len(modules)} modules)"
    )
    return int(share < asked.least)


if __name__ == "__main__":
    sys.exit(main())
