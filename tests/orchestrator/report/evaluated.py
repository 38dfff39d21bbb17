"""Sweeps without any training that are evaluated already, as tests of reports need them."""

from __future__ import annotations

from orchestrator.ensembling.collect import collect, missing_cells
from orchestrator.ensembling.final import finalize
from tests.orchestrator.fake_run import Trial, make_run, make_sweep

LEVELS = {"name": "levels", "over": "sparsity.level", "per": ["data.stream"]}
FINAL = {"name": "final", "from": ["levels"], "over": "data.stream"}


def evaluated(tmp_path, trials, *recipes, **options):
    run, sweep = make_run(tmp_path, trials, **options), make_sweep(*recipes)
    members = collect(run, sweep)
    finalize(run, sweep, members, missing_cells(run, members))
    return run


def disjoint_errors(streams=("joint", "bone"), levels=(0.0, 0.6), size=7):
    """Networks that never err on the same test clip, the first the best on the selection split."""
    grid = [(stream, level) for stream in streams for level in levels]
    return [
        Trial(
            s,
            v,
            wrong_selection=tuple(range(i + 1)),
            wrong_test=tuple(range(size * i, size * i + size)),
        )
        for i, (s, v) in enumerate(grid)
    ]
