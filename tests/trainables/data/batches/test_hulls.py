"""Hulls of clips are found once per machine and give the batches that finding them gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.trainables.data.batches.test_batches import batches, recording, write
from trainables.contract.disk import cache_root
from trainables.data.batches import hulls
from trainables.data.store.reading import Store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("ORCHESTRATE_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(1)
    return write(tmp_path / "tiny", [recording(number, rng) for number in range(6)])


def first_batch(store: Store, *, indices: tuple[int, ...] = (0, 1, 2, 3)) -> np.ndarray:
    dealt = batches(store, training=True, pipeline="ucla", indices=np.array(indices))
    return next(iter(dealt.epoch(0))).x.numpy()


def kept_files() -> list[Path]:
    return list((cache_root() / "hulls").glob("*"))


def refuse(_points: np.ndarray) -> np.ndarray:
    raise AssertionError("a hull that is kept is not found again")


def test_a_second_trial_finds_no_hull_and_has_equal_bits(store, monkeypatch):
    found = first_batch(store)
    monkeypatch.setattr(hulls, "hull", refuse)
    assert np.array_equal(first_batch(store), found)
    with pytest.raises(AssertionError):  # other clips
        first_batch(store, indices=(0, 1, 2, 5))


def test_clips_of_another_content_have_hulls_of_their_own(store, tmp_path):
    first_batch(store)
    rng = np.random.default_rng(2)
    first_batch(write(tmp_path / "other", [recording(number, rng) for number in range(6)]))
    assert len(kept_files()) == 2


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"no archive"])
def test_a_damaged_file_is_made_anew(store, damage):
    found = first_batch(store)
    (file,) = kept_files()
    whole = file.read_bytes()
    file.write_bytes(damage or whole[: len(whole) // 2])
    assert np.array_equal(first_batch(store), found)
    assert file.read_bytes() == whole


def test_a_file_of_fewer_corners_is_made_anew(store):
    found = first_batch(store)
    (file,) = kept_files()
    with np.load(file) as content:
        np.savez(file, corners=content["corners"][:-1], counts=content["counts"])
    assert np.array_equal(first_batch(store), found)


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(store, monkeypatch):
    found = first_batch(store)
    blocked = cache_root().parent / "a file"
    blocked.write_text("")
    monkeypatch.setenv("ORCHESTRATE_CACHE", str(blocked))
    assert np.array_equal(first_batch(store), found)
