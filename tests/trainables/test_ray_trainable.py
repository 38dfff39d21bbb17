import pytest
import torch

from trainables.contract.errors import UserError
from trainables.ray_trainable import _device


def test_a_cpu_trial_runs_on_the_cpu_whatever_the_machine_has(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert _device(0.0) == torch.device("cpu")


def test_a_gpu_trial_without_a_gpu_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="torch finds none on this node"):
        _device(1.0)


@pytest.mark.parametrize(("fraction", "capped"), [(0.25, [0.25]), (1.0, []), (2.0, [])])
def test_a_share_of_a_gpu_is_a_share_of_its_memory(monkeypatch, fraction, capped):
    calls = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", calls.append)
    assert _device(fraction) == torch.device("cuda")
    assert calls == capped
