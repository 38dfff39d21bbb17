"""Cards: what is known of a part (a backbone, a generator, a search, ...) before the module that
does its work is imported, and the tables that find them.

A table is a dict literal of module paths; other packages add to it with entry points, and a sweep
file may name a card as `package.module:NAME`. Nothing is imported before it is asked for.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module, metadata
from typing import Any, Generic, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from trainables.contract.errors import UserError

_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Card:
    """One part as the light half knows it: importing a card must import neither torch nor ray."""

    name: str  # as it stands in a sweep file
    module: str  # where the part itself is, `package.module:NAME`
    about: str  # one line for people

    def load(self) -> Any:
        """The part itself; this may import torch."""
        return load_object(self.module, f"the card of {self.name}, module")


AnyCard = TypeVar("AnyCard", bound=Card)


@dataclass(frozen=True)
class CardTable(Generic[AnyCard]):
    """The cards of one kind by name: our own, those of installed packages, and any that a sweep
    file names as `package.module:NAME`.
    """

    kind: str  # in messages: `backbone`
    group: str  # of entry points: `orchestrate.backbones`
    card: type[AnyCard]
    own: Mapping[str, str]  # name -> `package.module:NAME` of its card
    _loaded: dict[str, AnyCard] = field(default_factory=dict, init=False, repr=False, compare=False)

    def names(self) -> tuple[str, ...]:
        """Our own names, then those of installed packages; UserError where a name is taken twice.

        Imports no card.
        """
        outside = self._outside()
        doubled = [name for name, places in outside.items() if name in self.own or len(places) > 1]
        if doubled:
            raise UserError.of(self._taken_twice(name, outside[name]) for name in doubled)
        return (*self.own, *outside)

    def find(self, name: str) -> AnyCard:
        """The card of that name or path; UserError where there is none, or where it is no card."""
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def path(self, name: str) -> str:
        """Where the card of that name is, `package.module:NAME`; UserError where there is none."""
        return name if is_path(name) else self.own.get(name) or self._installed(name)

    def _load(self, name: str) -> AnyCard:
        place, path = f"{self.kind} {name}", self.path(name)
        card = self._checked(load_object(path, place), place)
        if card.name != name and not is_path(name):
            raise UserError(f"{place}: the card at {path} must have this name, got '{card.name}'")
        return card

    def _installed(self, name: str) -> str:
        """Where an installed package has the card of that name."""
        outside = self._outside()
        if name not in outside:
            known = (*self.own, *outside)
            near = difflib.get_close_matches(name, known, n=1)
            raise UserError(
                f"must be {', '.join(known)}{' or ' if known else ''}package.module:NAME, got"
                f" '{name}'" + (f", did you mean '{near[0]}'?" if near else "")
            )
        if len(outside[name]) > 1:
            raise UserError(self._taken_twice(name, outside[name]))
        return outside[name][0]

    def _outside(self) -> dict[str, list[str]]:
        """Name -> paths of the cards that installed packages offer under it."""
        by_name: dict[str, list[str]] = {}
        for point in metadata.entry_points(group=self.group):
            places = by_name.setdefault(point.name, [])
            if point.value not in places:
                places.append(point.value)
        return by_name

    def _taken_twice(self, name: str, places: list[str]) -> str:
        own = [self.own[name]] if name in self.own else []
        return (
            f"{self.kind} {name}: the name must be taken once, got {' and '.join([*own, *places])}"
        )

    def _checked(self, value: object, place: str) -> AnyCard:
        if not isinstance(value, self.card):
            raise UserError(
                f"{place}: must be a {self.card.__name__}, got {_kind_of(value)}; the card of a"
                f" {self.kind} says where its module is"
            )
        return value


@dataclass(frozen=True)
class NameOf:
    """Annotation of a text in a pydantic model: it must be a name that the table finds.

    Editors are told those there are, or the form `package.module:NAME`.
    """

    table: CardTable[Any]

    def __get_pydantic_core_schema__(
        self, source: type[str], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._known, handler(source))

    def _known(self, name: str) -> str:
        self.table.find(name)
        return name

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        names = {"enum": list(self.table.names())}
        return {"type": "string", "anyOf": [names, {"pattern": r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"}]}


def is_path(name: str) -> bool:
    """Whether `name` has the form `package.module:NAME`."""
    return _PATH.fullmatch(name) is not None


def load_object(path: str, place: str) -> Any:
    """The object at `package.module:NAME`; UserError, which begins with `place`, where it cannot be
    had.
    """
    if not is_path(path):
        raise UserError(f"{place}: must have the form package.module:NAME, got '{path}'")
    module, _, name = path.partition(":")
    try:
        imported = import_module(module)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{module}.".startswith(f"{missing}."):
            raise UserError(
                f"{place}: must be importable, but there is no module {missing}; install its"
                " package (pip install -e FOLDER) or add its folder to PYTHONPATH"
            ) from error
        raise UserError(
            f"{place}: must be importable, but {module} raises {type(error).__name__}: {error}"
        ) from error
    if not hasattr(imported, name):
        near = difflib.get_close_matches(
            name, [each for each in vars(imported) if each[0] != "_"], 1
        )
        raise UserError(
            f"{place}: must be there, but module {module} has no {name}"
            + (f", did you mean '{near[0]}'?" if near else "")
        )
    return getattr(imported, name)


def _kind_of(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return "a function" if callable(value) else f"{type(value).__name__}"
