import json

from orchestrator.ensembling.collect import collect
from orchestrator.ensembling.final import finalize
from orchestrator.tracking.records import (
    FOREMOST,
    described_by_members,
    ensemble_metrics,
    final_metrics,
    network_metrics,
    run_name,
)
from tests.orchestrator.fake_run import Trial, make_run, make_sweep
from trainables.contract.artifacts import TrialDir


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
        (rows[-1], ensemble_metrics(run, rows[-1])),
    ):
        assert (metrics["test_top1_low"], metrics["test_top1_high"]) == row.test.interval
        assert metrics["details/test_log_loss"] == row.test.cross_entropy
        assert metrics["details/test_ece"] == row.calibration.ece
    corrected = ensemble_metrics(run, rows[-1])["details/selection_top1_corrected"]
    assert corrected == rows[-1].luck.corrected
    # an evaluation of an earlier form lacks them
    old = rows[-1].model_copy(
        update={
            "calibration": None,
            "luck": None,
            "test": rows[-1].test.model_copy(update={"interval": None}),
        }
    )
    gone = ensemble_metrics(run, rows[-1]).keys() - ensemble_metrics(run, old).keys()
    assert gone == {
        "test_top1_low",
        "test_top1_high",
        "details/test_ece",
        "details/selection_top1_corrected",
    }


def test_networks_and_ensembles_are_sorted_by_the_same_few_metrics(tmp_path):
    sweep = make_sweep({"name": "streams", "over": "data.stream"})
    run = make_run(tmp_path, [Trial("joint", 0.6), Trial("bone", 0.6)])
    *members, ensemble = finalize(run, sweep, collect(run, sweep), {}).rows
    own = [
        final_metrics(TrialDir(run / "trials" / row.trials[0])) | network_metrics(row)
        for row in members
    ]
    few = {key for key in own[0] if not key.startswith("details/")}
    assert few <= set(FOREMOST)
    found = ensemble_metrics(run, ensemble)
    assert set(found) & set(FOREMOST) == few - {"best/epoch"} | {"members"}
    assert "deploy_bytes" not in found  # these trials have not noted theirs
    for row, size in zip(members, (100, 250), strict=True):
        folder = TrialDir(run / "trials" / row.trials[0])
        written = json.loads(folder.result_file.read_text())
        written["cost"]["deploy_bytes"] = size
        folder.result_file.write_text(json.dumps(written))
    assert ensemble_metrics(run, ensemble)["deploy_bytes"] == 350
    tags = described_by_members(run, ensemble)
    assert (tags["stream"], tags["sparsity"]) == ("joint + bone", "0.6")


def test_a_run_is_called_by_its_cell_what_was_searched_and_its_seed(tmp_path):
    run = make_run(tmp_path, [Trial("joint", 0.6, seed=2)])
    (folder,) = (TrialDir(path) for path in (run / "trials").iterdir())
    config = folder.load_config()
    assert run_name("joint-0.6", config, {"train.lr": 0.05}) == "joint-0.6, lr 0.05, seed 2"
    first = config.model_copy(update={"seed": 0})
    assert run_name("", first, {}) == "hpi_gcn_rp joint 0.6"
