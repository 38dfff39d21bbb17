from __future__ import annotations

from pathlib import Path

import pytest

from trainables.contract.addresses import (
    check_address,
    check_storage,
    is_address,
    joined,
    last_name,
    local_path,
    was_address,
)

ALLOWED = (
    "s3://bucket",
    "s3://bucket/folder/",
    "gs://bucket/a/b",
    "az://container/folder",
    "abfs://container@account.dfs.core.windows.net/folder",
    "memory://runs",
    "file:///data/store",
    "https://host:8443/store",
)


@pytest.mark.parametrize(
    ("text", "address"),
    [*((each, True) for each in ALLOWED), ("data/x", False), ("/a/s3:/x", False), ("a:b", False)],
)
def test_an_address_is_told_from_a_path(text: str, address: bool) -> None:
    assert is_address(text) == address


@pytest.mark.parametrize("text", ALLOWED)
def test_an_address_that_looks_well_has_no_problem(text: str) -> None:
    assert check_address(text) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("9p://x", "9p://x: must be an address like s3://BUCKET/FOLDER"),
        ("a/s3://x", "a/s3://x: must be an address like s3://BUCKET/FOLDER"),
        ("s3://[x", "s3://[x: must be a path or an address: Invalid IPv6 URL"),
        ("s3://", "s3://: must name a bucket: s3://BUCKET/FOLDER"),
        ("s3:///x", "s3:///x: must name a bucket: s3://BUCKET/FOLDER"),
        ("file://host/x", "file://host/x: must be file:///FOLDER, of this machine"),
        ("file:///", "file:///: must be file:///FOLDER"),
        ("s3://b/x?region=y", "s3://b/x?region=y: must have no '?'"),
        ("s3://b/x#y", "s3://b/x#y: must have no '?' and no '#'"),
        ("s3://b/../x", "s3://b/../x: must be without '.', '..' and '//'"),
        ("s3://b/a//x", "s3://b/a//x: must be without '.', '..' and '//'"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(text: str, problem: str) -> None:
    assert (check_address(text) or "").startswith(problem)


def test_sweeps_lie_where_they_can_be_written() -> None:
    refused = [text for text in ALLOWED if check_storage(text) is not None]
    assert refused == ["https://host:8443/store"]
    assert check_storage(refused[0]) == (
        "https://host:8443/store: must be an address that sweeps can be written to: s3://, gs://,"
        " az://, abfs:// or file://"
    )
    assert check_storage("s3://") == check_address("s3://")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://key:secret@bucket/x", "s3://key:***@bucket/x"),
        ("s3://key:sec/secret@bucket/x", "s3://key:***@bucket/x"),
        ("s3://AKIAIOSFODNN7EXAMPLE@bucket/x", "s3://***@bucket/x"),
        ("s3://me@bucket/x", "s3://me@bucket/x"),
        ("s3://b/x?secret_key=secret&region=x", "s3://b/x?secret_key=***&region=x"),
        ("https://h/x?sv=2&sig=secret", "https://h/x?sv=2&sig=***"),
        ("s3://b/x?X-Amz-Signature=secret", "s3://b/x?X-Amz-Signature=***"),
        ("abfs://c/x?account_key=secret", "abfs://c/x?account_key=***"),
    ],
)
def test_a_password_is_refused_and_not_shown(text: str, shown: str) -> None:
    assert (check_address(text) or "").startswith(f"{shown}: must not hold a password")


@pytest.mark.parametrize(
    ("path", "address"),
    [("s3://b/x", True), ("s3://b", True), ("a/s3:/b", False), ("s3:x/y", False), ("", False)],
)
def test_a_path_that_was_an_address_is_known(path: str, address: bool) -> None:
    assert was_address(Path(path)) == address


def test_an_address_of_local_files_is_a_path() -> None:
    assert local_path("file:///data/x") == "/data/x"
    assert local_path("s3://data/x") is None
    assert local_path("/data/x") is None


def test_names_within_an_address() -> None:
    assert joined("s3://bucket/runs/", "ucla", "trials") == "s3://bucket/runs/ucla/trials"
    assert last_name("s3://bucket/nw-ucla/") == "nw-ucla"
    assert last_name("s3://bucket") == "bucket"
