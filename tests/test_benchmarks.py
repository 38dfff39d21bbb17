"""What the benchmarks import exists: nothing else runs them often."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

BENCHMARKS = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.name)
def test_what_a_benchmark_imports_exists(path) -> None:
    imports = [
        (node.module, name.name)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module is not None
        for name in node.names
    ]
    ours = [each for each in imports if each[0].split(".")[0] in ("orchestrator", "trainables")]
    for module, name in ours:
        assert hasattr(import_module(module), name), f"{path.name}: {module} has no {name}"


def test_there_are_benchmarks() -> None:
    assert len(BENCHMARKS) >= 10
