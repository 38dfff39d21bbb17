"""Cards are found by name, by entry point and by path, and what is wrong is one clear line."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib import metadata
from textwrap import dedent

import pytest

from trainables.contract.cards import Card, CardTable, is_path
from trainables.contract.errors import UserError

OURS = {"kettle": "own_parts:KETTLE", "misnamed": "own_parts:KETTLE"}


@dataclass(frozen=True, kw_only=True)
class PotCard(Card):
    litres: float = 1.0


@pytest.fixture
def table(tmp_path, monkeypatch) -> CardTable[PotCard]:
    """A table of two names of ours, beside packages that offer `pan`, `kettle` and `twice`."""
    (tmp_path / "own_parts.py").write_text(
        dedent(f"""
        from {__name__} import PotCard
        KETTLE = PotCard(name="kettle", module="own_parts:boil", about="boils", litres=2.0)
        PAN = PotCard(name="pan", module="own_parts:fry", about="fries")
        LOST = PotCard(name="lost", module="own_parts:nothing", about="has no module")
        number = 7
        def boil(): return "steam"
        """)
    )
    (tmp_path / "broken_parts.py").write_text("1 / 0\n")
    (tmp_path / "leaving_parts.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "needy_parts.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    points = [
        metadata.EntryPoint("pan", "own_parts:PAN", "pots"),
        metadata.EntryPoint("pan", "own_parts:PAN", "pots"),  # the same package seen twice
        metadata.EntryPoint("twice", "own_parts:PAN", "pots"),
        metadata.EntryPoint("twice", "other_parts:PAN", "pots"),
    ]
    monkeypatch.setattr(
        metadata, "entry_points", lambda group: [p for p in points if p.group == group]
    )
    yield CardTable("pot", "pots", PotCard, OURS)
    for name in ("own_parts", "broken_parts", "leaving_parts", "needy_parts"):
        sys.modules.pop(name, None)


def test_a_card_is_found_by_name_by_entry_point_and_by_path(table):
    assert table.find("kettle").litres == 2.0
    assert table.find("pan").about == "fries"
    assert table.find("own_parts:PAN") is table.find("pan")
    assert table.find("kettle").load()() == "steam"


def test_nothing_is_imported_before_it_is_asked_for(table):
    assert "own_parts" not in sys.modules
    table.find("kettle")
    assert "own_parts" in sys.modules


def test_names_are_ours_and_then_those_of_packages(table, monkeypatch):
    monkeypatch.setattr(
        metadata, "entry_points", lambda group: [metadata.EntryPoint("pan", "a:PAN", group)]
    )
    assert table.names() == ("kettle", "misnamed", "pan")


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (
            "ketle",
            "must be kettle, misnamed, pan, twice or package.module:NAME, got 'ketle', did you mean"
            " 'kettle'?",
        ),
        ("own_parts:", "must be kettle, misnamed, pan, twice or package.module:NAME, got"),
        ("../x.py:CARD", "must be kettle, misnamed, pan, twice or package.module:NAME, got"),
        (
            "no_such.net:CARD",
            "pot no_such.net:CARD: must be importable, but there is no module no_such; install its"
            " package (pip install -e FOLDER) or add its folder to PYTHONPATH",
        ),
        (
            "own_parts.net:CARD",
            "pot own_parts.net:CARD: must be importable, but there is no module own_parts.net",
        ),
        (
            "needy_parts:CARD",
            "pot needy_parts:CARD: must be importable, but needy_parts raises ModuleNotFoundError:"
            " No module named 'no_such_dependency'",
        ),
        (
            "broken_parts:CARD",
            "pot broken_parts:CARD: must be importable, but broken_parts raises ZeroDivisionError:"
            " division by zero",
        ),
        ("leaving_parts:CARD", "must be importable, but leaving_parts raises SystemExit: 3"),
        (
            "own_parts:KETLE",
            "pot own_parts:KETLE: must be there, but module own_parts has no KETLE, did you mean"
            " 'KETTLE'?",
        ),
        ("own_parts:number", "pot own_parts:number: must be a PotCard, got int; the card of a pot"),
        ("own_parts:boil", "must be a PotCard, got a function"),
        ("own_parts:PotCard", "must be a PotCard, got the class PotCard"),
        (
            "misnamed",
            "pot misnamed: the card at own_parts:KETTLE must have this name, got 'kettle'",
        ),
        ("twice", "pot twice: the name must be taken once, got own_parts:PAN and other_parts:PAN"),
    ],
)
def test_what_is_wrong_is_one_line(table, name, problem):
    with pytest.raises(UserError) as caught:
        table.find(name)
    assert str(caught.value).startswith(problem) or problem in str(caught.value)
    assert len(caught.value.problems) == 1


def test_a_package_cannot_take_a_name_of_ours(table, monkeypatch):
    monkeypatch.setattr(
        metadata, "entry_points", lambda group: [metadata.EntryPoint("kettle", "a:KETTLE", group)]
    )
    assert table.find("kettle").litres == 2.0
    with pytest.raises(
        UserError,
        match="pot kettle: the name must be taken once, got own_parts:KETTLE and a:KETTLE",
    ):
        table.names()


def test_a_card_whose_module_is_missing_says_so(table):
    with pytest.raises(
        UserError,
        match="the card of lost, module: must be there, but module own_parts has no nothing",
    ):
        table.find("own_parts:LOST").load()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:B", True),
        ("a.b_2.c:Net", True),
        ("a", False),
        ("a:b:c", False),
        ("a.:b", False),
        ("a:b.c", False),
        (".a:b", False),
        ("ä:B", False),
        ("a:B\n", False),
    ],
)
def test_a_path_has_a_module_and_a_name(text, expected):
    assert is_path(text) is expected
