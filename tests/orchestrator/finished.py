"""Sweeps that have ended, as `orchestrate` finds them, without any training."""

from __future__ import annotations

from pathlib import Path

from tests.orchestrator import fake_run
from tests.orchestrator.recorded import recorded
from tests.orchestrator.sweep_files import SMALL, loaded


def finished(folder: Path, text: str = SMALL, *, kind: str = "protocol", begin: int = 0) -> Path:
    """The folder of the sweep in `folder`/runs, every trial finished: trial i errs on clip
    `begin` + i of either split, and on the first one.
    """
    if not (folder / "store").exists():
        fake_run.make_store(folder / "store")
    sweep = loaded(
        folder,
        text,
        f"data.store={folder / 'store'}",
        f"data.selection={{kind: {kind}}}",
        f"storage={folder / 'runs'}",
    )
    run, trials = recorded(sweep)
    for number, trial in enumerate(trials, begin + 1):
        config = trial.config
        made = fake_run.Trial(
            stream=str(config.data.stream),
            level=float(config.sparsity.level),
            seed=config.seed,
            wrong_selection=(0, number % fake_run.SELECTION),
            wrong_test=(0, number % fake_run.TEST),
        )
        made.name = trial.proposal.trial
        fake_run._write_trial(
            trial.proposal.folder(run), config, made, held_out=sweep.data.selection.kind != "none"
        )
    return run
