"""The tables of `orchestrate plan`. Knows how to print a plan, not how to make one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.cli.printing.tables import console, plain, table
from orchestrator.planning.plan import Plan, Variant

if TYPE_CHECKING:
    from rich.table import Table


MOST_LEVELS = 12  # of a variant in the table of non-zeros


def print_plan(plan: Plan) -> None:
    """Cells, variants, totals, and what the estimate rests on, to standard output."""
    out = console()
    out.print(_cells(plan))
    out.print(_variants(plan))
    if any(level != "0" for variant in plan.variants for level in variant.nonzero_params):
        out.print(_nonzeros(plan))
        if any(variant.expected for variant in plan.variants):
            print(
                "~: expected; fusing adds and multiplies kernels, whose masks fill each other's"
                " holes (sparsity.sharing keeps them)"
            )
    done = f", {plan.done} complete" if plan.done else ""
    print(
        f"sweep      {plan.name} ({plan.digest}): {len(plan.cells)} cells, {plan.trials}"
        f" trials{done}"
    )
    if plan.waiting:
        print(
            f"order      dense trials first; {plan.waiting} trials start from the weights of theirs"
        )
    print(
        f"clips      {plan.training_clips} training, {plan.selection_clips} selection,"
        f" {plan.test_clips} test"
    )
    print(
        f"time       {duration(plan.training_hours)} of training, {duration(plan.wall_hours)} on"
        f" this machine: {plan.machine.describe()}"
    )
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


def _cells(plan: Plan) -> Table:
    waits = any(cell.after for cell in plan.cells)
    rows = table(
        "cell",
        "trials",
        "complete",
        "training",
        text="starts from" if waits else None,
        title="Cells",
    )
    for cell in plan.cells:
        after = [", ".join(cell.after)] if waits else []
        rows.add_row(
            cell.cell, str(cell.trials), str(cell.trials_done), duration(cell.hours), *after
        )
    return rows


def _variants(plan: Plan) -> Table:
    rows = table(
        "model, streams",
        "params",
        "deploy\nparams",
        "GMACs",
        "deploy\nGMACs",
        "trials",
        "each",
        title="Variants",
    )
    for variant in plan.variants:
        rows.add_row(
            _name(variant),
            f"{variant.params:,}",
            f"{variant.deploy_params:,}",
            f"{variant.gmacs:.3f}",
            f"{variant.deploy_gmacs:.3f}",
            str(variant.trials),
            duration(variant.seconds_per_trial / 3600),
        )
    return rows


def _nonzeros(plan: Plan) -> Table:
    levels = list(dict.fromkeys(level for variant in plan.variants for level in _shown(variant)))
    rows = table("model, streams", "form", *levels, title="Non-zero parameters by sparsity level")
    for variant in plan.variants:
        for name, form, params, about in (
            (_name(variant), "training", variant.nonzero_params, ()),
            ("", "deploy", variant.deploy_nonzero_params, variant.expected),
        ):
            signs = {
                level: "<= " if level in variant.at_most else "~" if level in about else ""
                for level in params
            }
            rows.add_row(
                name,
                form,
                *(
                    f"{signs[level]}{params[level]:,}" if level in params else ""
                    for level in levels
                ),
            )
    return rows


def _shown(variant: Variant) -> list[str]:
    """The variant's levels; of many, which a range gives, the lowest and the highest."""
    levels = list(variant.nonzero_params)
    return levels if len(levels) <= MOST_LEVELS else [levels[0], levels[-1]]


def _name(variant: Variant) -> str:
    """`hpi_gcn_rp kernel_size=5: joint, joint_motion`."""
    rest = [
        f"{name.partition('.')[2]}={plain(value)}"
        for name, value in variant.settings.items()
        if name != "model.backbone"
    ]
    return (
        f"{' '.join([str(variant.settings['model.backbone']), *rest])}:"
        f" {', '.join(variant.streams)}"
    )
