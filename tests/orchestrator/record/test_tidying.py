"""Copies that nobody needs go, and nothing goes that is not at the address."""

import json

import pytest

from orchestrator.record import copies
from orchestrator.record.copies import copy_of, fetch, refresh
from orchestrator.record.folder import find_folder, held
from orchestrator.record.tidying import tidy_copies
from orchestrator.record.working_copy import Copy
from tests.orchestrator.in_process import run_captured
from tests.orchestrator.record.at_an_address import state_of
from trainables.remote.objects import Objects

pytestmark = pytest.mark.usefixtures("quick_end", "own_cache")


def test_a_copy_goes_and_comes_again(storage, local, capsys):
    run = find_folder("small", storage)
    fetch([run / "trials"])
    there = Objects(storage).list()
    code, out, _ = run_captured(capsys, "clean", "--copies", "--dry-run")
    assert code == 0
    assert run.is_dir()
    assert out.startswith(f"{storage}/small: ")
    assert out.endswith("can go\n")
    code, out, _ = run_captured(capsys, "clean", "--copies", "--json")
    [copy] = json.loads(out)
    assert (code, copy["place"], copy["stays"]) == (0, f"{storage}/small", "")
    assert copy["size"] > 0
    assert not run.exists()
    assert tidy_copies(dry_run=False) == []
    assert Objects(storage).list() == there
    assert state_of(find_folder("small", storage)) == state_of(local)


def test_a_copy_that_a_process_works_in_stays(storage):
    run = find_folder("small", storage)
    with held(run):
        [copy] = tidy_copies(dry_run=False)
        assert copy.stays == "a process works in it"
    assert run.is_dir()
    assert not tidy_copies(dry_run=False)[0].stays


@pytest.mark.parametrize("what", ["changed", "new"])
def test_what_was_not_sent_stays(storage, what):
    run = find_folder("small", storage)
    name = {"changed": "journal.jsonl", "new": "trials/t9/result.json"}[what]
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    with (run / name).open("a") as file:
        file.write("{}\n")  # by a driver that was killed
    copies._copy.cache_clear()
    [copy] = tidy_copies(dry_run=False)
    assert copy.stays == f"{name} is not at the address"
    assert (run / name).is_file()


def test_what_was_removed_at_the_address_stays(storage):
    run = find_folder("small", storage)
    result = next(run.glob("trials/*/result.json"))
    Objects(f"{storage}/small").remove([result.relative_to(run).as_posix()])
    assert tidy_copies(dry_run=False)[0].stays.endswith("result.json is not at the address")
    assert result.is_file()


def test_a_removal_that_was_cut_off_is_ended(storage):
    run = find_folder("small", storage)
    left = run.rename(run.with_name(".small.gone"))
    assert tidy_copies(dry_run=False) == []
    assert not left.exists()


def test_another_process_finds_that_the_copy_is_gone(storage, local):
    run = find_folder("small", storage)
    other = Copy(run, f"{storage}/small")
    other.pull()
    tidy_copies(dry_run=False)
    other.pull()
    assert state_of(run) == state_of(local)
    assert copy_of(run) is not None
    refresh(run)


@pytest.mark.parametrize("more", [("small",), ("--all",), ("--storage", "x")])
def test_copies_of_all_sweeps_go_by_themselves(capsys, more):
    code, _, err = run_captured(capsys, "clean", "--copies", *more)
    assert code == 2
    assert "--copies: is of all sweeps, and takes --dry-run and --json alone" in err


def test_a_sweep_must_be_named(capsys):
    code, _, err = run_captured(capsys, "clean")
    assert code == 2
    assert "NAME: must be a sweep, or give --copies" in err
