"""How many trials share a GPU, and how many threads each gets, by what was measured."""

import random

import pytest

from orchestrator.planning.device_shares import (
    LADDER,
    CpuShare,
    Epoch,
    GpuShare,
    cpu_share,
    gpu_share,
)


def epochs(rates: dict[int, float], peak: float = 2.0, number: int = 3) -> list[Epoch]:
    """rates: clips per second of the whole GPU, by the trials that share it."""
    return [Epoch(n, rate / n, peak) for n, rate in rates.items() for _ in range(number)]


GROWS = {1: 100.0, 2: 190.0, 3: 270.0, 4: 340.0, 6: 450.0, 8: 500.0}


@pytest.mark.parametrize(
    ("rates", "together", "settled"),
    [
        ({}, 1, False),
        ({1: 100.0}, 2, False),  # one alone is measured: two are tried
        ({1: 100.0, 2: 190.0}, 3, False),
        ({1: 100.0, 2: 103.0}, 1, True),  # the first fills the GPU
        ({1: 100.0, 2: 60.0}, 1, True),  # two disturb each other
        ({1: 100.0, 2: 190.0, 3: 195.0}, 2, True),
        ({1: 100.0, 2: 190.0, 3: 150.0, 4: 900.0}, 2, True),  # where it falls it is not climbed
        ({2: 190.0}, 1, False),  # nothing to compare with
        (GROWS, 8, True),
    ],
)
def test_trials_are_added_while_throughput_grows(rates, together, settled):
    found = gpu_share(epochs(rates), memory_gb=141.0)
    assert (found.together, found.settled) == (together, settled)


@pytest.mark.parametrize(
    ("memory_gb", "together"),
    [(3.0, 1), (4.0, 1), (4.5, 2), (8.0, 3), (9.0, 4), (11.0, 4), (13.4, 6), (80.0, 8)],
)
def test_memory_is_never_exceeded(memory_gb, together):
    found = gpu_share(epochs(GROWS, peak=2.0), memory_gb)
    assert found.together == together
    assert found.settled
    assert found.together * 2.0 <= memory_gb


def test_the_largest_trial_of_a_kind_counts():
    measured = [*epochs(GROWS, peak=2.0), Epoch(1, 100.0, 30.0)]
    assert gpu_share(measured, memory_gb=70.0).together == 2


def test_memory_that_is_not_known_is_not_shared():
    assert gpu_share(epochs(GROWS, peak=0.0), memory_gb=80.0) == GpuShare(
        1, True, "alone: it takes 0 GB of the GPU's 80, two do not fit"
    )
    assert gpu_share(epochs(GROWS), memory_gb=0.0).together == 1


def test_two_epochs_are_enough():
    assert gpu_share(epochs({1: 100.0}, number=2), 80.0).together == 2


def test_one_epoch_proves_nothing():
    assert gpu_share(epochs({1: 100.0}, number=1), 80.0) == GpuShare(
        1, False, "alone until 2 of its epochs are measured"
    )
    measured = [*epochs({1: 100.0, 2: 190.0}), Epoch(3, 500.0, 2.0)]
    assert gpu_share(measured, 80.0).together == 3
    assert not gpu_share(measured, 80.0).settled
    broken = [*epochs({1: 100.0}), Epoch(2, 0.0, 2.0), Epoch(0, 9.0, 2.0)]
    assert gpu_share(broken, 80.0).together == 2


def test_noise_does_not_pack():
    """A GPU that one trial fills, and a clock that is 3 % off: packed in none of 200 sweeps."""
    for seed in range(200):
        rng = random.Random(seed)
        measured = [
            Epoch(n, 100.0 / n * rng.gauss(1.0, 0.015), 2.0) for n in LADDER for _ in range(5)
        ]
        assert gpu_share(measured, 141.0).together == 1


def test_fewer_trials_than_would_fit_are_not_spread_thinner():
    assert gpu_share(epochs(GROWS), 141.0, most=1).together == 1
    assert gpu_share(epochs(GROWS), 141.0, most=3).together == 3


def test_figures_stand_in_the_reason():
    assert gpu_share(epochs({1: 1000.0, 2: 1900.0, 3: 1910.0}), 80.0).reason == (
        "2 at a time do 1,900 clips/s, 3 at a time do 1,910 clips/s"
    )
    assert gpu_share(epochs({1: 1000.0}), 80.0).reason == ("1 at a time do 1,000 clips/s; tries 2")
    assert gpu_share(epochs(GROWS), 9.0).reason.endswith("no more than 4 fit into 9 GB")
    assert gpu_share(epochs(GROWS), 99.0).reason.endswith("no more than 8 are tried")


@pytest.mark.parametrize("together", LADDER)
def test_so_many_fractions_fit_on_a_gpu_and_no_more(together):
    fraction = GpuShare(together, True, "").fraction
    assert together * fraction <= 1.0 < (together + 1) * fraction


@pytest.mark.parametrize(
    ("trials", "cores", "speeds", "threads"),
    [
        (8, 8, {}, 1),
        (100, 8, {}, 1),
        (1, 1, {}, 1),
        (1, 8, {}, 8),  # few trials on many cores get more threads
        (2, 8, {}, 4),
        (3, 8, {}, 2),
        (1, 64, {}, 16),
        (1, 8, {1: 100.0, 8: 90.0}, 4),  # eight were worse than one, four may not be
        (1, 2, {1: 100.0, 2: 80.0}, 1),  # a narrow network: threads do not help
        (1, 2, {1: 100.0, 2: 180.0}, 2),
        (4, 16, {1: 100.0, 2: 90.0, 3: 80.0, 4: 70.0}, 1),
        (1, 2, {1: 100.0, 2: 100.0}, 1),  # of equal ones the smallest
        (1, 8, {1: 0.0}, 8),  # broken: nothing is known
        (1, 4, {2: 100.0, 4: 0.0}, 4),
        (2, 3, {}, 1),  # both at once beat one after the other
    ],
)
def test_few_trials_get_more_threads_where_that_ends_them_sooner(trials, cores, speeds, threads):
    assert cpu_share(trials, cores, speeds).threads == threads


def test_why_a_trial_gets_its_threads():
    assert cpu_share(9, 8, {}) == CpuShare(1, "9 trials for 8 cores: one each wastes least")
    assert cpu_share(1, 2, {1: 1500.0, 2: 900.0}).reason == (
        "1 trials for 2 cores; measured with threads 1: 1,500 clips/s, 2: 900 clips/s"
    )
