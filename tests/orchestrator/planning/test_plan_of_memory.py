"""What trials take of memory: what cannot fit is refused, what may not fit is noted."""

from __future__ import annotations

import pytest

from orchestrator.planning.memory import ALIVE, CUDA, PROCESS
from orchestrator.planning.plan import check_fit
from orchestrator.planning.sizes import BYTES, Sizes
from orchestrator.trials.space import all_trials
from trainables.contract.errors import UserError
from trainables.data.store.reading import Store


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ("data.frames=5000", "resources: trial "),
        ("train.batch_size=30000", "resources: trial "),
        ("resources.per_trial_memory_gb=0.1", "resources.per_trial_memory_gb: trial "),
    ],
)
def test_a_trial_that_cannot_fit_into_memory_is_refused(
    planned, monkeypatch, change, place
) -> None:
    monkeypatch.setattr("orchestrator.planning.memory.machine_bytes", lambda: 700_000_000)
    check_fit(*planned())
    sweep, found = planned("model.channels=64", "data.repeat=1000", change)
    with pytest.raises(UserError, match=rf"{place}\S+ is expected to take .* GB of main memory"):
        check_fit(sweep, found)
    if "per_trial" not in change:
        check_fit(sweep, found, "head:6379")  # the cluster has other machines


def test_trials_that_fit_one_by_one_but_not_together_are_noted(planned, monkeypatch) -> None:
    monkeypatch.setattr("orchestrator.planning.memory.machine_bytes", lambda: 1_000_000_000)
    monkeypatch.setattr("orchestrator.planning.machine.present", lambda: (4, []))
    _, found = planned("resources={gpus: 0, cpus: 1, max_concurrent: 4}")
    assert [note for note in found.notes if "4 trials at a time are expected to take" in note]
    assert not any("at a time" in note for note in planned()[1].notes)


def test_a_trial_that_asks_for_more_memory_than_there_is_is_noted(planned) -> None:
    _, found = planned("resources.per_trial_memory_gb=90000")
    [note] = [note for note in found.notes if "per_trial_memory_gb" in note]
    assert "a trial does not fit on this machine, which has " in note
    assert " GB of main memory, got 90000: " in note


def test_memory_grows_with_what_a_step_keeps(planned, store) -> None:
    def network_gb(*overrides: str) -> float:
        return planned(*overrides)[1].memory.main_gb - PROCESS / 1e9

    one, two = (network_gb("data.repeat=10", f"train.batch_size={size}") for size in (64, 65))
    sweep, _ = planned()
    trial = all_trials(sweep)[0].config
    form = Sizes(Store.open(store)).count(trial).training
    assert two - one == pytest.approx(BYTES * ALIVE * form.features / 1e9, rel=1e-6)
    # on a GPU the network's part is there, and the process beside it
    sweep, found = planned("resources.gpus=1")
    assert found.memory.main_gb == pytest.approx(PROCESS / 1e9)
    assert found.memory.gpu_gb > CUDA / 1e9
