"""What a trial left behind is read as it was written; what cannot be read is said."""

import json

import pytest

from tests.orchestrator.fake_run import Trial, result_of
from trainables.contract.artifacts import FORM, TrialDir
from trainables.contract.disk import read_json, write_atomic, write_json
from trainables.contract.errors import LaterForm, UserError


@pytest.fixture
def folder(tmp_path):
    folder = TrialDir(tmp_path)
    result = result_of(Trial("joint", 0.0))
    write_atomic(folder.result_file, result.model_dump_json().encode())
    return folder


def test_a_result_is_read_as_it_was_written(folder):
    assert folder.load() == folder.load_if_complete()
    assert folder.load().form == FORM
    assert "form" not in folder.load().metrics()


def test_a_result_without_a_form_is_one_of_version_0_2(folder):
    content = read_json(folder.result_file)
    del content["form"]
    write_json(folder.result_file, content)
    assert folder.load().form == 1
    assert folder.is_complete()


@pytest.mark.parametrize("keep", [0, 1, 200])
def test_a_truncated_result_is_none(folder, keep):
    folder.result_file.write_bytes(folder.result_file.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"result\.json: is damaged"):
        folder.load()
    assert not folder.is_complete()


def test_a_result_that_lacks_a_number_is_damaged_and_says_which(folder):
    content = read_json(folder.result_file)
    del content["cost"]["params"]
    write_json(folder.result_file, content)
    with pytest.raises(UserError, match=r"result\.json: is damaged, cost\.params: Field required"):
        folder.load()


@pytest.mark.parametrize("content", ["[1]", "null", '"form"', "1" * 5000, f"[{'1' * 5000}]"])
def test_a_result_that_is_no_record_says_so_in_words(folder, content):
    folder.result_file.write_text(content)
    with pytest.raises(UserError, match=r"result\.json: is damaged, it .*[a-z]$") as caught:
        folder.load()
    assert "set_int_max_str_digits" not in str(caught.value)
    assert not folder.is_complete()


def test_a_result_of_a_later_version_is_not_taken_for_a_damaged_one(folder):
    content = read_json(folder.result_file)
    write_json(folder.result_file, content | {"form": FORM + 1, "invented": 1})
    with pytest.raises(LaterForm, match=rf"must be of a form up to {FORM}, got {FORM + 1}"):
        folder.is_complete()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"reason": "loss is nan"}'])
def test_a_failure_counts_whatever_its_file_holds(tmp_path, content):
    folder = TrialDir(tmp_path)
    folder.failure_file.write_text(content)
    reason = folder.load_failure()
    assert reason is not None
    assert ("is damaged" in reason) != ("nan" in content)
    assert json.dumps(reason)
