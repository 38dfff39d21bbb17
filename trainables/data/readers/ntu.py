"""NTU RGB+D 60 and 120 from the raw `.skeleton` files of a folder or a .zip.

Knows nothing of stores.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np

from trainables.contract.archives import ZipArchive
from trainables.contract.errors import UserError
from trainables.contract.foreign_files import read_bytes
from trainables.contract.names import listed
from trainables.data.readers.checks import Problems
from trainables.data.readers.licences import LICENCES
from trainables.data.readers.ntu_bodies import ntu_clip
from trainables.data.readers.ntu_names import (
    CITATIONS,
    CLIPS,
    EXAMPLE,
    NtuName,
    Release,
    actions,
    parse_name,
    protocols,
    without_skeletons,
)
from trainables.data.readers.parallel import ordered
from trainables.data.readers.skeleton_file import parse_skeleton
from trainables.data.store.description import Clip, Description, Joints, Recordings

SingleActor = Literal["zero", "duplicate"]

_SUFFIX = ".skeleton"
_SOURCE = f"a folder or a .zip of {_SUFFIX} files"
_DAMAGED = 20  # damaged files in a note, one per line; a store's dataset.json names all
SINGLE_ACTOR: dict[Release, SingleActor] = {60: "zero", 120: "duplicate"}
"""What the released preparation of each release leaves in the second actor's place when there is
only one.
"""


def read_ntu(
    src: Path,
    *,
    release: Release | None = None,
    single_actor: SingleActor | None = None,
    strict: bool = False,
    jobs: int = 1,
) -> Recordings:
    """Every sample of a release in `src`, prepared as CTR-GCN's scripts do it; None: what the files
    and those scripts say.

    Samples on the authors' list of missing skeletons are left out. A damaged file is left out and
    named, with `strict` it is an error.
    """
    files, notes = _found(src)
    if release is None:
        release = 60 if all(name.in_60 for name, _ in files.values()) else 120
    files = _chosen(files, release, notes)
    if not files:
        raise UserError(
            f"{src}: must hold usable samples of NTU RGB+D {release}, but there are none:"
            f" {'; '.join(notes)}"
        )
    if len(files) != CLIPS[release]:
        notes.append(
            f"{len(files)} of the {CLIPS[release]} usable samples of NTU RGB+D {release} are in"
            f" {src}"
        )
    single_actor = single_actor or SINGLE_ACTOR[release]
    skipped: list[str] = []
    description = ntu_description(release, kind="ntu", single_actor=single_actor, skipped=skipped)
    return Recordings(
        description,
        _clips(_Source(src, files, release, jobs), single_actor, strict, skipped, notes),
        len(files),
        notes,
    )


def ntu_description(release: Release, **provenance: Any) -> Description:
    """What a store says of a whole release: its classes and both protocols."""
    return Description(
        name=f"ntu{release}",
        layout="ntu25",
        classes=actions()[:release],
        persons=2,
        pipeline="ctr",
        protocols=protocols(release),
        provenance={"citation": CITATIONS[release], "licence": LICENCES["ntu"], **provenance},
    )


def named_clip(text: str, name: NtuName, joints: Joints, **extra: str | int | None) -> Clip:
    """A clip with all that a sample's name says."""
    places = {"subject": name.subject, "camera": name.camera, "take": name.take}
    return Clip(text, name.label, joints, **places, extra={"setup": name.setup, **extra})


Files = dict[str, tuple[NtuName, str]]
"""Sample -> what its name says, and where in the source it is."""


def _found(src: Path) -> tuple[Files, list[str]]:
    """The samples of either release in `src`, by name, and a note about files that bear no such
    name.
    """
    files: Files = {}
    others: list[str] = []
    problems = Problems()
    for place in sorted(_places(src)):
        text = PurePosixPath(place).name.removesuffix(_SUFFIX)
        name = parse_name(text)
        if name is None:
            others.append(place)
        elif text in files:
            problems.add(
                f"{src}: sample {text} must be there once, got {files[text][1]} and {place}"
            )
        else:
            files[text] = (name, place)
    problems.raise_any()
    notes = (
        [f"{_SUFFIX} files that are not named like {EXAMPLE}, left out: {_listed(others)}"]
        if others
        else []
    )
    if not files:
        raise UserError(
            f"{src}: must hold files named like {EXAMPLE}{_SUFFIX}, but there are"
            f" none{''.join(f'; {note}' for note in notes)}"
        )
    return dict(sorted(files.items())), notes


def _places(src: Path) -> Iterator[str]:
    """Where the skeleton files are, relative to a folder and everything below it, or inside an
    archive.
    """
    if src.is_dir():
        yield from (
            file.relative_to(src).as_posix() for file in src.rglob(f"*{_SUFFIX}") if file.is_file()
        )
        return
    if src.suffix == _SUFFIX:
        raise UserError(f"{src}: must be a folder or a .zip of {_SUFFIX} files, not one of them")
    with ZipArchive(src, _SOURCE) as archive:
        yield from (place for place in archive.names if place.endswith(_SUFFIX))


def _chosen(files: Files, release: Release, notes: list[str]) -> Files:
    """The usable samples of a release, and notes about the others."""
    wanted = {text: file for text, file in files.items() if release == 120 or file[0].in_60}
    if len(wanted) < len(files):
        notes.append(
            "samples of NTU RGB+D 120 that are not part of 60, left out:"
            f" {len(files) - len(wanted)}"
        )
    usable = {text: file for text, file in wanted.items() if text not in without_skeletons()}
    if len(usable) < len(wanted):
        notes.append(
            "samples that the authors list as having missing or incomplete skeletons, left out:"
            f" {len(wanted) - len(usable)}"
        )
    return usable


def _gaps(names: list[NtuName], release: Release) -> Iterator[str]:
    """A note for each part of a protocol that has no sample."""
    for protocol, rule in protocols(release).items():
        for part, wanted in (("training", rule.train), ("test", rule.test)):
            if not any(getattr(name, rule.column) in wanted for name in names):
                yield (
                    f"protocol {protocol} cannot be used: no sample is of a {rule.column} of its"
                    f" {part} part"
                )


@dataclass(frozen=True, slots=True)
class _Source:
    """The files to read, and with how many processes."""

    src: Path
    files: Files
    release: Release
    jobs: int


def _clips(
    source: _Source,
    single_actor: SingleActor,
    strict: bool,
    skipped: list[str],
    notes: list[str],
) -> Iterator[Clip]:
    """Every clip, by name; damaged files are entered in `skipped` and, at the end, in `notes` or an
    error.
    """
    problems = Problems()
    good: list[NtuName] = []
    src, files = source.src, source.files
    made = ordered(partial(_read, src), [place for _, place in files.values()], source.jobs)
    try:
        for (text, (name, place)), joints in zip(files.items(), made, strict=True):
            if isinstance(joints, str):
                problems.add(f"{src / place}: {joints}")
                skipped.append(f"{text}: {joints}")
                continue
            good.append(name)
            alone = single_actor == "duplicate" and len(joints) == 1
            yield named_clip(text, name, np.concatenate([joints, joints]) if alone else joints)
    finally:
        _archive.cache_clear()
    if strict or not good:
        problems.raise_any()
    notes += _gaps(good, source.release)
    if skipped:
        more = [f"... and {len(skipped) - _DAMAGED} more"] if len(skipped) > _DAMAGED else []
        notes.append(
            "\n  ".join(
                [
                    f"damaged files, left out (--strict refuses them): {len(skipped)}",
                    *skipped[:_DAMAGED],
                    *more,
                ]
            )
        )


def _read(src: Path, place: str) -> Joints | str:
    """The actors of one file, or what is wrong with it; runs in other processes."""
    try:
        content = read_bytes(src / place) if src.is_dir() else _archive(src).read(place)
    except UserError as error:
        return f"cannot be read: {str(error).partition(', but ')[2] or error}"
    try:
        return ntu_clip(parse_skeleton(content))
    except UserError as error:
        return str(error)


@lru_cache(maxsize=1)
def _archive(src: Path) -> ZipArchive:
    """The archive, opened once per process: reading its table of contents takes longer than reading
    a clip.
    """
    return ZipArchive(src, _SOURCE)


def _listed(names: list[str]) -> str:
    """How many, and the first of them."""
    return f"{len(names)} ({listed(names)})"
