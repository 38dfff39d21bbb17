"""Laws that every reader of recordings keeps: what it reads, and what it says of damage.

A subject is the reader's name and the path of a small sample that it can read.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from trainables.contract.config import SelectionConfig
from trainables.contract.errors import UserError
from trainables.contract.readers import READERS
from trainables.data.readers.units import in_store_units
from trainables.data.store.description import StoreInfo
from trainables.data.store.reading import Store
from trainables.data.store.writing import write_store
from trainables.laws.law import Law, PartSettings, card_is_light, check_about, require

LARGEST_SAMPLE = 64 << 20
"""Bytes: a sample is copied for every damage."""
MOST_DAMAGED = 4
"""Files of a sample that are damaged in turn."""
GARBAGE = b"\x00\xff\x9d damaged \x1b" * 16
"""What no format begins with."""


def card_names_a_function(subject: PartSettings) -> None:
    """It says what it reads in one line, and its module holds a function."""
    card = READERS.find(subject["reader"])
    check_about(card)
    require(callable(card.load()), f"{card.module} must be a function, got {card.load()!r}")


def reads_its_sample(subject: PartSettings) -> None:
    """As many clips as it says, and every protocol trains on some and tests on others."""
    with TemporaryDirectory() as folder:
        recordings = READERS.find(subject["reader"]).load()(subject["sample"])
        out = Path(folder) / "store"
        said, info = recordings.count, _written(recordings, out, subject["sample"])
        require(info.clips == said, f"it says that there are {said} clips, but gives {info.clips}")
        store = Store.open(out)
        for protocol in info.protocols:
            split = store.split(protocol, SelectionConfig(kind="none"))
            for part, clips in (("train", split.train), ("test", split.test)):
                require(len(clips) > 0, f"protocol {protocol} must {part} on at least one clip")


def reads_the_same_clips_twice(subject: PartSettings) -> None:
    """Bit for bit: a store made again is the same store."""
    first, second = (_checksums(subject, subject["sample"]) for _ in range(2))
    require(first == second, "reading twice must give the same clips")


def leaves_its_sample_alone(subject: PartSettings) -> None:
    """No file is changed, removed or added."""
    before = _content(subject["sample"])
    _checksums(subject, subject["sample"])
    after = _content(subject["sample"])
    differ = sorted(name for name in before | after if before.get(name) != after.get(name))
    require(not differ, f"reading must leave {', '.join(differ[:3])} as it is")


def refuses_what_is_not_there(subject: PartSettings) -> None:
    """A path that is not there, an empty folder and an empty file are one UserError that names
    them.
    """
    with TemporaryDirectory() as folder:
        nothing, empty, hollow = (Path(folder, name) for name in ("gone", "empty", "hollow.bin"))
        empty.mkdir()
        hollow.touch()
        for path in (nothing, empty, hollow):
            said = _refusal(subject, path)
            require(said is not None, f"{path.name}: must be refused, but was read")
            require(path.name in str(said), f"what is said must name {path.name}, got: {said}")


def names_a_damaged_file(subject: PartSettings) -> None:
    """A file of the sample that is garbage is refused by its name, or left out with a note that
    names it; one that is cut short raises nothing but UserError.
    """
    whole = _checksums(subject, subject["sample"])
    for name in _some(sorted(_content(subject["sample"]))):
        with _copied(subject["sample"]) as copy:
            file = copy / name if copy.is_dir() else copy
            half = file.read_bytes()[: file.stat().st_size // 2]
            file.write_bytes(GARBAGE)
            notes: list[str] = []
            said = _refusal(subject, copy, notes, whole)
            words = " ".join(notes) if said is None else str(said)
            # a file that changes nothing is none that it reads
            require(
                said == "" or file.stem in words,
                f"{name} is garbage, and what is said must name it, got: {words or 'nothing'}",
            )
            file.write_bytes(half)
            _refusal(subject, copy)


def _refusal(
    subject: PartSettings, path: Path, notes: list[str] | None = None, whole: object = None
) -> UserError | str | None:
    """The UserError that reading ends with; None where it does not, and "" where it reads what is
    in `whole`. `notes` gets what else was said.
    """
    try:
        checksums = _checksums(subject, path, None if notes is None else notes.extend)
    except UserError as error:
        return error
    return "" if checksums == whole else None


def _checksums(
    subject: PartSettings, path: Path, note: Callable[[tuple[str, ...]], None] | None = None
) -> dict[str, str]:
    """Of the store that is made of what is at `path`."""
    recordings = READERS.find(subject["reader"]).load()(path)
    with TemporaryDirectory() as folder:
        info = _written(recordings, Path(folder) / "store", path)
    if note is not None:
        note(tuple(recordings.notes))
    return info.checksums


def _written(recordings: object, out: Path, place: Path) -> StoreInfo:
    from trainables.data.store.description import Recordings

    require(
        isinstance(recordings, Recordings),
        f"it must give Recordings, got {type(recordings).__name__}",
    )
    assert isinstance(recordings, Recordings)
    converted = in_store_units(recordings, None, "float32", ask=False, place=place)
    return write_store(out, converted.clips, converted.description)


def _content(sample: Path) -> dict[str, str]:
    """Path within the sample -> SHA-256, of every file; UserError where that is too much."""
    files = sorted(path for path in sample.rglob("*") if path.is_file()) or [sample]
    size = sum(path.stat().st_size for path in files)
    if size > LARGEST_SAMPLE:
        raise UserError(f"{sample}: must be a sample of at most {LARGEST_SAMPLE} bytes, got {size}")
    return {
        str(path.relative_to(sample)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def _some(names: list[str]) -> list[str]:
    """At most MOST_DAMAGED of them, from the first to the last."""
    if len(names) <= MOST_DAMAGED:
        return names
    return [names[i * (len(names) - 1) // (MOST_DAMAGED - 1)] for i in range(MOST_DAMAGED)]


@contextmanager
def _copied(sample: Path) -> Iterator[Path]:
    """A copy of a sample that may be changed."""
    with TemporaryDirectory() as folder:
        copy = Path(folder) / sample.name
        if sample.is_dir():
            shutil.copytree(sample, copy)
        else:
            shutil.copyfile(sample, copy)
        yield copy


CARD_LAWS: tuple[Law, ...] = (
    Law(
        "has a card that imports neither torch nor ray",
        lambda subject: card_is_light(READERS.path(subject["reader"])),
    ),
    Law("has a card that names a function", card_names_a_function),
)
LAWS: tuple[Law, ...] = (
    Law("reads its sample into a store", reads_its_sample),
    Law("reads the same clips twice", reads_the_same_clips_twice),
    Law("leaves its sample as it is", leaves_its_sample_alone),
    Law("refuses what is not there by its name", refuses_what_is_not_there),
    Law("refuses or notes a damaged file by its name", names_a_damaged_file),
)
