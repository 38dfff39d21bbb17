"""Changes of a module, each of one operator, constant or statement."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

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
    lines: range  # what was changed
    change: str  # in words
    source: str  # of the whole module

    def __str__(self) -> str:
        return f"{self.module}:{self.lines.start}: {self.change}"


def places_of(module: str) -> Iterator[tuple[int, int]]:
    """Every change that is possible in a module: the number of the node, and which change."""
    for number, node in enumerate(_code(ast.parse((ROOT / module).read_text()))):
        yield from ((number, choice) for choice in range(_choices(node)))


def mutant_at(module: str, number: int, choice: int) -> Mutant:
    """The module with one change, of those in `places_of`."""
    tree = ast.parse((ROOT / module).read_text())
    node = list(_code(tree))[number]
    place = node.test if isinstance(node, ast.If) else node
    lines = range(getattr(place, "lineno", 0), (getattr(place, "end_lineno", None) or 0) + 1)
    words = _change(node, choice)
    return Mutant(module, lines, words, ast.unparse(tree))


def _code(tree: ast.AST) -> Iterator[ast.AST]:
    """Nodes that decide something when the module runs: no annotations, docstrings or messages."""
    for name, value in ast.iter_fields(tree):
        if name in ("annotation", "returns", "decorator_list") or isinstance(tree, ast.Raise):
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
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return 0  # imports for annotations
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
    """As many changes of each module as its share of all places, without repetition, in a random
    order: the first of them are a sample, too.
    """
    places = {module: list(places_of(module)) for module in modules}
    everything = sum(map(len, places.values()))
    count = min(count, everything)
    quotas = {module: count * len(places[module]) / everything for module in modules}
    shares = {module: int(quota) for module, quota in quotas.items()}
    by_remainder = sorted(modules, key=lambda module: shares[module] - quotas[module])
    for module in by_remainder[: count - sum(shares.values())]:
        shares[module] += 1
    drawn = [
        mutant_at(module, *place)
        for module in modules
        for place in random.Random(f"{seed} {module}").sample(places[module], shares[module])
    ]
    random.Random(seed).shuffle(drawn)
    return drawn
