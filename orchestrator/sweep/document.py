"""A YAML file as plain values plus the place of every key: line numbers, environment variables,
`--set`. Knows nothing of sweeps.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from trainables.contract.errors import UserError
from trainables.contract.foreign_files import yaml_loader
from trainables.contract.secrets import VARIABLE, redacted

Path = tuple[str | int, ...]

# private-use characters stand for a variable while YAML parses
_MARKED = re.compile("\ue000([0-9]+)\ue001")
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_OLD_BOOLEANS = ("yes", "no", "on", "off")
_WORD_OFF = (("train", "fast"), ("train", "sparse_kernels"), ("sparsity", "branch_at"))
"""Settings one of whose values is the word off."""
MOST_VALUES = 100_000
DEEPEST = 50
"""Lists and mappings inside each other."""
MOST_DIGITS = 20
"""Of a whole number; longer ones stay text, which no setting takes for a number."""
_PLAIN_TAGS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))


def dotted(path: Path) -> str:
    """`parameters.model.groups.values[1]` for a path of keys and list positions."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


LONGEST_SHOWN = 100
"""Characters of a text that a message repeats."""


def show(value: Any) -> str:
    """A value as a message shows it: text quoted, the rest as YAML writes it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(show(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {show(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str) and len(value) > LONGEST_SHOWN:
        return f"{redacted(value)[:LONGEST_SHOWN]!r}... of {len(value)} characters"
    return redacted(repr(value))


_NOT_GIVEN = object()


@dataclass
class Document:
    """Plain values, where each was written, and every problem met so far."""

    name: str  # how messages call the file
    values: Any = None
    # `file:line` of a key or list item, or `--set a.b`
    places: dict[Path, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    # values that could not be read: nothing more is said of them
    unread: set[Path] = field(default_factory=set)
    # values whose variables stay as they are written
    kept: frozenset[Path] = frozenset()

    def add(self, path: Path, rule: str, got: Any = _NOT_GIVEN) -> None:
        """Note a problem at `path`."""
        if path in self.unread:
            return
        problem = f"{locate(self.places, self.name, path)}: {rule}"
        if got is not _NOT_GIVEN:
            problem += f", got {show(got)}"
        if problem not in self.problems:
            self.problems.append(problem)

    def lookup(self, path: Path) -> Any:
        """The value at `path`, or None where there is none."""
        value: Any = self.values
        for part in path:
            inside = isinstance(value, Mapping) and part in value
            inside = inside or (
                isinstance(value, list) and isinstance(part, int) and part < len(value)
            )
            if not inside:
                return None
            value = value[part]
        return value


def locate(places: Mapping[Path, str], name: str, path: Path) -> str:
    """`file:line path`, with the place of the nearest key that was written."""
    place = next(
        (places[path[:end]] for end in range(len(path), -1, -1) if path[:end] in places), name
    )
    below = f"--set {dotted(path)}"
    if path and (place == below or below.startswith((f"{place}[", f"{place}."))):
        return below
    return f"{place} {dotted(path)}" if path else place


def parse(
    text: str,
    name: str,
    root: Path = (),
    place: str | None = None,
    kept: frozenset[Path] = frozenset(),
) -> Document:
    """Read YAML 1.2 scalars (`1e-3` is a number, `yes` is refused), keeping places; `place`
    overrides `name:line` everywhere.

    kept: paths of values in which `${NAME}` stays as it is.
    """
    document = Document(name, kept=kept)
    variables: list[re.Match[str]] = []

    def mark(match: re.Match[str]) -> str:
        variables.append(match)
        return f"\ue000{len(variables) - 1}\ue001"

    try:
        node = yaml.compose(VARIABLE.sub(mark, text), Loader=yaml_loader())
        document.values = (
            _Construction(document, variables, place).build(node, root, ())
            if node is not None
            else None
        )
    except RecursionError as error:
        raise UserError(f"{place or name}: YAML must not be nested so deeply") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise UserError(f"{place or f'{name}:{line}'}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{place or name}: not valid YAML: {error}") from error
    return document


@dataclass
class _Construction:
    """Turns YAML nodes into values, noting places and problems in `document`."""

    document: Document
    variables: list[re.Match[str]]
    place: str | None
    built: int = 0  # values so far, those of an alias as often as it stands there

    def build(self, node: yaml.Node, path: Path, above: tuple[int, ...]) -> Any:
        self.built += 1
        if self.built > MOST_VALUES:
            raise UserError(
                f"{self._line(node)}: there must be at most {MOST_VALUES} values, those of aliases"
                " among them, got more"
            )
        self.document.places.setdefault(path, self._line(node))
        if node.tag not in _PLAIN_TAGS:
            self._unreadable(path, f"YAML tags are not supported, got '{node.tag}'")
            return None
        if len(above) > DEEPEST:
            raise UserError(f"{self._line(node)}: YAML must not be nested so deeply")
        if id(node) in above:
            self._unreadable(path, "an alias must not contain itself")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, (*above, id(node)))
        if isinstance(node, yaml.SequenceNode):
            return [
                self.build(item, (*path, i), (*above, id(node)))
                for i, item in enumerate(node.value)
            ]
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, path)

    def _line(self, node: yaml.Node) -> str:
        return self.place or f"{self.document.name}:{node.start_mark.line + 1}"

    def _mapping(
        self, node: yaml.MappingNode, path: Path, above: tuple[int, ...]
    ) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.document.add(path, "a key must be text")
                continue
            key = _MARKED.sub(lambda match: self.variables[int(match[1])][0], key_node.value)
            place = (*path, key)
            if key in values:
                self.document.problems.append(
                    f"{self._line(key_node)} {dotted(place)}: duplicate key, first given at"
                    f" {self.document.places[place]}"
                )
                continue
            self.document.places[place] = self._line(key_node)
            values[key] = self.build(value_node, place, above)
        return values

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        kept = path in self.document.kept

        def value(found: re.Match[str]) -> str:
            variable = self.variables[int(found[1])]
            return variable[0] if kept else self._variable(variable, path)

        text = _MARKED.sub(value, node.value)
        if node.style is not None:  # quoted or block text
            return text
        if text.lower() in _OLD_BOOLEANS and path not in _WORD_OFF:
            self._unreadable(path, f"must be true or false, or quoted if text is meant, got {text}")
            return None
        return plain(text)

    def _variable(self, match: re.Match[str], path: Path) -> str:
        """The environment's value; the default replaces an unset or empty one, as in a shell."""
        name, default = match[1], match[2]
        value = os.environ.get(name, "")
        if value or (name in os.environ and default is None):
            return value
        if default is None:
            self._unreadable(
                path,
                f"environment variable {name} is not set; set it or write ${{{name}:-default}}",
            )
            return ""
        return default

    def _unreadable(self, path: Path, rule: str) -> None:
        self.document.add(path, rule)
        self.document.unread.add(path)


def plain(text: str) -> str | int | float | bool | None:
    """An unquoted scalar's value."""
    if text in ("", "~", "null", "Null", "NULL"):
        return None
    if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
        return text.lower() == "true"
    if _INT.fullmatch(text) and len(text) <= MOST_DIGITS:
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


def override(document: Document, assignment: str, long_keys: Iterable[str]) -> None:
    """Apply one `--set a.b=value`; the value is YAML.

    `long_keys` are keys that themselves contain dots.
    """
    target, equals, text = assignment.partition("=")
    place = f"--set {target}"
    if not equals or not target:
        document.problems.append(f"--set {redacted(assignment)}: must be of the form a.b=value")
        return
    path = _split(target, sorted(long_keys, key=len, reverse=True))
    parsed = parse(text, place, path, place, document.kept)
    value: Any = document.values
    for depth, part in enumerate(path[:-1]):
        if isinstance(value, dict):
            document.places.setdefault(path[: depth + 1], place)
            value = value.setdefault(str(part), {})
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
        else:
            document.problems.append(
                f"{place}: {dotted(path[:depth]) or 'the file'} is {show(value)}, which has no"
                f" '{part}'"
            )
            return
    last = path[-1]
    if isinstance(value, dict):
        value[str(last)] = parsed.values
    elif isinstance(value, list) and isinstance(last, int) and last < len(value):
        value[last] = parsed.values
    else:
        document.problems.append(
            f"{place}: {dotted(path[:-1])} is {show(value)}, which has no '{last}'"
        )
        return
    document.places = {
        known: at for known, at in document.places.items() if known[: len(path)] != path
    } | parsed.places
    document.problems += parsed.problems
    document.unread = {
        known for known in document.unread if known[: len(path)] != path
    } | parsed.unread


def _split(target: str, long_keys: list[str]) -> Path:
    """`parameters.train.lr.max` -> ("parameters", "train.lr", "max"): a key with dots stays in one
    piece under `parameters`.
    """
    head, _, rest = target.partition(".")
    if head == "parameters" and rest:
        key = next((key for key in long_keys if rest == key or rest.startswith(f"{key}.")), rest)
        tail = rest[len(key) + 1 :]
        return (head, key, *(tail.split(".") if tail else ()))
    return tuple(int(part) if part.isdigit() else part for part in target.split("."))
