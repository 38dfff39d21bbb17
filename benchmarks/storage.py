"""What it costs that a trial's folder lies in a bucket: seconds over those of a local folder, and
the requests and bytes of a worker.

    python benchmarks/storage.py STORE s3://bucket/folder [--protocol xview] [--epochs 20] [--json]

Whole trials of a narrow ST-GCN on one thread, in turns: in a local folder, and in one that lies at
the address. That both give the same scores, to the last bit, is checked. A server on the loopback:
`moto_server -p 5000` with AWS_ENDPOINT_URL=http://127.0.0.1:5000 (and any keys).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from aiobotocore.client import AioBaseClient

from trainables.contract.artifacts import TrialDir
from trainables.contract.config import TrialConfig
from trainables.contract.scores import Scores
from trainables.remote.attempt import attempt
from trainables.remote.objects import Objects
from trainables.run import CHECKPOINT_EVERY_S, Setup, Watch, run_trial

REQUESTS: Counter[str] = Counter()
BYTES: Counter[str] = Counter()


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("store", help="an imported data set")
    options.add_argument("address", help="a folder in an S3 bucket, which trials are added to")
    options.add_argument("--protocol", default="xview", help="one of the store's")
    options.add_argument("--epochs", type=int, default=20, help="of a trial")
    options.add_argument("--rounds", type=int, default=3, help="trials of each kind, in turns")
    options.add_argument("--json", action="store_true", help="print JSON instead of text")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    AioBaseClient._make_api_call = counted(AioBaseClient._make_api_call)
    found = measure(
        _config(chosen.store, chosen.protocol, chosen.epochs), chosen.address, chosen.rounds
    )
    if chosen.json:
        json.dump(found, sys.stdout, indent=2)
        return
    print(f"seconds  local {found['local_s']}, at the address {found['address_s']}")
    print(f"ratio    {found['ratio']:.3f} (median over median)")
    print(f"worker   {found['requests']} requests a trial: {found['by_operation']}")
    print(
        f"         {found['sent']:,} bytes sent, {found['files']} files of {found['kept']:,} bytes"
    )


def measure(config: TrialConfig, address: str, rounds: int) -> dict[str, Any]:
    """Of the median trial; the first of either kind, which warms up, is not counted."""
    local, there, costs = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds + 1):
            out = TrialDir(Path(folder) / f"{number}")
            seconds = _local(config, out)
            REQUESTS.clear()
            BYTES.clear()
            place = f"{address.rstrip('/')}/{uuid.uuid4().hex[:8]}"
            remote = _remote(config, place)
            if number:
                local.append(round(seconds, 2))
                there.append(round(remote, 2))
                costs.append((sum(REQUESTS.values()), dict(REQUESTS), BYTES["sent"]))
            _check_equal(out, place, Path(folder) / "table.parquet")
    requests, by_operation, sent = sorted(costs, key=lambda each: each[0])[len(costs) // 2]
    entries = Objects(place).list()
    return {
        "local_s": local,
        "address_s": there,
        "ratio": statistics.median(there) / statistics.median(local),
        "requests": requests,
        "by_operation": by_operation,
        "sent": sent,
        "files": len(entries),
        "kept": sum(entry.size for entry in entries.values()),
        "checkpoint_every_s": CHECKPOINT_EVERY_S,
    }


def _local(config: TrialConfig, out: TrialDir) -> float:
    began = time.perf_counter()
    run_trial(config, out, Setup(torch.device("cpu")))
    return time.perf_counter() - began


def _remote(config: TrialConfig, address: str) -> float:
    began = time.perf_counter()
    with attempt(address) as current:
        watch = Watch(report=lambda metrics: current.saved())
        run_trial(config, current.folder, Setup(torch.device("cpu")), watch)
    return time.perf_counter() - began


def _check_equal(out: TrialDir, address: str, file: Path) -> None:
    Objects(address).fetch({out.test_scores.name: file})
    ours, theirs = (Scores.load(each).logits for each in (out.test_scores, file))
    assert (ours == theirs).all(), "the scores differ"


def counted(call: Any) -> Any:
    """A client's method that makes every request, and counts it."""

    async def counting(client: Any, operation: str, params: dict[str, Any]) -> Any:
        REQUESTS[operation] += 1
        BYTES["sent"] += len(params.get("Body") or b"")
        return await call(client, operation, params)

    return counting


def _config(store: str, protocol: str, epochs: int) -> TrialConfig:
    return TrialConfig.model_validate(
        {
            "data": {"store": store, "protocol": protocol, "frames": 52},
            "model": {"backbone": "st_gcn", "channels": 16, "stages": [1, 1, 1]},
            "train": {"epochs": epochs, "batch_size": 32, "warmup_epochs": 0, "milestones": []},
        }
    )


if __name__ == "__main__":
    main()
