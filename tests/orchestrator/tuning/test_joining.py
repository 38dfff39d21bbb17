"""A cluster that would not take us in says why, at once."""

import json
from platform import python_version

import pytest
import ray
from ray.exceptions import AuthenticationError, RpcError

from orchestrator.tuning import joining
from orchestrator.tuning.joining import check_head
from trainables.contract.errors import UserError

HERE = {"ray_version": ray.__version__, "python_version": python_version()}


@pytest.fixture
def head(monkeypatch):
    """A head that answers with these versions, or with this error."""

    def stand(answer):
        class Client:
            def __init__(self, address):
                if isinstance(answer, Exception):
                    raise answer

            def internal_kv_get(self, key, namespace):
                assert (key, namespace) == (b"CLUSTER_METADATA", b"cluster")
                return None if answer is None else json.dumps(answer).encode()

        monkeypatch.setattr(joining, "GcsClient", Client)

    return stand


@pytest.mark.parametrize("answer", [None, HERE, {"ray_version": ray.__version__}])
def test_a_head_of_our_kind_takes_us_in(head, answer):
    head(answer)
    check_head("10.0.0.1:6379")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (AuthenticationError("token"), "10.0.0.1:6379 asks for a token that this process does not"),
        (RpcError("Deadline", rpc_code=4), "must be HOST:PORT of a running Ray cluster, got '10.0"),
        (HERE | {"ray_version": "2.9.0"}, "Ray must be of one version on every node: 2.9.0 at 10."),
        (HERE | {"python_version": "3.8.1"}, "Python must be of one version on every node: 3.8.1"),
    ],
)
def test_why_a_head_would_not(head, answer, message):
    head(answer)
    with pytest.raises(UserError, match="--address: ") as caught:
        check_head("10.0.0.1:6379")
    assert message in str(caught.value)


def test_a_patch_of_python_may_differ_where_the_person_says_so(head, monkeypatch):
    monkeypatch.setenv("RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL", "minor")
    head(HERE | {"python_version": "3.11.999"})
    check_head("10.0.0.1:6379")
