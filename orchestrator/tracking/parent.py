"""The run of a sweep itself, parent of those of its trials. Every call waits for the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from orchestrator.tracking.client import Answers, experiment_id, is_away, load_mlflow, open_client
from orchestrator.tracking.pages import (
    EXPERIMENT_NOTE,
    KIND,
    NOTE,
    VIEW,
    WRITTEN,
    digest_of_note,
    is_ours,
    sweep_note,
    view,
)
from orchestrator.tracking.runs import Runs


class Parent:
    """One sweep's run in the experiment of that name; `client`, `runs` and `id` are there once it
    is open.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        name: str,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        answered: Callable[[], None],
    ) -> None:
        """answered: called after every call that the store answers."""
        self._uri = uri
        self._experiment = experiment
        self.name = name
        self._params = params
        self._identity = {**tags, "kind": "sweep", "sweep": name}
        self._answered = answered
        self.client: Any = None
        self.runs: Runs
        self.id = ""
        self._looked = False
        self.before: str | None = None  # status that the run had; None: it is new

    def open(self) -> None:
        """Open it; after an attempt that failed again, which leaves no second one."""
        bare = open_client(self._uri)
        experiment = experiment_id(bare, self._uri, self._experiment)
        self.client = Answers(bare, self._answered)
        self.runs = Runs(self.client, experiment)
        if not self._looked:
            known = self.runs.find(self._identity)
            self.before = known[0].info.status if known else None
            self._looked = True
        self.id = self.runs.open(self._identity, self.name, self._params)

    def answers(self) -> bool:
        """Whether the store answers the cheapest question there is."""
        try:
            if self.client is None:
                open_client(self._uri).search_experiments(max_results=1)
            else:
                self.client.get_experiment(self.runs.experiment)
        except Exception:
            return False
        return True

    def show(self) -> None:
        """Keep what the pages need to show the sweep; descriptions that people wrote stay."""
        tags = self.client.get_experiment(self.runs.experiment).tags
        wanted = dict([KIND, view(self.id)])
        if NOTE not in tags:
            wanted[NOTE] = EXPERIMENT_NOTE
        for tag, value in wanted.items():
            if tags.get(tag) != value:
                self._tag(tag, value)
        self.describe()

    def _tag(self, tag: str, value: str) -> None:
        """Tag the experiment; again where another sweep made the same tag at the same moment, which
        a database refuses.
        """
        try:
            self.client.set_experiment_tag(self.runs.experiment, tag, value)
        except load_mlflow() as error:
            if is_away(error):
                raise
            self.client.set_experiment_tag(self.runs.experiment, tag, value)

    def describe(self, ended: str = "") -> None:
        """Say on the run where its pages are; ended: what its end says instead."""
        tags = self.client.get_run(self.id).data.tags
        known = tags.get(NOTE, "")
        if is_ours(known, tags) and (ended or not known):
            text = ended or sweep_note(self.name, self.runs.experiment, self.id)
            self.runs.write(self.id, tags={NOTE: text, WRITTEN: digest_of_note(text)})

    def take_back(self) -> None:
        """Of a sweep that cannot start nothing stays, as far as the store still answers."""
        if self._looked and self.before is None:
            with suppress(Exception):
                for run in self.runs.find(self._identity):
                    self.client.delete_run(run.info.run_id)

    def undo(self) -> None:
        """The sweep was refused after it was opened: it is as it was."""
        if self.before is None:
            self.client.delete_run(self.id)
            self.client.delete_experiment_tag(self.runs.experiment, f"{VIEW}{self.id}")
        else:
            ended = "KILLED" if self.before == "RUNNING" else self.before
            self.client.set_terminated(self.id, ended)
