"""Tune's scheduler asks the rule of the trial's cell after every epoch."""

from types import SimpleNamespace

from ray.tune.schedulers import TrialScheduler

from orchestrator.tuning.scheduler import SweepScheduler


class AfterEpochs:
    def __init__(self, epochs):
        self.epochs = epochs
        self.seen = []

    def ends(self, trial, epoch, metrics):
        self.seen.append((trial, epoch, dict(metrics)))
        return epoch + 1 >= self.epochs


def test_each_cell_has_a_rule_of_its_own():
    rules = {"a": AfterEpochs(2), "b": AfterEpochs(9)}
    proposals = {f"t{cell}": SimpleNamespace(cell=cell, trial=f"{cell}-1") for cell in ("a", "b")}
    scheduler = SweepScheduler(rules, proposals.__getitem__)

    def decide(cell, **result):
        return scheduler.on_trial_result(None, SimpleNamespace(trial_id=f"t{cell}"), result)

    assert decide("a", warning="no weight is left") == TrialScheduler.CONTINUE
    assert decide("a", epoch=0, train_loss=2.0, pid=7) == TrialScheduler.CONTINUE
    assert decide("b", epoch=1, train_loss=2.0) == TrialScheduler.CONTINUE
    assert decide("a", epoch=1, train_loss=1.0) == TrialScheduler.STOP
    assert scheduler.pruned == {"a-1": 2}
    assert rules["a"].seen == [("a-1", 0, {"train_loss": 2.0}), ("a-1", 1, {"train_loss": 1.0})]
