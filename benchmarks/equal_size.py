"""Four levels, four seeds of one level, the dense network, dense ensembles: who wins at equal size?

    python benchmarks/equal_size.py LEVELS_RUN DENSE_RUN NARROW_RUN

The folders of the finished sweeps equal_levels_cpu (four levels), equal_dense_cpu (dense, and one
level) and equal_narrow_cpu (dense networks of half the width), all of the same clips. Everything is
a plain mean of probabilities, so nothing is chosen; the test labels are read once and the first
sweep's journal notes it. Groups of seeds share networks, so their spread is too small; the table
says how many different networks they are made of.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import numpy.typing as npt

from orchestrator.ensembling.combine import combine_scores
from orchestrator.ensembling.evaluate import paired, ranks
from orchestrator.ensembling.members import Member, SeedRun
from orchestrator.ensembling.pools import Pool, pool_of
from orchestrator.ensembling.sealed import checked_test
from orchestrator.record.journal import Journal

Hits = npt.NDArray[np.bool_]
COLUMNS = (
    "contender",
    "groups (networks)",
    "non-zeros, x dense",
    "test",
    "clean",
    "against dense: points, pairs better / worse (p < 0.05)",
)
TOGETHER = 4  # networks of an ensemble, as many as there are levels
MOST_GROUPS = 70  # of four of eight seeds


class Contender:
    """One kind of ensemble, made of several groups of networks."""

    def __init__(self, name: str, groups: Iterable[Sequence[SeedRun]]) -> None:
        self.name = name
        self.groups = [tuple(group) for group in groups][:MOST_GROUPS]

    def size(self) -> float:
        """Non-zeros shipped by one group, on average."""
        return fmean(
            sum(run.result.cost.deploy_nonzero_params for run in group) for group in self.groups
        )

    def hits(self, labels: npt.NDArray[np.int64]) -> Iterator[Hits]:
        """What each group gets right, (N,)."""
        for group in self.groups:
            tables = [run.scores.test for run in group]
            mean = combine_scores(tables, [1.0] * len(tables), "probabilities")
            yield ranks(mean.logits, labels) == 0


def contenders(pool: Pool, sweeps: Sequence[str]) -> list[Contender]:
    """The dense network first: the others are held against it."""
    levels, dense, narrow = (
        [member for member in pool.members if member.axes["sweep"] == name] for name in sweeps
    )
    single = next(member for member in dense if member.dense).seeds
    one_level = next(member for member in dense if not member.dense)
    by_level = sorted(levels, key=lambda member: float(member.axes["sparsity.level"]))
    return [
        Contender("dense", ([run] for run in single)),
        Contender("four levels", _by_seed(by_level)),
        Contender("the three lower levels", _by_seed(by_level[:3])),
        Contender(
            f"four seeds of level {one_level.axes['sparsity.level']}",
            combinations(one_level.seeds, TOGETHER),
        ),
        Contender("four narrow dense", combinations(narrow[0].seeds, TOGETHER)),
        Contender("three narrow dense", combinations(narrow[0].seeds, TOGETHER - 1)),
        Contender("four dense", combinations(single, TOGETHER)),
    ]


def _by_seed(members: Sequence[Member]) -> Iterator[list[SeedRun]]:
    """The networks of each seed that all of them have."""
    runs = [{run.seed: run for run in member.seeds} for member in members]
    for seed in sorted(set.intersection(*(set(each) for each in runs))):
        yield [each[seed] for each in runs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs=3, type=Path, help="levels, dense, narrow")
    runs = parser.parse_args().runs
    pool = pool_of(runs)
    first = pool.members[0]
    wanted = {first.division: first.test.ids}
    journal = Journal(runs[0] / "journal.jsonl")
    truth = checked_test(wanted).read(journal, "equal size")[first.division]
    clean = truth.clean
    print(f"{len(truth.labels)} test clips, {int(clean.sum())} without copies; top-1 %")
    print(" | ".join(COLUMNS))
    whole, reference = 0.0, list[Hits]()
    for contender in contenders(pool, [run.name for run in runs]):
        hits = list(contender.hits(truth.labels))
        if not hits:
            continue
        size = contender.size()
        if not reference:
            whole, reference = size, hits
        pairs = [paired(own, other) for own in hits for other in reference]
        better = sum(pair.distinguishable and pair.difference > 0 for pair in pairs)
        worse = sum(pair.distinguishable and pair.difference < 0 for pair in pairs)
        networks = len({run.trial for group in contender.groups for run in group})
        print(
            f"{contender.name} | {len(hits)} ({networks}) | {size:,.0f}, {size / whole:.2f}x"
            f" | {_spread([float(own.mean()) for own in hits])}"
            f" | {_spread([float(own[clean].mean()) for own in hits])}"
            f" | {100 * fmean(pair.difference for pair in pairs):+.2f},"
            f" {better} / {worse} of {len(pairs)}"
        )


def _spread(accuracies: Sequence[float]) -> str:
    """Mean and standard deviation over the groups, in percent."""
    spread = f" ± {100 * stdev(accuracies):.2f}" if len(accuracies) > 1 else ""
    return f"{100 * fmean(accuracies):.2f}{spread}"


if __name__ == "__main__":
    main()
