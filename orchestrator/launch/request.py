"""What every submission shares: the sweep that it runs, the checks of its fields, what is rendered.

Starts nothing.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from posixpath import normpath

from trainables.contract.errors import UserError
from trainables.contract.secrets import redacted

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Work:
    """The sweep that a submission runs, by paths as the cluster sees them.

    name: of the sweep. file: a path, absolute or of `folder`, or a shipped name. folder: absolute;
    relative paths of the sweep file start there. overrides: of `--set`.
    """

    name: str
    file: str
    folder: str
    overrides: tuple[str, ...] = ()

    def words(self, address: str | None = None) -> list[str]:
        """The command that starts the sweep, and goes on with it whenever it is run again."""
        words = ["orchestrate", "sweep", self.file]
        for override in self.overrides:
            words += ["--set", override]
        return words if address is None else [*words, "--address", address]

    def problems(self) -> list[str]:
        """What keeps it from being rendered."""
        found = []
        if not self.folder.startswith("/"):
            found.append(f"--folder: must be an absolute path, got '{self.folder}'")
        for override in self.overrides:
            if redacted(override) != override:
                found.append(
                    f"--set {redacted(override)}: must not hold a password, which would be in a"
                    " file; write ${VARIABLE} and give the variable to the job"
                )
        return found + unprintable(("--folder", self.folder), ("FILE", self.file))


@dataclass(frozen=True, slots=True)
class Rendered:
    """What is submitted, and how: all of it, and nothing else."""

    kind: str  # slurm, ray, kuberay or skypilot
    text: str  # the file
    command: tuple[str, ...]  # FILE stands for the file; without it the file is standard input
    suffix: str = ""  # of the file's name

    def shown(self) -> str:
        """The command as it is typed; `FILE` is the text above it."""
        return shlex.join(self.command)


FILE = "FILE"
"""Stands for the rendered file in a command."""


def checked(problems: Iterable[str]) -> None:
    """UserError with every problem, where there is one."""
    found = list(problems)
    if found:
        raise UserError.of(found)


def names(*fields: tuple[str, str | None]) -> list[str]:
    """Fields that must be one word, as schedulers call things; None is not given."""
    return [
        f"{option}: must be letters, digits, '_', '.' and '-', got '{value}'"
        for option, value in fields
        if value is not None and not _NAME.fullmatch(value)
    ]


def matches(option: str, value: str | None, pattern: str, rule: str) -> list[str]:
    """A field of a form; None is not given."""
    if value is None or re.fullmatch(pattern, value):
        return []
    return [f"{option}: must be {rule}, got '{value}'"]


_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"


def kubernetes_words(most: int, *fields: tuple[str, str | None], dots: bool = True) -> list[str]:
    """Fields that must be names of Kubernetes' of at most so many characters; None is not given."""
    signs = ", '-' and '.'" if dots else " and '-'"
    rule = f"at most {most} small letters, digits{signs}, such as my-name"
    pattern = rf"{_LABEL}(\.{_LABEL})*" if dots else _LABEL
    return [
        problem
        for option, value in fields
        for problem in matches(option, value, rf"(?=.{{1,{most}}}$){pattern}", rule)
    ]


def images(option: str, value: str) -> list[str]:
    """A field that must be the reference of a container image."""
    return matches(option, value, r"[A-Za-z0-9][A-Za-z0-9_./:@-]*", "an image like r.org/name:1")


def mounts(option: str, value: str) -> list[str]:
    """A field that must be a path where something can be mounted."""
    return matches(option, value, r"/[^\s:]+", "an absolute path without spaces and ':'")


def kept_in(mount: str, work: Work) -> list[str]:
    """The sweep's folder must be in what is mounted: what is beside it goes with its machine."""
    if PurePosixPath(normpath(work.folder)).is_relative_to(normpath(mount)):
        return []
    return [f"--folder: must be in --mount ({mount}), which outlives the job, got '{work.folder}'"]


def at_least(option: str, value: int, least: int) -> list[str]:
    """A whole number with a lower bound."""
    return [] if value >= least else [f"{option}: must be at least {least}, got {value}"]


def unprintable(*fields: tuple[str, str]) -> list[str]:
    """Fields with a line break or another control character, which would end a line of a script."""
    return [
        f"{option}: must be printable text in one line, got {value!r}"
        for option, value in fields
        if not value.isprintable() or not value
    ]


def kubernetes_name(name: str, most: int) -> str:
    """A sweep's name as Kubernetes and SkyPilot take one: lower case letters, digits and `-`."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:most].strip("-")
    return plain if plain[:1].isalpha() else f"sweep-{plain}"[:most].strip("-")
