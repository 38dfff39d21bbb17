"""Parts of another package that are made up while a test runs."""

from __future__ import annotations

import sys
from itertools import count
from types import ModuleType

MODULE = "stranger"
NUMBERS = count()


def stranger(monkeypatch, card, part, **fields) -> str:
    """The path of a card of the class `card` for `part`, in a module made for one test."""
    module = ModuleType(MODULE)
    module.part = part
    about = {"name": "stranger", "module": f"{MODULE}:part", "about": "Made up by a test."}
    # a table remembers the cards it has found, so each has a name of its own
    name = f"CARD_{next(NUMBERS)}"
    setattr(module, name, card(**about, **fields))
    monkeypatch.setitem(sys.modules, MODULE, module)
    return f"{MODULE}:{name}"
