"""Where joints are kept while training: it changes no batch, and a GPU that is too small is said
before anything is copied.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.naive_stores import clip, description
from trainables.contract.config import DataConfig, TrialConfig
from trainables.contract.errors import UserError
from trainables.data.batches import ragged
from trainables.data.batches.batches import Batches, Dealing
from trainables.data.batches.ragged import RESIDENT_SHARE, load_ragged, memory_left, settle
from trainables.data.store.description import Storage
from trainables.data.store.reading import Store, write_store

CPU = torch.device("cpu")
GPU = torch.device("cuda")
RESIDENCES = ("auto", "device", "host", "mmap")
CHOSEN = np.array([1, 4, 5])


@pytest.fixture(scope="module", params=["float32", "int16"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    storage: Storage = request.param
    clips = [
        clip(f"c{number}", number % 2, frames=3 + 7 * number, persons=1 + number % 2)
        for number in range(6)
    ]
    clips[4].joints[0, :3] = 0
    folder: Path = tmp_path_factory.mktemp("stores") / storage
    write_store(folder, clips, description(), storage=storage)
    return Store.open(folder)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("pipeline", ["ctr", "ucla"])
def test_every_residence_deals_the_same_batches(
    store: Store, pipeline: str, training: bool
) -> None:
    dealt = {}
    for residence in RESIDENCES:
        data = DataConfig(
            store="s",
            protocol="split",
            frames=9,
            stream="bone_motion",
            pipeline=pipeline,
            residence=residence,
        )
        batches = Batches(store, CHOSEN, data, Dealing(2, training=training, seed=1, labelled=True))
        dealt[residence] = [batch for epoch in range(2) for batch in batches.epoch(epoch)]
    assert dealt["mmap"]
    for batches in dealt.values():
        for got, expected in zip(batches, dealt["mmap"], strict=True):
            assert torch.equal(got.x, expected.x)
            assert torch.equal(got.index, expected.index)


def test_a_copy_holds_the_chosen_clips_as_they_are_stored(store: Store) -> None:
    mapped, copied = (load_ragged(store, CHOSEN, CPU, residence) for residence in ("mmap", "host"))
    assert mapped.rows.data_ptr() == store.joints.ctypes.data
    assert len(copied.rows) == (copied.length * copied.persons).sum() < len(mapped.rows)
    assert (
        copied.rows.dtype
        == mapped.rows.dtype
        == torch.from_numpy(np.empty(0, store.joints.dtype)).dtype
    )
    assert not np.shares_memory(copied.rows.numpy(), store.joints)
    for i, position in enumerate(CHOSEN):
        expected = store.stored(int(position)).reshape(-1, 51)
        assert np.array_equal(copied.rows[copied.rows_of(i)].numpy(), expected)


@pytest.mark.parametrize(
    ("residence", "needed", "device", "expected"),
    [
        ("auto", 10**12, CPU, None),
        ("mmap", 1, CPU, None),
        ("host", 1, CPU, CPU),
        ("device", 10**12, CPU, CPU),
        ("auto", int(RESIDENT_SHARE * 1000), GPU, GPU),
        ("auto", int(RESIDENT_SHARE * 1000) + 1, GPU, None),
        ("device", 1000, GPU, GPU),
        ("host", 10**12, GPU, CPU),
        ("mmap", 1, GPU, None),
    ],
)
def test_where_the_copy_goes(
    residence: ragged.Residence, needed: int, device: torch.device, expected: object, monkeypatch
) -> None:
    monkeypatch.setattr(ragged, "memory_left", lambda _device: 1000)
    assert settle(residence, needed, device) == expected


def test_a_gpu_that_is_too_small_is_said_with_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ragged, "memory_left", lambda _device: 2 * 10**9)
    with pytest.raises(
        UserError,
        match=(
            r"data\.residence: device needs 3\.35 GB for the joints, this trial has 2\.00 GB of the"
            r" GPU left"
        ),
    ):
        settle("device", 3_350_000_000, GPU)


@pytest.mark.parametrize(
    ("free", "held", "used", "share", "left"),
    [
        (70, 10, 4, 1.0, 76),  # what is free and what is held without being used
        (70, 10, 4, 0.25, 16),  # a trial with a quarter of the GPU has no more than that
        (5, 20, 20, 0.25, 0),
    ],
)
def test_memory_left_on_a_gpu(
    free: int, held: int, used: int, share: float, left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (free, 80))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: held)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _device: used)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda _device: share)
    assert memory_left(GPU) == left


def test_it_makes_no_other_trial() -> None:
    trials = [
        TrialConfig(data=DataConfig(store="s", protocol="p", residence=residence))
        for residence in RESIDENCES
    ]
    assert len({trial.digest() for trial in trials}) == 1
    assert (
        trials[0].digest()
        != TrialConfig(data=DataConfig(store="s", protocol="p", frames=32)).digest()
    )
