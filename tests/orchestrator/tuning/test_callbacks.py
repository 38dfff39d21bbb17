"""What Tune says of trials reaches the person who runs the sweep."""

import io
from types import SimpleNamespace

from rich.console import Console

from orchestrator.trials.proposed import Proposal
from orchestrator.tuning.callbacks import SweepCallback
from orchestrator.tuning.progress import Progress
from trainables.ray_trainable import WARNING


def test_a_warning_before_the_first_epoch_is_a_line_of_its_own(tmp_path):
    shown, logged = io.StringIO(), []
    proposal = Proposal("st_gcn-1", "st_gcn", {}, {}, 0)
    searcher = SimpleNamespace(trial_of=lambda tune_id: SimpleNamespace(proposal=proposal))
    tracker = SimpleNamespace(
        log_epoch=lambda trial, epoch, metrics: logged.append((trial, epoch, metrics))
    )
    with Progress({"st_gcn": 1}, 2, Console(file=shown)) as progress:
        callback = SweepCallback(tmp_path, searcher, None, tracker, progress)
        trial = SimpleNamespace(trial_id="a")
        callback.on_trial_result(
            0, [trial], trial, {WARNING: "level 0.99 leaves no weight in blocks.0.conv"}
        )
        callback.on_trial_result(0, [trial], trial, {"epoch": 0, "train_loss": 1.0})
    assert shown.getvalue() == "warning   st_gcn-1: level 0.99 leaves no weight in blocks.0.conv\n"
    assert logged == [("st_gcn-1", 0, {"train_loss": 1.0})]
