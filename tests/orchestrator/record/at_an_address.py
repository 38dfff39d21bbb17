"""A sweep at an address: how it gets there and back, and how another machine comes to it."""

from orchestrator.record import copies
from orchestrator.record.states import load_trials
from trainables.remote.objects import Objects


def upload(folder, address):
    """As `aws s3 cp --recursive` does."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    Objects(address).store({path.relative_to(folder).as_posix(): path for path in files})


def download(address, folder):
    objects = Objects(address)
    objects.fetch({name: folder / name for name in objects.list()})


def new_machine(monkeypatch, tmp_path, name="other"):
    monkeypatch.setenv("ORCHESTRATE_CACHE", str(tmp_path / name))
    copies._copy.cache_clear()
    copies.refresh_once.cache_clear()


def state_of(run):
    return [(state.proposal.trial, state.ending, state.result) for state in load_trials(run)]
