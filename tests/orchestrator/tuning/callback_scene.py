"""A listener on one trial, and everything it tells."""

import io
import json
from types import SimpleNamespace

from rich.console import Console

from orchestrator.record.journal import Journal, read_journal
from orchestrator.record.stop_requests import StopRequests
from orchestrator.sweep import Objective
from orchestrator.sweep.schema import Failure
from orchestrator.sweep.stopping import NoEarlyTermination
from orchestrator.trials.proposed import Proposal
from orchestrator.tuning.callbacks import SweepCallback
from orchestrator.tuning.early import EarlyStops
from orchestrator.tuning.progress import Display
from orchestrator.tuning.signals import StopSwitch
from tests.orchestrator.fake_run import Trial as Made
from tests.orchestrator.fake_run import result_of
from trainables.contract.disk import write_json


class Told:
    """A tracker or searcher that remembers what it is told."""

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *arguments, **named: self.calls.append((name, *arguments, *named.values()))

    def named(self, name):
        return [call[1:] for call in self.calls if call[0] == name]


class Scene:
    """A listener on one trial, and everything it tells."""

    def __init__(self, folder):
        self.proposal = Proposal("st_gcn-1", "st_gcn", {}, {}, 0)
        self.shown, self.tracker, self.searcher = io.StringIO(), Told(), Told()
        self.searcher.trial_of = lambda tune_id: SimpleNamespace(
            proposal=self.proposal, config=SimpleNamespace(total_epochs=2)
        )
        self.folder = folder
        self.context = SimpleNamespace(
            folder=folder,
            journal=Journal(folder / "journal.jsonl"),
            tracker=self.tracker,
            sweep=SimpleNamespace(
                failure=Failure(stall_seconds=60.0),
                method=SimpleNamespace(name="random"),
                objectives=(Objective(metric="selection_top1", goal="maximize"),),
            ),
        )
        self.switch = StopSwitch(StopRequests(folder))
        sweep = SimpleNamespace(early_terminate=NoEarlyTermination(), objectives=())
        self.early = EarlyStops(sweep, folder, [])
        display = Display({"st_gcn": 1}, Console(file=self.shown, width=200))
        self.retaining = Told()
        self.senders = {}  # by trial
        self.callback = SweepCallback(
            *(self.context, self.searcher, self.switch, display, self.early, self.retaining),
            self.senders.get,
        )
        self.trial = SimpleNamespace(
            trial_id="a",
            config={"source": None},
            last_result={},
            pickled_error_file=None,
            run_metadata=SimpleNamespace(num_failures=0),
        )

    def tell(self, event, *arguments):
        getattr(self.callback, f"on_trial_{event}")(0, [self.trial], self.trial, *arguments)

    def finish(self):
        write_json(
            self.proposal.folder(self.folder).result_file,
            json.loads(result_of(Made("joint", 0.0)).model_dump_json()),
        )

    def events(self):
        return [event["event"] for event in read_journal(self.context.journal.path)]

    def lines(self):
        return self.shown.getvalue().splitlines()


def told(scene):
    """What the journal holds, without the times."""
    events = read_journal(scene.context.journal.path)
    return [{name: value for name, value in event.items() if name != "time"} for event in events]
