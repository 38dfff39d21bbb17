"""What every submission shares: the sweep that it runs, the checks of its fields, what is rendered.

Starts nothing.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from posixpath import join, normpath

from trainables.contract.addresses import is_address, local_path
from trainables.contract.errors import UserError
from trainables.contract.secrets import redacted

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Work:
    """The sweep that a submission runs, by paths as the cluster sees them.

    name: of the sweep. file: a path, absolute or of `folder`, or a shipped name. folder: absolute;
    relative paths of the sweep file start there; None where the sweep needs none, as everything
    lies at addresses. overrides: of `--set`. storage, store, tracking: of the sweep.
    """

    name: str
    file: str
    folder: str | None
    overrides: tuple[str, ...] = ()
    storage: str = "runs"
    store: str = "data"
    tracking: str = "none"

    def __post_init__(self) -> None:
        """An address of a machine's own files is a path."""
        for name in ("storage", "store"):
            path = local_path(getattr(self, name))
            if path is not None:
                object.__setattr__(self, name, path)

    def words(self, address: str | None = None) -> list[str]:
        """The command that starts the sweep, and goes on with it whenever it is run again."""
        words = ["orchestrate", "sweep", self.file]
        for override in self.overrides:
            words += ["--set", override]
        return words if address is None else [*words, "--address", address]

    @property
    def at_addresses(self) -> bool:
        """Whether it reads and writes no folder of the cluster."""
        return is_address(self.storage) and is_address(self.store)

    def starting_in(self, folder: str | None) -> Work:
        """The same, in this folder unless another one was given."""
        return self if self.folder is not None else replace(self, folder=folder)

    def start(self) -> list[str]:
        """What goes before the command, so that it starts in the folder."""
        return [] if self.folder is None else ["env", "-C", self.folder]

    def problems(self) -> list[str]:
        """What keeps it from being rendered."""
        found = []
        if self.folder is None:
            found += self._without_folder()
        elif not self.folder.startswith("/"):
            found.append(f"--folder: must be an absolute path, got '{self.folder}'")
        for override in self.overrides:
            if redacted(override) != override:
                found.append(
                    f"--set {redacted(override)}: must not hold a password, which would be in a"
                    " file; write ${VARIABLE} and give the variable to the job"
                )
        folder = [] if self.folder is None else [("--folder", self.folder)]
        return found + unprintable(*folder, ("FILE", self.file))

    def _without_folder(self) -> list[str]:
        """Relative places, which begin nowhere."""
        found = []
        if self.file.endswith((".yaml", ".yml")) and not self.file.startswith("/"):
            found.append(
                f"FILE: must be the name of a shipped search space, or an absolute path, got"
                f" '{self.file}'"
            )
        places = (
            ("storage", self.storage, "s3://BUCKET/FOLDER"),
            ("data.store", self.store, "s3://BUCKET/FOLDER"),
            ("tracking.uri", database_of(self.tracking), "http://HOST:5000"),
        )
        return found + [
            f"{place}: must be an address such as {example} where no --folder says where relative"
            f" paths begin, got '{path}'"
            for place, path, example in places
            if path is not None and not is_address(path) and not path.startswith("/")
        ]


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


def database_of(tracking: str) -> str | None:
    """The file of an MLflow database that is one."""
    return tracking.removeprefix("sqlite:///") if tracking.startswith("sqlite:///") else None


def kept_in(mount: str | None, work: Work) -> list[str]:
    """What the sweep writes must be in what is mounted, or at an address: what is beside it goes
    with its machine. mount: None where nothing is.
    """
    if mount is not None and work.folder is not None and not _is_within(work.folder, mount):
        rule = f"must be in --mount ({mount}), which outlives the job"
        return [f"--folder: {rule}, got '{work.folder}'"]
    if mount is None and work.folder is not None:
        return [f"--folder: must be left out where nothing is mounted, got '{work.folder}'"]
    where = "an address, as nothing is mounted that"
    if mount is not None:
        where = f"an address, or in --mount ({mount}), which"
    places = (
        ("storage", work.storage, "s3://BUCKET/FOLDER"),
        ("tracking.uri", database_of(work.tracking), "http://HOST:5000"),
    )
    return [
        f"{place}: must be {where} outlives the job, such as {example}, got '{path}'"
        for place, path, example in places
        if path is not None and not is_address(path) and _is_lost(path, mount, work.folder)
    ]


def _is_lost(path: str, mount: str | None, folder: str | None) -> bool:
    if folder is None and not path.startswith("/"):
        return False  # said by Work.problems
    return mount is None or not _is_within(join(folder or "/", path), mount)


def _is_within(path: str, mount: str) -> bool:
    return PurePosixPath(normpath(path)).is_relative_to(normpath(mount))


OWN_OF_A_NODE = ("/tmp", "/var/tmp", "/dev/shm")
"""Folders that no two machines share."""


def shared(work: Work) -> list[str]:
    """A storage that every node has for itself, where the next start would find nothing."""
    return [
        f"storage: must be a folder that all nodes share, or an address, got '{work.storage}';"
        f" {own} is each node's own"
        for own in OWN_OF_A_NODE
        if work.storage.startswith("/") and _is_within(work.storage, own)
    ]


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
