"""The file that a run leaves to others: what does not fit is refused whole, and written anew."""

import copy
import hashlib
import io

import pytest
import torch
from torch import nn

from trainables.training.beginning import SharedFile, SharedStates
from trainables.training.checkpoint import Progress


@pytest.fixture
def file(tmp_path):
    return SharedFile(tmp_path / "0123456789abcdef.pt", "0123456789abcdef", 1)


def trained(seed):
    """A network after a step, its optimiser and how far it is."""
    torch.manual_seed(seed)
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return model, optimizer, Progress(history=[{"epoch": 0}], seconds=2.0)


def rewrite(file, change):
    """With a content that was changed by `change`, and its digest."""
    state = torch.load(io.BytesIO(file.path.read_bytes()[64:]), weights_only=True)
    change(state)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    content = buffer.getvalue()
    file.path.write_bytes(hashlib.sha256(content).hexdigest().encode() + content)


HARMS = {
    "damaged": lambda file: file.path.write_bytes(b"damaged"),
    "other trials": lambda file: rewrite(file, lambda state: state["of"].reverse()),
    "an unknown field": lambda file: rewrite(file, lambda s: s["progress"].update(later=1)),
    "no progress": lambda file: rewrite(file, lambda state: state.pop("progress")),
    "an unknown parameter": lambda file: rewrite(file, lambda s: s["optimizer"].update(other={})),
    "another shape": lambda file: rewrite(
        file, lambda state: state["model"].update(bias=torch.ones(3))
    ),
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_a_file_that_does_not_fit_changes_nothing_and_is_left_anew(file, harm, caplog):
    both = SharedStates(start=file, leave=(file,))
    first, second = trained(0), trained(1)
    both.save(*first)
    harm(file)
    before = copy.deepcopy(second[0].state_dict())
    momentum = [second[1].state[each]["momentum_buffer"].clone() for each in parameters_of(second)]
    assert both.load(*second[:2]) is None
    assert f"{file.path}: is not used, and is removed: " in caplog.text
    assert all(torch.equal(value, before[n]) for n, value in second[0].state_dict().items())
    for parameter, value in zip(parameters_of(second), momentum, strict=True):
        assert torch.equal(second[1].state[parameter]["momentum_buffer"], value)
    both.save(*second)
    progress = both.load(*first[:2])
    assert (progress.epoch, progress.shared_seconds) == (1, 2.0)
    assert torch.equal(first[0].weight, second[0].weight)


def parameters_of(run):
    return list(run[0].parameters())


def test_a_file_that_cannot_be_read_now_stays(file, monkeypatch, caplog):
    both = SharedStates(start=file, leave=(file,))
    run = trained(0)
    both.save(*run)

    def unread(_path):
        raise OSError("Stale file handle")

    monkeypatch.setattr(type(file.path), "read_bytes", unread)
    assert both.load(*run[:2]) is None
    assert file.path.is_file()
    assert f"{file.path}: is not used: Stale file handle" in caplog.text
