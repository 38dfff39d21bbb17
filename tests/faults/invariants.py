"""What a sweep promises, checked while it runs, after every death of its driver, and at its end."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from orchestrator.record.choice import allowed, by_assignment, order
from orchestrator.record.epochs import EpochLog
from orchestrator.record.journal import Journal, read_journal
from orchestrator.record.past import load_past
from orchestrator.record.proposals import load_proposals
from orchestrator.record.resolved import load_resolved
from orchestrator.record.running import load_running
from orchestrator.record.states import TrialState, load_trials
from orchestrator.record.warm_start import warm_up
from orchestrator.record.working_copy import is_stub
from orchestrator.search.making import asked_searches, asks
from orchestrator.search.turns import Turns
from orchestrator.sweep import Sweep
from orchestrator.sweep.stopping import NoEarlyTermination
from orchestrator.tracking import records
from orchestrator.trials.dense import cells_behind
from orchestrator.trials.space import all_trials, cells_of, key_of
from orchestrator.tuning.early import EarlyStops
from orchestrator.tuning.sweep_run import known_trials
from orchestrator.tuning.workers import DIED
from tests.faults.store import Run, Server

REASONS = (
    *("train_loss must be finite", "the worker met something that may pass", DIED),
    *("no dense trial to start from has a result", "Input/output error", "it stalled"),
)
"""Why a trial may fail here: anything else is a mistake, and would pass for an ending."""


class Facts:
    """What happened to one sweep, over all lives of its driver."""

    def __init__(self, sweep: Sweep, run: Path, server: Server) -> None:
        self.sweep, self.run, self.server = sweep, run, server
        # of the driver that lives, or lived last
        self.early: EarlyStops | None = None
        self.turns: Turns | None = None
        self.results: dict[str, bytes] = {}  # trial -> its result file as it was first written
        self.trained: set[str] = set()
        self.promised: list[tuple[str, str | None]] = []  # events whose writing returned
        self.over: set[str] = set()  # trials that may not be started any more
        self.ended: set[str] = set()  # trials whose end the journal tells
        self.taken_back = 0  # starts, while the server was not always there
        self.started_after_the_end = False
        self.complete_once = False  # it may be extended since
        self._before = 0  # promises of earlier drivers
        self._extends = False

    @property
    def has_begun(self) -> bool:
        """A trial was started: what the sweep has written down is not taken back any more."""
        return any(event == "trial_started" for event, _ in self.promised)

    # while the sweep runs

    def placed(self, path: str) -> None:
        """A file was put in place."""
        file = Path(path)
        if file.name == "result.json":
            trial = file.parent.name
            assert trial not in self.results, f"{trial} was finished twice"
            self.results[trial] = file.read_bytes()

    def starts(self, trial: str) -> None:
        """A worker is given a trial."""
        assert not self.started_after_the_end, f"{trial} starts in a sweep that is complete"
        assert trial not in self.over, f"{trial} starts although it has ended"

    def trains(self, trial: str) -> None:
        """A worker trains."""
        assert trial not in self.results, f"{trial} is trained although it has a result"
        self.trained.add(trial)

    def noting(self, append_all: Callable[..., None]) -> Callable[..., None]:
        """The journal's method; what was written when it returns must stay."""

        @wraps(append_all)
        def noted(journal: Any, event: str, entries: Any) -> None:
            entries = list(entries)
            append_all(journal, event, entries)
            for fields in entries:
                self._promise(event, fields.get("trial"))

        return noted

    def _promise(self, event: str, trial: str | None) -> None:
        self.promised.append((event, trial))
        if trial is None:
            return
        if event in ("trial_finished", "trial_pruned", "trial_discarded"):
            assert trial not in self.ended, f"{trial} ends again: {event}"
            self.ended.add(trial)
        if event in ("trial_finished", "trial_failed", "trial_pruned", "trial_discarded"):
            self.over.add(trial)
        if event == "trial_retried":
            self.over.discard(trial)

    def look(self) -> None:
        """What `status` reads can be read at every moment."""
        if (self.run / "resolved.json").is_file():
            load_trials(self.run)
            load_running(self.run)

    # between two lives

    def driver_starts(self, *, extends: bool = False) -> None:
        """Nothing that the files said has ended, when the one before ended, is started again."""
        self.early = self.turns = None
        self._before, self._extends = len(self.promised), extends

    def driver_ended(self, *, died: bool) -> None:
        """died: perhaps within a line."""
        if not (self.run / "resolved.json").is_file():
            self._undone()
        own = {event for event, _ in self.promised[self._before :]}
        if (self._extends or "sweep_extended" in own) and "trial_started" not in own:
            # a driver that fails before its first trial takes back that the sweep was extended
            del self.promised[self._before :]
            self.early = self.turns = None
        self._check_journal()
        for trial, content in self.results.items():
            assert self._result(trial) == content, f"the result of {trial} is another one"
        if not (self.run / "resolved.json").is_file():
            return
        states, rebuilt = self.states(), self._rebuilt()
        self.over = self.ended | {state.proposal.trial for state in states if state.ended}
        self.over |= rebuilt.pruned.keys()
        self._check_searches(states, died=died)
        if self.early is None:
            return
        assert self.early.pruned.items() <= rebuilt.pruned.items(), "a decision is lost"
        live, again = judged(self.early), judged(rebuilt)
        lost = [name for name, epochs in live.items() if epochs > again.get(name, 0)]
        assert not lost, f"judged by what is not written down: {lost}"
        if not died:
            assert (self.early.pruned, live) == (rebuilt.pruned, again), "the files differ"

    def _undone(self) -> None:
        """A start that failed before its first trial was taken back, with all that it wrote."""
        started = [trial for event, trial in self.promised if event == "trial_started"]
        assert not started, f"the sweep is gone, though {started} were started"
        self.promised.clear()

    def _check_searches(self, known: tuple[TrialState, ...], *, died: bool) -> None:
        """Each search is what the files make of it, with what it was told so far."""
        if self.turns is None or not asks(self.sweep):
            return
        recorded = load_proposals(self.run)
        trials, _, _ = known_trials(self.sweep, recorded)
        states = {state.proposal.trial: state for state in known}
        past = load_past(self.run, self.sweep, trials, states)
        cells = [cell for cell, _ in cells_of(self.sweep, recorded)]
        # the sweeps it learned from may be gone: nothing is left to be written down
        earlier = warm_up(self.sweep, self.run, Journal(Path("nowhere")))
        assert not self.sweep.method.warm_start or earlier, "what others had learned is lost"
        for cell, search in asked_searches(self.sweep, cells, trials, past, earlier).items():
            live, again = learned(self.turns._cells[cell]), learned(search)
            assert learned_elsewhere(self.turns._cells[cell]) == learned_elsewhere(search), cell
            # the last may not be written down: then it did not start, and nor did any after it
            assert len(again) <= len(live) <= len(again) + 1, f"{cell}: {live}, rebuilt {again}"
            for here, there in zip(live, again, strict=False):
                assert here[0] == there[0], f"{cell}: {here[0]}, rebuilt {there[0]}"
                if not (died or here[1] is None):
                    assert here == there, f"{cell}: was told {here}, rebuilt {there}"

    def _check_journal(self) -> None:
        """Every event whose writing returned is there, in its order."""
        found = iter([(event["event"], event.get("trial")) for event in self.events()])
        for promise in self.promised:
            assert promise in found, f"{promise} is lost"

    def events(self) -> list[dict[str, Any]]:
        return read_journal(self.run / "journal.jsonl")

    def states(self) -> tuple[TrialState, ...]:
        return load_trials(self.run)

    def _rebuilt(self) -> EarlyStops:
        planned = all_trials(self.sweep, load_proposals(self.run))
        return EarlyStops(self.sweep, self.run, planned, behind=cells_behind(planned))

    def _result(self, trial: str) -> bytes:
        file = self.run / "trials" / trial / "result.json"
        assert file.is_file(), f"the result of {trial} is lost"
        return file.read_bytes()

    # at the end

    def complete(self, outcome: Any) -> None:
        """Everything that was promised of a complete sweep."""
        assert not any("MLflow lacks" in text for text in outcome.messages), outcome.messages
        states, log = self.states(), list(EpochLog(self.run).load())
        for state in states:
            self._check_end(
                state, [epoch for name, epoch, _ in log if name == state.proposal.trial]
            )
        wanted = Counter(trial.proposal.cell for trial in all_trials(self.sweep))
        if self.sweep.method.final_seeds == 1:
            assert Counter(state.proposal.cell for state in states) == wanted, "trials are missing"
        else:
            for cell in wanted:
                self._check_repeats([state for state in states if state.proposal.cell == cell])
        self._check_checkpoints(states)
        for cell in wanted:
            served = [state for state in states if state.proposal.cell == cell]
            assert any(
                state.proposal.trial in self.trained or state.ending == "failed" for state in served
            ), f"{cell} was not served"
        assert not (self.run / "shared").exists(), "shared beginnings are left"
        self._check_endings_are_told_once()
        self._check_tracker(states, "FAILED" if outcome.exit_code else "FINISHED")

    def _check_repeats(self, states: list[TrialState]) -> None:
        """Of one cell: all its trials with the first seed, and all repeats of the best of them,
        none of which a rule has stopped.
        """
        sweep, seeds = self.sweep, Counter[str]()
        firsts = [state for state in states if state.proposal.seed == sweep.seed]
        assert len(firsts) == sweep.method.trials_per_cell, "trials are missing"
        for state in states:
            seeds[key_of(state.proposal.assignment)] += 1
            assert state in firsts or state.ending != "pruned", f"{state}: a repeat was stopped"
        finished = [(state.proposal, state.result) for state in firsts if state.result]
        if finished:
            best = min(finished, key=lambda each: order([each], sweep))[0]
            repeated = seeds[key_of(best.assignment)]
            assert repeated == sweep.method.final_seeds, f"{best.trial} was run {repeated} times"

    def _check_checkpoints(self, states: tuple[TrialState, ...]) -> None:
        """The best of each cell has its checkpoint, and under `best_per_cell` hardly another."""
        kept = [
            state.proposal.trial
            for state in states
            if state.proposal.folder(self.run).checkpoint_file.is_file()
        ]
        for cell in {state.proposal.cell for state in states}:
            own = [state for state in states if state.proposal.cell == cell]
            finished = [(state.proposal, state.result) for state in own if state.result]
            best = min(
                allowed(by_assignment(finished), self.sweep),
                key=lambda each: order(each, self.sweep),
                default=None,
            )
            if best is not None:
                assert best[0][0].trial in kept, f"the checkpoint of {best[0][0].trial} is gone"
            if self.sweep.retain.checkpoints == "best_per_cell":
                spare = {state.proposal.trial for state in own if state.ending == "failed"}
                more = set(kept) & {state.proposal.trial for state in own} - spare
                # the best first seed stays where it may be repeated once more
                assert len(more) <= 2, f"{more} of {cell} keep their checkpoints"

    def _check_end(self, state: TrialState, known: list[int]) -> None:
        """known: epochs after which it was judged."""
        trial = state.proposal.trial
        assert state.ended, f"{trial} has no ending"
        assert (state.ending == "finished") == (trial in self.results), state
        assert state.failure is None or any(each in state.failure for each in REASONS), state
        if not isinstance(self.sweep.early_terminate, NoEarlyTermination):
            epochs = state.result.epochs if state.result is not None else state.stopped_at or 0
            if state.ending != "failed":
                self._check_judged(trial, known, epochs)

    def _check_judged(self, trial: str, known: list[int], epochs: int) -> None:
        assert known == list(range(epochs)), f"{trial}: judged after {known} of {epochs}"

    def _check_endings_are_told_once(self) -> None:
        ends = ("trial_finished", "trial_pruned", "trial_discarded")
        told = Counter(
            (event["event"], event["trial"]) for event in self.events() if event["event"] in ends
        )
        assert all(count == 1 for count in told.values()), told

    def _check_tracker(self, states: tuple[TrialState, ...], status: str) -> None:
        mark = load_resolved(self.run)["mark"]
        parents = [run for run in self.server.runs.values() if run.tags["kind"] == "sweep"]
        [parent] = [run for run in parents if run.tags["mark"] == mark]
        assert parent.status == status, parent.status
        # a server that was away when a start was taken back could not be told
        assert len(parents) <= 1 + self.taken_back, f"the sweep has {len(parents)} runs"
        runs: dict[str, list[Run]] = {}
        for run in self.server.runs.values():
            if run.tags["kind"] == "trial":
                assert run.tags["mlflow.parentRunId"] == parent.id, "a trial of no sweep"
                runs.setdefault(run.tags["trial"], []).append(run)
        for state in states:
            if state.ending != "discarded":
                self._check_run(state, runs.pop(state.proposal.trial, []))
        assert not runs, "runs of no trial"

    def _check_run(self, state: TrialState, runs: list[Run]) -> None:
        trial = state.proposal.trial
        assert len(runs) == 1, f"{trial} has {len(runs)} runs"
        run = runs[0]
        status = {"finished": "FINISHED", "failed": "FAILED", "pruned": "KILLED"}
        assert run.status == status[str(state.ending)], f"{trial}: {state.ending}, {run.status}"
        twice = {at: count for at, count in run.steps().items() if count > 1}
        assert not twice, f"{trial}: steps that are there twice: {twice}"
        if state.ending == "finished":
            self._check_files(state, run)
        if state.ending != "failed":
            curve = records.load_curve(state.proposal.folder(self.run).metrics_file)
            known = sorted(step for key, step in run.steps() if key == "train_loss")
            self._check_curve(state, known, [epoch + 1 for epoch in curve["epoch"]])

    def _check_files(self, state: TrialState, run: Run) -> None:
        """What a finished trial leaves is in its run, and nothing else is there in its place."""
        files = records.artifacts_of(state.proposal.folder(self.run), finished=True)
        lacks = files.keys() - run.contents.keys()
        assert not lacks, f"{state.proposal.trial}: {lacks} are not in its run"
        for name, file in files.items():
            if not is_stub(file):
                same = run.contents[name] == zlib.crc32(file.read_bytes())
                assert same, f"{state.proposal.trial}: {name} is another one in its run"

    def _check_curve(self, state: TrialState, known: list[int], steps: list[int]) -> None:
        assert known == steps, f"{state.proposal.trial}: steps {known}"


def learned(search: Any) -> list[tuple[Any, ...]]:
    """(a trial, how it ended, as Optuna knows it) of every assignment that the search proposed, in
    their order; None where it has not ended, or the search does not learn.
    """
    study = getattr(search._proposer, "cell_study", None)
    found = []
    for name, trial in search._firsts.items():
        outcome = search._outcomes.get(name)
        if outcome is None:
            found.append((name, None, None))
            continue
        told = outcome.ending, outcome.epochs, outcome.values
        key = key_of(trial.proposal.assignment)
        found.append((name, told, None if study is None else in_study(study, key)))
    return found


def learned_elsewhere(search: Any) -> list[tuple[Any, ...]]:
    """Every assignment of other sweeps, as Optuna knows it."""
    study = getattr(search._proposer, "cell_study", None)
    return [] if study is None else [(key, in_study(study, key)) for key in sorted(search._learned)]


def in_study(study: Any, key: str) -> tuple[Any, ...]:
    """The trial of an assignment."""
    frozen = study._storage.get_trial(study._ids[key])
    said = frozen.params, frozen.state, frozen.values
    return *said, frozen.intermediate_values, frozen.constraints


def judged(early: EarlyStops) -> dict[str, int]:
    """How many epochs of each trial were judged."""
    return {} if early._judge is None else early._judge._epochs
