from __future__ import annotations

import errno
import socket

import pytest

from tests.object_store import ObjectStore
from trainables.contract.errors import UserError
from trainables.remote.filesystem import explained, in_words, may_pass, opened


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("s3://key:secret@bucket/x", r"s3://key:\*\*\*@bucket/x: must not hold a password"),
        ("s3://", "s3://: must name a bucket"),
        (
            "nothing://bucket/x",
            r"nothing://bucket/x: must begin with a protocol that is known, .* got 'nothing://'",
        ),
        (
            "gs://bucket/x",
            r"gs://bucket/x: needs the extra 'gcs', .*: pip install 'orchestrate\[gcs\]'",
        ),
    ],
)
def test_what_cannot_be_opened_is_said(
    address: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)
    with pytest.raises(UserError, match=message):
        opened(address)


def test_a_folder_at_an_address_is_made_when_a_file_is_written(tmp_path) -> None:
    files, root = opened(f"file://{tmp_path}/runs/")
    assert root == f"{tmp_path}/runs"
    files.pipe_file(f"{root}/a/b", b"x")
    assert (tmp_path / "runs/a/b").read_bytes() == b"x"


def test_a_bucket_is_written_and_read(object_store: ObjectStore) -> None:
    address = f"{object_store.bucket()}/runs"
    files, root = opened(address)
    assert f"s3://{root}" == address
    files.pipe_file(f"{root}/a/b", b"x")
    with explained(address):
        assert files.cat_file(f"{root}/a/b") == b"x"
        assert files.ls(root, detail=False) == [f"{root}/a"]
    with pytest.raises(FileNotFoundError), explained(address):
        files.cat_file(f"{root}/a/c")
    missing = "s3://not-a-bucket-of-ours/runs"
    with (
        pytest.raises(UserError, match=rf"{missing}: there is no bucket 'not-a-bucket-of-ours'"),
        explained(missing, "write"),
    ):
        opened(missing)[0].pipe_file("not-a-bucket-of-ours/runs/x", b"x")


@pytest.mark.parametrize(
    ("refusing_store", "message"),
    [
        (
            (403, "AccessDenied"),
            r"no right to write there \(refused by AccessDenied\): grant it to these credentials",
        ),
        (
            (403, "InvalidAccessKeyId"),
            r"the credentials are not accepted \(.*\): check AWS_ACCESS_KEY_ID and AWS_SECRET",
        ),
        ((404, "NoSuchBucket"), r"there is no bucket 'bucket': make it, or correct its name"),
        ((400, "InvalidStorageClass"), r"cannot write there: refused by InvalidStorageClass"),
    ],
    indirect=["refusing_store"],
    ids=str,
)
def test_a_refusal_is_put_into_words(refusing_store: ObjectStore, message: str) -> None:
    files, root = opened("s3://bucket/runs")
    with (
        pytest.raises(UserError, match=rf"^s3://bucket/runs: {message}") as caught,
        explained("s3://bucket/runs", "write"),
    ):
        files.pipe_file(f"{root}/x", b"x")
    assert len(str(caught.value).splitlines()) == 1
    assert not may_pass(caught.value.__cause__ or caught.value)


def test_credentials_that_are_missing_are_said(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    files, root = opened("s3://bucket/runs")
    with (
        pytest.raises(UserError, match="no credentials are found: give AWS_ACCESS_KEY_ID and"),
        explained("s3://bucket/runs"),
    ):
        files.cat_file(f"{root}/x")


def test_a_server_that_does_not_answer_is_said(
    object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 1)
    files, root = opened("s3://bucket/runs")
    with (
        pytest.raises(
            UserError,
            match=r"nothing answers, or not in time \(Could not connect to the endpoint URL:.*\):"
            r" check the network and AWS_ENDPOINT_URL$",
        ) as caught,
        explained("s3://bucket/runs"),
    ):
        files.cat_file(f"{root}/x")
    assert caught.value.__cause__ is not None
    assert may_pass(caught.value.__cause__)


class CodeError(Exception):
    """As botocore raises its own."""

    def __init__(self, code: str) -> None:
        self.response = {"Error": {"Code": code}}
        super().__init__(code)


class HttpError(Exception):
    """As packages of Google and Azure raise them."""

    def __init__(self, code: int, said: str) -> None:
        self.code = code
        super().__init__(said)


@pytest.mark.parametrize(
    ("error", "passes", "said"),
    [
        (CodeError("SignatureDoesNotMatch"), False, "the credentials are not accepted"),
        (CodeError("ExpiredToken"), False, "the credentials are not accepted"),
        (CodeError("RequestTimeTooSkewed"), False, "the clock of this machine is wrong"),
        (CodeError("PermanentRedirect"), False, "the bucket lies in another region"),
        (CodeError("SlowDown"), True, "nothing answers, or not in time"),
        (
            HttpError(403, "Forbidden"),
            False,
            "no right to read there (Forbidden): grant it to these credentials, or check GOOGLE",
        ),
        (HttpError(401, "Unauthorized"), False, "the credentials are not accepted (Unauthorized)"),
        (HttpError(503, "busy"), True, "nothing answers, or not in time (busy)"),
        (TimeoutError("slow"), True, "nothing answers, or not in time (slow)"),
        (ConnectionResetError("gone"), True, "nothing answers, or not in time (gone)"),
        (OSError(errno.EBUSY, "slow down"), True, "nothing answers, or not in time (slow down)"),
        (OSError(errno.ENOSPC, "No space left"), False, "cannot read there: No space left"),
        (PermissionError(errno.EACCES, "Permission denied"), False, "no right to read there"),
        (FileNotFoundError("x"), False, "is not there"),
        (ValueError("odd\nlines"), False, "cannot read there: odd"),
    ],
    ids=repr,
)
def test_errors_of_every_package(error: Exception, passes: bool, said: str) -> None:
    assert in_words(error, "gs://bucket/x").startswith(f"gs://bucket/x: {said}")
    assert may_pass(error) == passes


def test_what_is_no_matter_of_the_file_system_passes() -> None:
    with pytest.raises(ZeroDivisionError), explained("s3://bucket"):
        _ = 1 / 0
