"""Ensembling against the loops that people write: all presets of the papers, greedy selection, and
two thousand members from disk.

    python benchmarks/ensembling.py [presets] [greedy] [disk] [asks] [--clips N]
    [--members S] [--json]

Scores are made up: members agree on most clips and err together on hard ones, as streams do; one is
right on about 90 % of the clips. One thread, unless two are said. Every ratio is of times in the
same run: a loop runs once, what is short five times, of which the least counts.

presets   six streams of 50,919 clips and 120 classes: every preset against a loop over the clips as
          the papers' scripts have it. Both count top-1 and top-5; their counts must agree.
greedy    100 members on 16,560 clips of 60 classes, 50 rounds, from logits: against a loop that
          adds up the whole sum with each candidate, as most people write it. All of that loop
          takes minutes: a few candidates of six rounds are timed and the rest is reckoned from
          them. The loop that keeps the running sum is timed in full, and the picks must be its
          picks. Then 20 bags.
disk      2,000 members whose score tables lie in Parquet files, through the door that a sweep uses:
          seconds, and the largest memory the process had.
asks      the same number of networks in the folder of a sweep, on as many selection and test clips:
          `what-if` and `ensemble` within a budget, each in a process of its own. Fifty tables stand
          for all networks, under a name for each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
from invented_sweep import write_sweep

from orchestrator.ensembling.combine import ranks_of_sums, weighted_sum
from orchestrator.ensembling.evaluate import ranks
from orchestrator.ensembling.spill import Rows
from orchestrator.ensembling.strategies.greedy import Options, choose
from orchestrator.ensembling.strategies.sources import Sources
from orchestrator.ensembling.sums import Weights
from orchestrator.sweep.presets import PRESETS
from trainables.contract.scores import Scores

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

ROUNDS, BAGS = 50, 20
REPEATS = 5  # of what is short
SAMPLE = 5  # candidates of a round that are timed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help="presets, greedy, disk, asks; default: all")
    parser.add_argument("--clips", type=int, help="instead of 50,919, 16,560 and 16,560")
    parser.add_argument("--members", type=int, help="instead of 100 and 2,000")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measured", type=Path, help=argparse.SUPPRESS)  # a folder of tables
    parser.add_argument("--asked", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)  # a command
    options = parser.parse_args()
    if options.asked:
        print(json.dumps(asked(options.asked)))
        return
    if options.measured:
        print(json.dumps(from_disk(options.measured)))
        return
    parts: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "presets": presets,
        "greedy": greedy,
        "disk": disk,
        "asks": asks,
    }
    for part in options.parts or parts:
        found = parts[part](options)
        print(json.dumps({part: found}) if options.json else table(part, found), flush=True)


def table(part: str, found: dict[str, Any]) -> str:
    lines = [f"{name:<34} {value:,.4g}" for name, value in found.items()]
    return "\n".join([part, *lines, ""])


def made(draw: np.random.Generator, labels: Integers, classes: int, members: int) -> list[Floats]:
    """Logits (N, K) of members of about the same accuracy."""
    clips = len(labels)
    hard = np.where(draw.random((clips, 1)) < 0.75, 0.0, draw.uniform(2, 8, (clips, 1)))
    shared = draw.standard_normal((clips, classes), np.float32)
    shared[np.arange(clips), labels] += 8 - hard[:, 0].astype(np.float32)
    return [
        shared + np.float32(draw.uniform(0.6, 0.9)) * draw.standard_normal(shared.shape, np.float32)
        for _ in range(members)
    ]


# presets


def presets(options: argparse.Namespace) -> dict[str, Any]:
    """Every preset on as many of six streams as it names, all six where it names none: each by
    itself with its scores, and all of them in one pass over the streams, on one thread and on two.
    """
    draw, clips = np.random.default_rng(0), options.clips or 50_919
    labels = draw.integers(120, size=clips)
    streams = np.stack(made(draw, labels, 120, 6))
    found: dict[str, Any] = {"top-1 % of one": 100 * (streams[0].argmax(1) == labels).mean()}
    slow, alone, wanted, expected = 0.0, 0.0, list[Weights](), list[tuple[int, int]]()
    for name, preset in PRESETS.items():
        weights = list(preset.weights.values()) or [1.0] * 6
        rows = streams[: len(weights)]
        loop_seconds, counts = timed(loop, rows, weights, preset.combine, labels)
        seconds, own = best_of(REPEATS, vectorised, rows, weights, preset.combine, labels)
        assert own == counts, (name, own, counts)
        wanted.append(Weights([*weights, *[0.0] * (6 - len(weights))], preset.combine))
        expected.append(counts)
        slow, alone = slow + loop_seconds, alone + seconds
        found[f"{name}: loop s"] = loop_seconds
        found[f"{name}: s"] = seconds
        found[f"{name}: ratio"] = loop_seconds / seconds
    found |= {"all: loop s": slow, "one by one: s": alone, "one by one: ratio": slow / alone}
    for threads in (1, 2):
        seconds, counted = best_of(REPEATS, together, streams, wanted, labels, threads)
        assert counted == expected, (threads, counted, expected)
        found[f"in one pass, threads {threads}: s"] = seconds
        found[f"in one pass, threads {threads}: ratio"] = slow / seconds
    return {**found, "reading the streams once, s": best_of(REPEATS, streams.max)[0]}


def together(
    streams: Floats, wanted: list[Weights], labels: Integers, threads: int
) -> list[tuple[int, int]]:
    """All presets at once; with several threads each takes a part of the clips."""
    parts = np.array_split(np.arange(len(labels)), threads)
    slices = [slice(int(part[0]), int(part[-1]) + 1) for part in parts]
    with ThreadPoolExecutor(threads) as pool:
        found = pool.map(lambda part: ranks_of_sums(streams[:, part], wanted, labels[part]), slices)
        rank = np.concatenate(list(found), axis=1)
    return [(int((own < 1).sum()), int((own < 5).sum())) for own in rank]


def loop(streams: Floats, weights: list[float], combine: str, labels: Integers) -> tuple[int, int]:
    """Clip by clip, as ensemble.py of CTR-GCN, InfoGCN and HPI-GCN counts."""
    right = right5 = 0
    for clip in range(len(labels)):
        total: Any = 0
        for stream, weight in zip(streams, weights, strict=True):
            row = stream[clip]
            if combine == "probabilities":
                powers = np.exp(row.astype(np.float64) - row.max())
                row = powers / powers.sum()
            elif combine == "normalised":
                row = row / row.std()
            total = total + row * weight
        right5 += int(labels[clip] in total.argsort()[-5:])
        right += int(total.argmax() == labels[clip])
    return right, right5


def vectorised(
    streams: Floats, weights: list[float], combine: Any, labels: Integers
) -> tuple[int, int]:
    rank = ranks(weighted_sum(streams, weights, combine), labels)
    return int((rank < 1).sum()), int((rank < 5).sum())


# greedy


def greedy(options: argparse.Namespace) -> dict[str, Any]:
    draw, clips, members = (
        np.random.default_rng(1),
        options.clips or 16_560,
        options.members or 100,
    )
    labels = draw.integers(60, size=clips)
    values = np.stack(made(draw, labels, 60, members))
    values.setflags(write=False)
    ids = tuple(map(str, range(clips)))
    sources = Sources(tuple(map(str, range(members))), values, labels, ids, {})
    seconds, answers = [], []
    for _ in range(3):
        once, answer = timed(choose, sources, Options(rounds=ROUNDS))
        seconds.append(once)
        answers.append(answer)
    shares = np.exp(values - values.max(axis=2, keepdims=True))
    shares /= shares.sum(axis=2, keepdims=True)
    running, (bag, length) = timed(naive, shares, labels, ROUNDS)
    anew = reckoned(shares, labels, bag)
    votes = np.bincount(bag[:length], minlength=members) / length
    chosen = {str(source): votes[source] for source in np.flatnonzero(votes)}
    assert {name: round(w, 12) for name, w in chosen.items()} == {
        name: round(w, 12) for name, w in answers[0].weights.items()
    }
    bags, _ = timed(choose, sources, Options(rounds=ROUNDS, bags=BAGS))
    own = statistics.median(seconds)
    return {
        "top-1 % of one": 100 * float((values[0].argmax(1) == labels).mean()),
        "loop, s (reckoned)": anew,
        "loop with a running sum, s": running,
        "greedy, s": own,
        "loop / greedy": anew / own,
        "loop with a running sum / greedy": running / own,
        f"greedy, {BAGS} bags, s": bags,
        "identical picks": 1,
    }


def naive(shares: Floats, labels: Integers, rounds: int) -> tuple[list[int], int]:
    """The picks of greedy selection by a loop over the candidates that keeps the sum of the bag,
    and the length of the best sum on the way.
    """
    bag: list[int] = []
    best, length, total = (len(labels) + 1, np.inf), 0, np.zeros_like(shares[0])
    for _ in range(rounds):
        ranked = []
        for source, own in enumerate(shares):
            wrong, loss = judged(total + own, len(bag) + 1, labels)
            ranked.append((wrong, source not in bag, loss, source))
        wrong, _, loss, pick = min(ranked)
        bag.append(pick)
        total = total + shares[pick]
        if (wrong, loss) < best:
            best, length = (wrong, loss), len(bag)
    return bag, length


def judged(total: Floats, terms: int, labels: Integers) -> tuple[int, float]:
    wrong = int((total.argmax(axis=1) != labels).sum())
    label = total[np.arange(len(labels)), labels] / terms
    return wrong, round(float(-np.log(np.maximum(label, 1e-38)).mean(dtype=np.float64)), 6)


def reckoned(shares: Floats, labels: Integers, bag: list[int]) -> float:
    """Seconds of the loop that adds up the whole bag for each candidate, as most people write it.

    Timed for a few candidates in a few rounds, with the bag of that round; the other rounds lie on
    the lines between them, since round r adds up r tables.
    """
    rounds, each = [1, 10, 20, 30, 40, ROUNDS], []
    for number in rounds:
        start = time.perf_counter()
        for source in range(SAMPLE):
            judged(shares[[*bag[: number - 1], source]].sum(axis=0), number, labels)
        each.append((time.perf_counter() - start) / SAMPLE)
    return len(shares) * float(np.interp(np.arange(1, ROUNDS + 1), rounds, each).sum())


# disk


def disk(options: argparse.Namespace) -> dict[str, Any]:
    draw, clips, members = (
        np.random.default_rng(2),
        options.clips or 16_560,
        options.members or 2_000,
    )
    labels = draw.integers(60, size=clips)
    ids = [f"clip-{number:06d}" for number in range(clips)]
    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        for part in range(0, members, 50):
            for number, rows in enumerate(made(draw, labels, 60, min(50, members - part))):
                Scores.of(ids, rows, labels).save(Path(folder) / f"{part + number:05d}.parquet")
        written = time.perf_counter() - start
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        command = [sys.executable, __file__, "--measured", folder]
        found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    tables = members * clips * 60 * 4
    return {
        "members": members,
        "clips": clips,
        "GB on disk": size / 1e9,
        "GB of logits": tables / 1e9,
        "writing, s": written,
        **found,
    }


def from_disk(folder: Path) -> dict[str, Any]:
    """In a process of its own: read, choose, and what memory that took at most."""
    start = time.perf_counter()
    files = sorted(folder.iterdir())
    first = Scores.load(files[0])
    rows = Rows(first.logits.shape[1])
    for file in files:
        rows.append(Scores.load(file).logits)
    values = rows.table().reshape(len(files), *first.logits.shape)
    assert first.labels is not None
    names = tuple(file.stem for file in files)
    sources = Sources(names, values, first.labels, first.ids, {})
    read = time.perf_counter()
    answer = choose(sources, Options(rounds=ROUNDS))
    return {
        "reading, s": read - start,
        "greedy, s": time.perf_counter() - read,
        "members chosen": len(answer.weights),
        "largest memory, GB": largest_memory(),
    }


# asks


def asks(options: argparse.Namespace) -> dict[str, Any]:
    draw, clips, members = (
        np.random.default_rng(3),
        options.clips or 16_560,
        options.members or 2_000,
    )
    labels = draw.integers(60, size=clips)
    commands = {
        "what-if": ["what-if", "invented", "--budget", "members=10"],
        "ensemble": ["ensemble", "invented", "--method", "greedy", "--budget", "members=10"],
    }
    found: dict[str, Any] = {"members": members, "clips": clips}
    with TemporaryDirectory() as folder:
        tables = made(draw, labels, 60, min(50, members))
        write_sweep(Path(folder) / "runs" / "invented", members, tables, labels)
        for name, words in commands.items():
            command = [sys.executable, str(Path(__file__).resolve()), "--asked", *words]
            done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=True)
            measured = json.loads(done.stdout.splitlines()[-1])
            found |= {f"{name}: {what}": value for what, value in measured.items()}
    return found


def asked(words: list[str]) -> dict[str, float]:
    """In a process of its own: a command, how long it took and what memory at most."""
    from orchestrator.cli import main as orchestrate

    start, sys.argv = time.perf_counter(), ["orchestrate", *words]
    try:
        orchestrate()
    except SystemExit as end:
        if end.code:
            raise
    return {"s": time.perf_counter() - start, "largest memory, GB": largest_memory()}


def largest_memory() -> float:
    """The most that this process ever had in memory, GB, pages of mapped files too. Not what
    getrusage says, which knows of what the parent had, too.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    return 1024 * int(status["VmHWM"].split()[0]) / 1e9


def best_of(times: int, call: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """The least seconds of several runs, and what the last one found."""
    runs = [timed(call, *arguments) for _ in range(times)]
    return min(seconds for seconds, _ in runs), runs[-1][1]


def timed(call: Callable[..., Any], *arguments: Any, **named: Any) -> tuple[float, Any]:
    start = time.perf_counter()
    found = call(*arguments, **named)
    return time.perf_counter() - start, found


if __name__ == "__main__":
    main()
