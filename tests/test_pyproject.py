"""The ranges of the dependencies hold what is tested, and begin where the code does."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIREMENTS = [
    Requirement(text)
    for group in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for text in group
]
PINS = {
    canonicalize_name(name): version
    for name, _, version in (
        line.partition("==") for line in (ROOT / "constraints.txt").read_text().splitlines()
    )
    if version
}


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_a_range_admits_the_version_that_is_pinned(requirement):
    assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("numpy", "2.1.3"),  # savez_compressed takes no allow_pickle
        ("pandas", "2.2.1"),  # is built against numpy 1
        ("pydantic", "2.10.6"),  # knows no validate_by_name
    ],
)
def test_a_range_begins_where_the_code_runs(name, version):
    ranges = {requirement.name: requirement.specifier for requirement in REQUIREMENTS}
    assert not ranges[name].contains(version)
