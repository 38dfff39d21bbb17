"""A store on its way to an address: dataset.json, which makes a store of a folder, goes last."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainables.contract.addresses import check_address, is_address, was_address
from trainables.contract.errors import UserError
from trainables.data.store.description import CLIPS_FILE, INFO_FILE, JOINTS_FILE, StoreInfo
from trainables.data.store.reading import Store
from trainables.remote.filesystem import explained, opened


def push_store(
    path: Path, address: str, *, force: bool = False, note: Callable[[str], None] = lambda _: None
) -> StoreInfo:
    """Copy the store in the folder `path` to `address`, as it is; one that is the same there
    already, with files of the same sizes, stays unless `force`.

    UserError where it is damaged, where another store is there and not `force`, and for what the
    other side refuses. Until it returns, nobody finds a store there: not half of this one, and not
    the one that it replaces.
    """
    _check(path, address)
    files, root = opened(address)
    store = Store.open(path)
    store.verify()
    content = (path / INFO_FILE).read_bytes()
    with explained(address):
        there = _read(files, f"{root}/{INFO_FILE}")
        whole = all(
            _size(files, f"{root}/{name}") == (path / name).stat().st_size
            for name in (CLIPS_FILE, JOINTS_FILE)
        )
    if there == content and whole and not force:
        note(f"{address}: the same store is there already")
        return store.info
    if there not in (None, content) and not force:
        raise UserError(f"{address}: there is another store already; --force replaces it")
    with explained(address, "write"):
        if there is not None:
            files.rm_file(f"{root}/{INFO_FILE}")
        for name in (CLIPS_FILE, JOINTS_FILE):
            note(f"copying {name}, {(path / name).stat().st_size / 1e6:,.1f} MB")
            files.put_file(str(path / name), f"{root}/{name}")
        files.pipe_file(f"{root}/{INFO_FILE}", content)
    return store.info


def _check(path: Path, address: str) -> None:
    if was_address(path):
        raise UserError(f"{path}: must be a folder of this machine")
    if not is_address(address):
        raise UserError(f"{address}: must be an address, such as s3://BUCKET/{path.name}")
    problem = check_address(address)
    if problem is not None:
        raise UserError(problem)


def _read(files: Any, path: str) -> bytes | None:
    with suppress(FileNotFoundError):
        return bytes(files.cat_file(path))
    return None


def _size(files: Any, path: str) -> int | None:
    with suppress(FileNotFoundError):
        return int(files.size(path))
    return None
