import pytest

from orchestrator.sweep import parse_sweep
from orchestrator.tuning.runner import _slots
from trainables.contract.errors import UserError

TEXT = """
version: 1
name: small
data: {store: nowhere, protocol: xsub}
"""


def slots(monkeypatch, cluster, resources):
    monkeypatch.setattr("orchestrator.tuning.runner.ray.cluster_resources", lambda: cluster)
    return _slots(parse_sweep("small.yaml", f"{TEXT}resources: {resources}\n"))


@pytest.mark.parametrize(
    ("cluster", "resources", "gpus", "concurrent"),
    [
        ({"CPU": 2}, "{gpus: auto, cpus: 1}", 0.0, 2),
        ({"CPU": 8, "GPU": 2}, "{gpus: auto, cpus: 1}", 1.0, 2),
        ({"CPU": 16, "GPU": 2}, "{gpus: 0.25, cpus: 1}", 0.25, 8),
        ({"CPU": 4, "GPU": 2}, "{gpus: 0.25, cpus: 1}", 0.25, 4),  # the cores are the limit
        ({"CPU": 64, "GPU": 8}, "{gpus: 2, cpus: 4}", 2.0, 4),
        ({"CPU": 16, "GPU": 4}, "{gpus: 0, cpus: 4}", 0.0, 4),
        ({"CPU": 16}, "{gpus: 0, max_concurrent: 3}", 0.0, 3),
        ({"CPU": 16, "memory": 10 * 2**30}, "{gpus: 0, per_trial_memory_gb: 4}", 0.0, 2),
    ],
)
def test_as_many_trials_at_once_as_fit(monkeypatch, cluster, resources, gpus, concurrent):
    found = slots(monkeypatch, cluster, resources)
    assert (found.gpus, found.concurrent) == (gpus, concurrent)


def test_a_trial_that_can_never_fit_is_an_error_that_names_both_sides(monkeypatch):
    with pytest.raises(UserError, match=r"asked for cpus=1 gpus=1 .* the cluster has 2 CPUs and 0 GPUs"):
        slots(monkeypatch, {"CPU": 2}, "{gpus: 1, cpus: 1}")
