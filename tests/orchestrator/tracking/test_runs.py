"""Runs of an experiment, by a client that stands for MLflow's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from orchestrator.tracking.runs import Runs


class Client:
    """Knows one run."""

    def __init__(self):
        self.params, self.tags = {}, {}
        self.made = False

    def search_runs(self, *args, **options):
        data = SimpleNamespace(params=dict(self.params), tags=dict(self.tags))
        run = SimpleNamespace(info=SimpleNamespace(run_id="1"), data=data)
        return type("Page", (list,), {"token": None})([run] if self.made else [])

    def create_run(self, experiment, start_time, tags, run_name):
        self.made = True
        self.tags.update(tags)
        return SimpleNamespace(info=SimpleNamespace(run_id="1"))

    def update_run(self, run, status):
        assert (run, status) == ("1", "RUNNING")

    def log_batch(self, run, metrics, params, tags):
        for param in params:
            assert param.key not in self.params, "a param cannot change"
            self.params[param.key] = param.value
        self.tags.update({tag.key: tag.value for tag in tags})


@pytest.mark.parametrize("first", [3, "{'trials_per_cell': 3}" + " " * 7000])
def test_what_a_run_was_opened_with_last_can_be_read_from_it(first):
    client = Client()
    runs, who = Runs(client, "0"), {"kind": "sweep", "mark": "abc"}
    runs.open(who, "s", {"method": first, "name": "s"})
    runs.open(who, "s", {"method": first, "name": "s"})
    assert client.tags == who
    runs.open(who, "s", {"method": 6, "name": "s", "budget": "none"})
    assert client.params == {"method": str(first)[:6000], "name": "s", "budget": "none"}
    assert client.tags == {**who, "now.method": "6"}
    runs.open(who, "s", {"method": 9, "name": "s"})
    assert client.tags == {**who, "now.method": "9"}
    runs.open(who, "s", {"method": first, "name": "s"})
    assert client.tags == {**who, "now.method": str(first)[:6000]}
