"""Tune's scheduler asks the rule of the trial's cell after every epoch."""

from types import SimpleNamespace

from ray.tune.schedulers import TrialScheduler

from orchestrator.tuning.scheduler import SweepScheduler


def test_what_tune_reports_is_judged_epoch_by_epoch():
    seen = []

    def ends(trial, epoch, metrics):
        seen.append((trial, epoch, metrics))
        return epoch == 1

    scheduler = SweepScheduler(SimpleNamespace(ends=ends), {"t1": "trial 1"}.__getitem__)

    def decide(**result):
        return scheduler.on_trial_result(None, SimpleNamespace(trial_id="t1"), result)

    assert decide(warning="no weight is left") == TrialScheduler.CONTINUE
    assert decide(epoch=0, train_loss=2.0, pid=7) == TrialScheduler.CONTINUE
    assert decide(epoch=1, train_loss=1.0) == TrialScheduler.STOP
    assert seen == [("trial 1", 0, {"train_loss": 2.0}), ("trial 1", 1, {"train_loss": 1.0})]
