"""A reader of another package keeps its laws, and what breaks one is noticed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.strangers import stranger
from trainables.contract.readers import ReaderCard
from trainables.laws.law import held_to
from trainables.laws.reader import CARD_LAWS, LAWS

OUTSIDE = Path(__file__).parents[2] / "outside"
BY_NAME = {law.says: law for law in (*CARD_LAWS, *LAWS)}
INTO_A_STORE = "reads its sample into a store"
DAMAGE = "refuses or notes a damaged file by its name"


@pytest.fixture
def sample(tmp_path, monkeypatch) -> Path:
    """Three clips as the package of the tests reads them, and a file that it does not read."""
    monkeypatch.syspath_prepend(OUTSIDE)
    folder = tmp_path / "sample"
    folder.mkdir()
    still = np.random.default_rng(0).normal(size=(4, 20, 3)).tolist()
    for person in (1, 2, 3):
        record = {"label": person % 2, "person": person, "joints": still}
        (folder / f"c{person}.json").write_text(json.dumps(record))
    (folder / "notes.txt").write_text("made by a test")
    return folder


def test_a_reader_of_another_package_keeps_the_laws(sample):
    subject = {"reader": "walks.card:CARD", "sample": sample}
    verdicts = list(held_to((*CARD_LAWS, *LAWS), subject))
    assert [verdict.reason for verdict in verdicts] == [""] * len(verdicts)


def sound(src):
    from walks.read import read_walks

    return read_walks(src)


def miscounts(src):
    return replace(sound(src), count=5)


def trains_alone(src):
    recordings = sound(src)
    clips = [clip for clip in recordings.clips if clip.subject != 3]
    return replace(recordings, clips=clips, count=len(clips))


def draws(src):
    recordings = sound(src)
    noise = np.random.default_rng().normal(size=1).astype(np.float32)
    moved = (replace(clip, joints=clip.joints + noise) for clip in recordings.clips)
    return replace(recordings, clips=moved)


def writes(src):
    (src / "index.json").write_text("{}") if src.name == "sample" else None
    return sound_of(src, "c*.json")


def sound_of(src, pattern):
    """The clips of some files alone."""
    from walks import read

    recordings = sound(src)
    files = sorted(src.glob(pattern))
    return replace(recordings, clips=map(read._clip, files), count=len(files))


def invents(src):
    return sound(src) if any(src.glob("*.json")) else sound(invents.sample)


def raises(src):
    for file in src.glob("*.json"):
        json.loads(file.read_text())
    return sound(src)


def skips(src):
    """Leaves damaged files out without a word."""
    from walks import read

    from trainables.contract.errors import UserError

    recordings, clips = sound(src), []
    for file in sorted(src.glob("*.json")):
        try:
            clips.append(read._clip(file))
        except UserError:
            continue
    return replace(recordings, clips=clips, count=len(clips))


@pytest.mark.parametrize(
    ("read", "law", "reason"),
    [
        (miscounts, INTO_A_STORE, "it says that there are 5 clips, but gives 3"),
        (trains_alone, INTO_A_STORE, "xsub"),
        (lambda src: [], INTO_A_STORE, "it must give Recordings, got list"),
        (draws, "reads the same clips twice", "reading twice must give the same clips"),
        (writes, "leaves its sample as it is", "reading must leave index.json as it is"),
        (invents, "refuses what is not there by its name", "gone: must be refused, but was read"),
        (raises, DAMAGE, "UnicodeDecodeError"),
        (skips, DAMAGE, "c1.json is garbage, and what is said must name it, got: nothing"),
    ],
)
def test_a_law_notices_who_breaks_it(monkeypatch, sample, read, law, reason):
    invents.sample = sample
    path = stranger(monkeypatch, ReaderCard, read)
    (verdict,) = held_to([BY_NAME[law]], {"reader": path, "sample": sample})
    assert reason in verdict.reason


def test_what_is_left_out_with_a_note_is_said(monkeypatch, sample):
    def notes(src):
        recordings = skips(src)
        left_out = sorted({path.name for path in src.glob("*.json")})[recordings.count :]
        said = tuple(f"left out: {path.name}" for path in src.glob("*.json")) if left_out else ()
        return replace(recordings, notes=said)

    path = stranger(monkeypatch, ReaderCard, notes)
    (verdict,) = held_to([BY_NAME[DAMAGE]], {"reader": path, "sample": sample})
    assert verdict.reason == ""
