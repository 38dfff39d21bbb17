"""Seeds made from seeds: independent random streams for (run, purpose, epoch, step) without shared
state.
"""

from __future__ import annotations

import hashlib


def derive(seed: int, *path: int | str) -> int:
    """A 63-bit seed for one purpose, e.g. derive(run_seed, "augment", epoch, step); equal inputs
    give equal seeds on every machine.
    """
    text = ":".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
