"""Any process may ask a sweep to end; what was asked of an earlier run is forgotten."""

import pytest

from orchestrator.record.stop_requests import Stop, StopRequests

ENOUGH = Stop("person", "enough")
OVER = Stop("budget", "the budget is spent")


def test_nothing_is_asked_at_first(tmp_path):
    requests = StopRequests(tmp_path)
    assert not requests.closed()
    assert requests.stop() is None
    requests.clear()  # with nothing to forget


@pytest.mark.parametrize("verb", ["drain", "cancel"])
def test_a_request_stands_for_every_process_until_it_is_cleared(tmp_path, verb):
    getattr(StopRequests(tmp_path), verb)(ENOUGH)
    requests = StopRequests(tmp_path)
    assert requests.closed()
    assert requests.stop() == ENOUGH
    assert requests.cancel_file.exists() == (verb == "cancel")
    requests.clear()
    assert not requests.closed()
    assert requests.stop() is None


def test_of_both_the_one_that_ends_sooner_is_told(tmp_path):
    requests = StopRequests(tmp_path)
    requests.drain(ENOUGH)
    requests.cancel(OVER)
    assert requests.stop() == OVER


@pytest.mark.parametrize("content", ["", "{", "[]", '{"by": "person"}'])
def test_a_request_stands_whatever_its_file_holds(tmp_path, content):
    (tmp_path / "drain").write_text(content)
    assert StopRequests(tmp_path).stop() == Stop("person", "the file drain was found")
