"""The map of the mutation check: whoever moves a module or its tests meets it here."""

from tests.mutation.changes import ROOT
from tests.mutation.core import CORE


def test_modules_and_tests_of_the_map_are_there():
    named = {*CORE, *(f"tests/{file}" for files in CORE.values() for file in files)}
    assert sorted(name for name in named if not (ROOT / name).is_file()) == []
    assert [module for module, files in CORE.items() if len(set(files)) != len(files)] == []
