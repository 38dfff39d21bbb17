import socket

import pytest

from orchestrator.sweep import Resources
from orchestrator.tuning.cluster import check_address, fit_slots
from trainables.contract.errors import UserError

GB = 2**30


@pytest.mark.parametrize(
    ("nodes", "resources", "gpus", "concurrent"),
    [
        ([{"CPU": 2}], {}, 0.0, 2),
        ([{"CPU": 8, "GPU": 2}], {}, 1.0, 2),
        ([{"CPU": 16, "GPU": 2}], {"gpus": 0.25}, 0.25, 8),
        # two on each card, never one on two cards
        ([{"CPU": 16, "GPU": 2}], {"gpus": 0.4}, 0.4, 4),
        ([{"CPU": 4, "GPU": 2}], {"gpus": 0.25}, 0.25, 4),  # the cores are the limit
        ([{"CPU": 64, "GPU": 8}], {"gpus": 2.0, "cpus": 4}, 2.0, 4),
        # one trial on each node, not three on both
        ([{"CPU": 3}, {"CPU": 3}], {"gpus": 0.0, "cpus": 2}, 0.0, 2),
        # the node without GPUs takes none
        ([{"CPU": 8}, {"CPU": 8, "GPU": 4}], {"gpus": 1.0}, 1.0, 4),
        ([{"CPU": 16}], {"gpus": 0.0, "max_concurrent": 3}, 0.0, 3),
        ([{"CPU": 16, "memory": 10 * GB}], {"gpus": 0.0, "per_trial_memory_gb": 4.0}, 0.0, 2),
    ],
)
def test_as_many_trials_at_once_as_fit(nodes, resources, gpus, concurrent):
    found = fit_slots(Resources(**resources), nodes)
    assert (found.gpus, found.concurrent) == (gpus, concurrent)


def test_a_trial_that_can_never_fit_is_an_error_that_names_both_sides():
    with pytest.raises(
        UserError, match=r"asked for cpus=1 gpus=1, the nodes have 2 CPUs, 0 GPUs, 4\.0 GB"
    ):
        fit_slots(Resources(gpus=1.0), [{"CPU": 2, "memory": 4 * GB}])
    with pytest.raises(UserError, match=r"asked for cpus=4"):
        fit_slots(Resources(gpus=0.0, cpus=4), [{"CPU": 2}, {"CPU": 2}])


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "127.0.0.1:port"])
def test_an_address_of_another_form_is_refused(address):
    with pytest.raises(UserError, match="must be HOST:PORT"):
        check_address(address)


def test_an_address_where_nobody_answers_is_refused_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(UserError, match=f"got '127.0.0.1:{port}'"):
        check_address(f"127.0.0.1:{port}")


def test_an_address_that_answers_is_accepted():
    with socket.create_server(("127.0.0.1", 0)) as server:
        check_address(f"127.0.0.1:{server.getsockname()[1]}")
