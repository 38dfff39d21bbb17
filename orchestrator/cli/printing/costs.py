"""The tables of `orchestrate plan`. Knows how to print a plan, not how to make one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.cli.printing.tables import Column, console, plain, print_fitted
from orchestrator.planning.plan import Plan
from orchestrator.planning.sharing import SharedPlan
from orchestrator.planning.stopping import EarlyStopping
from orchestrator.planning.variants import Variant

if TYPE_CHECKING:
    from rich.console import Console


MOST_LEVELS = 12  # of a variant in the table of non-zeros


def print_plan(plan: Plan) -> None:
    """Cells, variants, totals, and what the estimate rests on, to standard output."""
    out = console()
    print_cells(out, plan)
    print_variants(out, plan)
    if any(level != "0" for variant in plan.variants for level in variant.nonzero_params):
        print_nonzeros(out, plan)
        if any(variant.expected for variant in plan.variants):
            print(
                "~: expected; fusing adds and multiplies kernels, whose masks fill each other's"
                " holes (sparsity.sharing keeps them)"
            )
    done = f", {plan.done} ended" if plan.done else ""
    cells = f"{len(plan.cells)} cell{'s' * (len(plan.cells) != 1)}"
    trials = f"{plan.trials} trial{'s' * (plan.trials != 1)}"
    print(f"sweep      {plan.name} ({plan.digest}): {cells}, {trials}{done}")
    if plan.waiting:
        print(
            f"order      dense trials first; {plan.waiting} trials start from the weights of theirs"
        )
    if plan.shared is not None and plan.shared.trials:
        print(f"shared     {shared_words(plan.shared)}")
    print(
        f"clips      {plan.training_clips} training, {plan.selection_clips} selection,"
        f" {plan.test_clips} test"
    )
    print(
        f"time       {duration(plan.trial_hours)} of trials, {duration(plan.wall_hours)} in all on"
        f" this machine: {plan.machine.describe()}"
    )
    if plan.early is not None:
        print_early(plan, plan.early)
    print(f"memory     {_memory(plan)}")
    free = "" if plan.disk_free_gb is None else f", {plan.disk_free_gb:.3g} GB are free"
    print(f"disk       {plan.disk_gb:.3f} GB{free}")
    print(f"MLflow     {plan.mlflow_runs} runs")
    for variant in plan.variants:
        print(f"training   {_name(variant)} {'; '.join(variant.fast) or 'plain steps'}")
    for text in plan.ensembles:
        print(f"ensembles  {text}")
    for text in plan.assumptions:
        print(f"assuming   {text}")
    for text in plan.notes:
        print(f"note       {text}")


def shared_words(shared: SharedPlan) -> str:
    """`2 beginnings of 6 epochs, trained once: 6 trials start from one, which saves 12 min`."""
    number = f"{shared.beginnings} beginning{'s' * (shared.beginnings != 1)}"
    epochs = " or ".join(map(str, shared.epochs))
    start = f"{shared.trials} trial{'s start' if shared.trials != 1 else ' starts'} from one"
    saved = duration(shared.hours_saved)
    return f"{number} of {epochs} epochs, trained once: {start}, which saves {saved}"


def print_early(plan: Plan, early: EarlyStopping) -> None:
    """Where trials are compared, how many go on, and what that is expected to save."""
    for kind in early.kinds:
        cells = "1 cell" if kind.cells == 1 else f"{kind.cells} cells"
        if not kind.points:
            continue
        *first, last = map(str, kind.points)
        places = f"{', '.join(first)} and {last}" if first else last
        *go_on, end = (f"{low}" if low == high else f"{low} to {high}" for low, high in kind.reach)
        print(
            f"stopping   {early.rule} in {cells} of {kind.trials} trials, after {places} of"
            f" {kind.epochs} epochs: {', then '.join(go_on)} go on, {end} to the last"
        )
    if early.never:
        print(f"stopping   never of the {early.never} dense trials that others start from")
    low, high = plan.expected_hours
    print(f"expected   {early.words}: {duration(low)} to {duration(high)} on this machine")


def duration(hours: float) -> str:
    """`45 s`, `12 min`, `3.4 h`: hours in the unit that suits them."""
    seconds = hours * 3600
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if hours < 2 else f"{hours:,.1f} h"


def _memory(plan: Plan) -> str:
    """What the largest trial is expected to take, beside what there is."""
    memory = plan.memory
    there = "" if memory.machine_gb is None else f" of {memory.machine_gb:.3g}"
    card = "" if memory.card_gb is None else f" of {memory.card_gb:.3g}"
    gpu = f", {memory.gpu_gb:.2g}{card} GB of GPU memory" if memory.gpu_gb else ""
    return f"{memory.main_gb:.2g}{there} GB of main memory{gpu} for the largest trial, about"


ELSEWHERE = "--json has every figure"


def print_cells(out: Console, plan: Plan) -> None:
    """How many trials every cell has, how many have ended, and how long all take."""
    columns = [
        Column("trials", [str(cell.trials) for cell in plan.cells], 1),
        Column("ended", [str(cell.trials_done) for cell in plan.cells], 2),
        Column("time", [duration(cell.hours) for cell in plan.cells], 0),
    ]
    if any(cell.after for cell in plan.cells):
        columns.append(Column("starts from", [", ".join(cell.after) for cell in plan.cells], 3))
    print_fitted(out, ("cell", [cell.cell for cell in plan.cells]), columns, "Cells", ELSEWHERE)


def print_variants(out: Console, plan: Plan) -> None:
    """The different networks: sizes, work, and how long a trial takes."""
    variants = plan.variants
    columns = [
        Column("params", [f"{variant.params:,}" for variant in variants], 0),
        Column("deploy params", [f"{variant.deploy_params:,}" for variant in variants], 2),
        Column("GMACs", [f"{variant.gmacs:.3f}" for variant in variants], 4),
        Column("deploy GMACs", [f"{variant.deploy_gmacs:.3f}" for variant in variants], 5),
        Column("trials", [str(variant.trials) for variant in variants], 3),
        Column("each", [duration(variant.seconds_per_trial / 3600) for variant in variants], 1),
    ]
    names = [_name(variant) for variant in variants]
    print_fitted(out, ("model, streams", names), columns, "Variants", ELSEWHERE)


def print_nonzeros(out: Console, plan: Plan) -> None:
    """Two rows per network, training form and deploy form; a column per level, of which a narrow
    terminal shows the lowest.
    """
    levels = list(dict.fromkeys(level for variant in plan.variants for level in _shown(variant)))
    rows = [
        row
        for variant in plan.variants
        for row in (
            (_name(variant), "training", variant, variant.nonzero_params, ()),
            ("", "deploy", variant, variant.deploy_nonzero_params, variant.expected),
        )
    ]
    columns = [Column("form", [form for _, form, *_ in rows], -1)]
    for rank, level in enumerate(levels):
        cells = []
        for _, _, variant, params, about in rows:
            sign = "<= " if level in variant.at_most else "~" if level in about else ""
            cells.append(f"{sign}{params[level]:,}" if level in params else "")
        columns.append(Column(level, cells, rank))
    title = "Non-zero parameters by sparsity level"
    print_fitted(out, ("model, streams", [name for name, *_ in rows]), columns, title, ELSEWHERE)


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
