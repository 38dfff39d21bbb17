import fcntl
from pathlib import Path

import pytest

from orchestrator.record.folder import (
    find_folder,
    folder_of,
    held,
    journal_of_run,
    list_folders,
    load_folder,
    opened,
    prepare,
)
from orchestrator.record.proposals import load_proposals
from orchestrator.sweep import parse_sweep
from orchestrator.trials.space import all_trials
from tests.orchestrator.recorded import recorded
from trainables.contract.errors import UserError

TEXT = """
version: 1
name: small
data: {store: nowhere, protocol: xsub}
parameters:
  sparsity.level: [0.0, 0.6]
train: {epochs: 3}
"""


def sweep_of(text=TEXT, *overrides):
    return parse_sweep("small.yaml", text, overrides)


def prepared(sweep):
    found = prepare(sweep, folder_of(sweep))
    recorded(sweep)
    return found


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_folder_holds_the_file_its_expansion_and_the_trials():
    sweep = sweep_of()
    first = prepared(sweep)
    run = folder_of(sweep)
    assert not first.resumed
    assert (run / "sweep.yaml").read_text() == TEXT
    assert [trial.proposal for trial in all_trials(sweep)] == list(load_proposals(run))
    assert load_folder(run).digest() == sweep.digest()
    second = prepared(sweep)
    assert second.resumed
    assert second.mark == first.mark


def test_what_decides_the_trials_may_not_change_under_a_name():
    prepared(sweep_of())
    before = (folder_of(sweep_of()) / "resolved.json").read_bytes()
    with pytest.raises(UserError, match=r"train\.epochs: was 3, is now 4") as caught:
        prepared(sweep_of(TEXT.replace("epochs: 3", "epochs: 4, lr: 0.2")))
    assert "train.lr: was 0.1, is now 0.2" in str(caught.value)
    assert (folder_of(sweep_of()) / "resolved.json").read_bytes() == before


def test_where_joints_are_kept_may_change():
    prepared(sweep_of())
    moved = sweep_of(TEXT.replace("protocol: xsub", "protocol: xsub, residence: host"))
    assert prepared(moved).resumed
    assert load_folder(folder_of(moved)).data.residence == "host"
    assert [trial.proposal for trial in all_trials(moved)] == [
        trial.proposal for trial in all_trials(sweep_of())
    ]


def test_how_a_step_is_computed_may_change():
    prepared(sweep_of())
    plain = sweep_of(TEXT.replace("epochs: 3", "epochs: 3, fast: off, sparse_kernels: off"))
    assert prepared(plain).resumed
    assert load_folder(folder_of(plain)).train.fast == "off"
    assert load_folder(folder_of(plain)).train.sparse_kernels == "off"


@pytest.mark.parametrize(
    "line",
    [
        "budget: {hours: 9}",
        "resources: {cpus: 2}",
        "tracking: {uri: none}",
        "failure: {max_restarts: 0}",
    ],
)
def test_how_a_sweep_is_run_may_change(line):
    prepared(sweep_of())
    assert prepared(sweep_of(f"{TEXT}{line}\n")).resumed


def test_a_sweep_is_found_by_name_and_by_path_and_a_wrong_name_lists_them():
    prepared(sweep_of())
    assert find_folder("small") == Path("runs/small")
    assert find_folder("runs/small") == Path("runs/small")
    with pytest.raises(UserError, match="there are small"):
        find_folder("large")


def test_a_storage_folder_that_is_closed_is_not_an_empty_one(monkeypatch):
    assert list_folders("absent") == []
    prepared(sweep_of())
    assert list_folders() == [Path("runs/small")]

    def closed(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", closed)
    with pytest.raises(UserError, match="runs: must be a folder that can be read: Permission"):
        list_folders()


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_resume_that_is_refused_changes_nothing(goes_on):
    prepared(sweep_of())
    run = folder_of(sweep_of())
    changed = sweep_of(f"{TEXT}tracking: {{uri: 'http://127.0.0.1:9'}}\n")

    def begin(opening):
        prepare(changed, run)
        journal_of_run(run).append("sweep_resumed")
        if goes_on:
            opening.begin()
        raise UserError("nobody answers")

    with pytest.raises(UserError, match="nobody answers"), opened(run) as opening:
        begin(opening)
    assert (load_folder(run).tracking.uri == "http://127.0.0.1:9") == goes_on
    assert ((run / "sweep.yaml").read_text() == TEXT) != goes_on


def test_one_driver_at_a_time():
    run = folder_of(sweep_of())
    with held(run), pytest.raises(UserError, match="is being run by process"), held(run):
        pass
    with held(run), (run / ".lock").open("w") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with held(run):
        pass  # the first hold has ended


def test_a_sweep_whose_backbones_have_defaults_of_their_own_has_a_digest():
    text = TEXT + "model: {layout: ntu25}\n"
    both = text.replace("parameters:", "parameters:\n  model.backbone: [st_gcn, hpi_gcn_rp]")
    assert sweep_of(both).digest() != sweep_of(text).digest()


@pytest.mark.parametrize("content", ["[]", "{}", '{"sweep": []}'])
def test_a_record_without_a_sweep_is_one_error(content):
    run = folder_of(sweep_of())
    with pytest.raises(UserError, match=r"is not the folder of a sweep, resolved\.json is missing"):
        load_folder(run)
    run.mkdir(parents=True)
    (run / "resolved.json").write_text(content)
    with pytest.raises(UserError, match=r"resolved\.json: must be a record with the sweep"):
        load_folder(run)
