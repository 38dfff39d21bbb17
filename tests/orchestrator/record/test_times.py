"""What a sweep notes of how long its trials took, for later plans."""

import json
import os

import pytest

from orchestrator.record.times import FILE, NEWEST, Factor, Times, earlier_times, load_times
from orchestrator.record.times import write_times as write

TIMES = Times("this machine", {"st_gcn/single/dense": Factor(3, 1.5)})


def test_what_is_written_is_read(tmp_path):
    assert load_times(tmp_path) is None
    write(tmp_path, TIMES)
    assert load_times(tmp_path) == TIMES


def test_what_earlier_versions_have_written_is_read(tmp_path):
    kinds = '{"st_gcn/single/dense": {"trials": 3, "factor": 1.5}}'
    (tmp_path / FILE).write_text(f'{{"form": 1, "machine": "this machine", "kinds": {kinds}}}')
    assert load_times(tmp_path) == TIMES


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"form": 0, "machine": "this machine", "kinds": {}}',
        '{"form": 1, "machine": "m", "kinds": []}',
        '{"form": 1, "machine": "m", "kinds": {"a": {"trials": 1}}}',
        '{"form": 1, "machine": "m", "kinds": {"a": {"trials": 1, "factor": -2}}}',
        '{"form": 1, "machine": "m", "kinds": {"a": {"trials": 1, "factor": "x"}}}',
    ],
)
def test_what_cannot_be_read_is_nothing(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    assert load_times(tmp_path) is None


def test_the_newest_sweeps_on_this_machine_count(tmp_path):
    for number in range(NEWEST + 2):
        run = tmp_path / f"sweep{number}"
        write(run, Times("this machine", {"a": Factor(1, 1.0 + number)}))
        os.utime(run / FILE, (number, number))
    write(tmp_path / "other", Times("another", {"a": Factor(1, 9.0)}))
    (tmp_path / "file").write_text("no sweep")
    found = earlier_times(tmp_path, "this machine")
    assert [times.kinds["a"].factor for times in found] == [
        1.0 + number for number in range(NEWEST + 1, 2, -1)
    ]
    assert earlier_times(tmp_path / "nowhere", "this machine") == ()


def test_the_file_names_its_form(tmp_path):
    write(tmp_path, TIMES)
    assert json.loads((tmp_path / FILE).read_text())["form"] == 1
