"""The tables of `orchestrate plan`. Knows how to print a plan, not how to make one."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from orchestrator.plan import Plan, Variant


def print_plan(plan: Plan) -> None:
    """Cells, variants, totals, and what the estimate rests on, to standard output."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # a file or a pipe has no margin
    console.print(_cells(plan))
    console.print(_variants(plan))
    if any(level != "0" for variant in plan.variants for level in variant.nonzero_params):
        console.print(_nonzeros(plan))
    done = f", {plan.done} complete" if plan.done else ""
    print(f"sweep      {plan.name} ({plan.digest}): {len(plan.cells)} cells, {plan.trials} trials{done}")
    print(f"clips      {plan.training_clips} training, {plan.selection_clips} selection, {plan.test_clips} test")
    print(f"time       {duration(plan.training_hours)} of training, {duration(plan.wall_hours)} on this machine: {plan.machine.describe()}")
    print(f"disk       {plan.disk_gb:.3f} GB")
    print(f"MLflow     {plan.mlflow_runs} runs")
    for text in plan.assumptions:
        print(f"assuming   {text}")
    for text in plan.notes:
        print(f"note       {text}")


def duration(hours: float) -> str:
    """`45 s`, `12 min`, `3.4 h`: hours in the unit that suits them."""
    seconds = hours * 3600
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if hours < 2 else f"{hours:,.1f} h"


def _table(title: str, first: str, *numbers: str) -> Table:
    """The first column is folded where the terminal is narrow, numbers never."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column(first, overflow="fold", min_width=16)
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _cells(plan: Plan) -> Table:
    table = _table("Cells", "cell", "trials", "complete", "training")
    for cell in plan.cells:
        table.add_row(cell.cell, str(cell.trials), str(cell.trials_done), duration(cell.hours))
    return table


def _variants(plan: Plan) -> Table:
    table = _table("Variants", "model, streams", "params", "deploy\nparams", "GMACs", "deploy\nGMACs", "trials", "each")
    for variant in plan.variants:
        table.add_row(
            _name(variant),
            f"{variant.params:,}",
            f"{variant.deploy_params:,}",
            f"{variant.gmacs:.3f}",
            f"{variant.deploy_gmacs:.3f}",
            str(variant.trials),
            duration(variant.seconds_per_trial / 3600),
        )
    return table


def _nonzeros(plan: Plan) -> Table:
    levels = list(dict.fromkeys(level for variant in plan.variants for level in variant.nonzero_params))
    table = _table("Non-zero parameters of the training form by sparsity level", "model, streams", *levels)
    for variant in plan.variants:
        cells = [variant.nonzero_params.get(level) for level in levels]
        table.add_row(_name(variant), *("" if nonzero is None else f"{nonzero:,}" for nonzero in cells))
    return table


def _name(variant: Variant) -> str:
    """`hpi_gcn_rp kernel_size=5: joint, joint_motion`."""
    rest = [f"{name.partition('.')[2]}={value}" for name, value in variant.settings.items() if name != "model.backbone"]
    return f"{' '.join([str(variant.settings['model.backbone']), *rest])}: {', '.join(variant.streams)}"
