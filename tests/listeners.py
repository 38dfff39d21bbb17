"""Where a process and those that it started listen, as the kernel says."""

from __future__ import annotations

import ipaddress
from pathlib import Path

LISTENS = "0A"


def beyond_loopback(process: int) -> list[str]:
    """`address:port` of what listens beyond the loopback, of `process` and those below it."""
    sockets = {
        inode: where
        for table in ("tcp", "tcp6")
        for inode, where in _listening(Path("/proc/net") / table)
    }
    owned = {inode for each in _below(process) for inode in _sockets_of(each)}
    assert owned & set(sockets), "nothing listens at all"
    return [
        f"{address}:{port}"
        for address, port in (sockets[inode] for inode in sorted(owned & set(sockets)))
        if not _is_loopback(address)
    ]


def _listening(table: Path) -> list[tuple[str, tuple[str, int]]]:
    rows = [line.split() for line in table.read_text().splitlines()[1:]]
    return [(row[9], _place(row[1])) for row in rows if row[3] == LISTENS]


def _place(text: str) -> tuple[str, int]:
    """The kernel writes an address as words of four bytes, in the order of the processor."""
    digits, port = text.split(":")
    words = [bytes.fromhex(digits[at : at + 8])[::-1] for at in range(0, len(digits), 8)]
    return str(ipaddress.ip_address(b"".join(words))), int(port, 16)


def _is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    mapped = getattr(parsed, "ipv4_mapped", None)
    return (mapped or parsed).is_loopback


def _below(process: int) -> set[int]:
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int(
                (entry / "stat").read_text().rpartition(")")[2].split()[1]
            )
        except OSError:  # it has ended
            continue
    found = {process}
    while more := {each for each, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def _sockets_of(process: int) -> set[str]:
    found = set()
    try:
        for entry in Path(f"/proc/{process}/fd").iterdir():
            target = str(entry.readlink())
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:  # it has ended
        pass
    return found
