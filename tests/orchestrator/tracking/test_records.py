from orchestrator.ensembling.collect import collect
from orchestrator.ensembling.final import finalize
from orchestrator.tracking.records import ensemble_metrics, network_metrics
from tests.orchestrator.fake_run import Trial, make_run, make_sweep


def test_networks_and_ensembles_say_how_sure_they_are(tmp_path):
    trials = [
        Trial(stream, 0.0, lr=lr, wrong_selection=(number, 5), wrong_test=(number,))
        for number, (stream, lr) in enumerate([("joint", 0.1), ("joint", 0.2), ("bone", 0.1)])
    ]
    sweep = make_sweep({"name": "streams", "over": "data.stream"})
    run = make_run(tmp_path, trials)
    rows = finalize(run, sweep, collect(run, sweep), {}).rows
    for row, metrics in (
        (rows[0], network_metrics(rows[0])),
        (rows[-1], ensemble_metrics(rows[-1])),
    ):
        assert (metrics["test_top1_low"], metrics["test_top1_high"]) == row.test.interval
        assert metrics["test_log_loss"] == row.test.cross_entropy
        assert metrics["test_ece"] == row.calibration.ece
    assert ensemble_metrics(rows[-1])["best/selection_top1_corrected"] == rows[-1].luck.corrected
    # an evaluation of an earlier form lacks them
    old = rows[-1].model_copy(
        update={
            "calibration": None,
            "luck": None,
            "test": rows[-1].test.model_copy(update={"interval": None}),
        }
    )
    gone = ensemble_metrics(rows[-1]).keys() - ensemble_metrics(old).keys()
    assert gone == {
        "test_top1_low",
        "test_top1_high",
        "test_ece",
        "best/selection_top1_corrected",
    }
