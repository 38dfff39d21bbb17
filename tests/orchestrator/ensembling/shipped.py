"""A sweep of two networks that ships one of them, or their ensemble; nothing is trained."""

import json

import pytest
import torch

from orchestrator.ensembling.collect import collect, missing_cells
from orchestrator.ensembling.final import finalize
from tests.orchestrator.fake_run import Trial, make_run, make_sweep
from trainables.contract.artifacts import TrialDir
from trainables.contract.config import ModelConfig
from trainables.contract.disk import write_json
from trainables.data.store.reading import Store
from trainables.deploy.form import deploy, save_deploy
from trainables.models.backbone import NetworkSpec
from trainables.models.build import build_training_form

FINAL = {"name": "final", "over": "data.stream"}


def shipped(path, *ensembles):
    """Folder and evaluation of a sweep of two untrained networks, the second the better one."""
    trials = [Trial("joint", 0.0, wrong_selection=(0, 1)), Trial("bone", 0.0, wrong_selection=(0,))]
    run, sweep = make_run(path, trials), make_sweep(*ensembles)
    for trial in trials:
        _ship(TrialDir(run / "trials" / trial.name), path / "store")
    members = collect(run, sweep)
    return run, finalize(run, sweep, members, missing_cells(run, members))


def _ship(folder, store):
    """A network of the store in place of the made-up one."""
    torch.manual_seed(0)
    opened = Store.open(store)
    model = ModelConfig(
        backbone="hpi_gcn_op", channels=8, stages=(1,), groups=4, input_block="conv"
    )
    spec = NetworkSpec(model=model, parents=opened.layout.parents, classes=3, persons=1)
    save_deploy(deploy(build_training_form(spec).eval(), frames=64), folder.deploy_file)
    result = json.loads(folder.result_file.read_text())
    result["digests"] = {}
    write_json(folder.result_file, result)


def evaluated_storage(place):
    """A storage folder with such a sweep, `run`, evaluated with few draws; returns what shipped
    returns.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.ensembling.whole_choice.MOST_ENSEMBLE_DRAWS", 2)
        run, evaluation = shipped(place, FINAL)
    evaluation.save(run)
    return run, evaluation
