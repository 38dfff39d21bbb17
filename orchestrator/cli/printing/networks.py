"""What `models`, `bench` and `import-weights` print: tables on standard output.

Knows how to print, not how to count or to measure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.cli.printing.tables import Column, console, plain, print_fitted, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from orchestrator.planning.catalogue import Catalogue, Entry
    from orchestrator.record.networks import TimedNetwork
    from trainables.contract.artifacts import Latency
    from trainables.deploy.bench import Bench, Measured
    from trainables.foreign.importing import Report


SIZES_WIDTH = 130  # of a terminal that shows a table of sizes or times line by line
BUSY = 0.5
"""Load of the machine (processes that want to run) above which figures are said to be doubtful."""


def print_catalogue(catalogue: Catalogue) -> None:
    """Backbones with their sizes, their defaults, then what every option may be."""
    out = console(least=SIZES_WIDTH)
    sizes = (
        f"{catalogue.layout}, {catalogue.classes} classes, {catalogue.frames} frames,"
        f" {catalogue.persons} person{'s' if catalogue.persons > 1 else ''}"
    )
    columns = (
        "params",
        "maskable\n%",
        "deploy\nparams",
        "deploy\nGMACs",
        "released\nparams",
        "without\nadjacency",
        "released\nGMACs",
        "without\nmixing",
    )
    rows = table("backbone", *columns, title=f"Backbones with their defaults: {sizes}")
    defaults = table(
        "backbone",
        text="defaults",
        title="Their options; those of all backbones only where the default differs",
    )
    for entry in catalogue.backbones:
        share = f"{100 * entry.maskable_params / entry.params:.0f}"
        numbers = (
            f"{entry.params:,}",
            share,
            f"{entry.deploy_params:,}",
            f"{entry.deploy_gmacs:.3f}",
        )
        released = (
            f"{entry.released_params:,}",
            f"{entry.released_leaf_params:,}",
            f"{entry.released_gmacs:.3f}",
            f"{entry.released_leaf_gmacs:.3f}",
        )
        rows.add_row(entry.backbone, *numbers, *released)
        defaults.add_row(entry.backbone, _defaults(catalogue, entry))
    out.print(rows)
    out.print(defaults)
    options = table("option", text="may be", title="Options, under model. in a sweep file")
    options.add_column("is", overflow="fold")
    for option in catalogue.options:
        options.add_row(option.name, option.allowed, option.meaning)
    out.print(options)
    out.print(
        "maskable: share of the parameters that sparsity may remove; a level is of these",
        soft_wrap=True,
    )
    out.print(
        "released: the released code at inference; HPI-GCN's paper counts without adjacency"
        " matrices and joint mixing, the others with them",
        soft_wrap=True,
    )


def _defaults(catalogue: Catalogue, entry: Entry) -> str:
    """`groups=8, input_block=auto, ...`: without the common options whose default is the same
    everywhere.
    """
    same = {
        option.name
        for option in catalogue.options
        if option.common
        and len({repr(other.options[option.name]) for other in catalogue.backbones}) == 1
    }
    return ", ".join(
        f"{name}={plain(value)}" for name, value in entry.options.items() if name not in same
    )


def print_bench(bench: Bench) -> None:
    """One table per batch size, and what was measured on."""
    out = console(least=SIZES_WIDTH)
    setting = bench.setting
    first = next(row.backbone for row in bench.measured if row.form == "deploy")
    for position, batch in enumerate(setting.batches):
        columns = (
            "params",
            "GMACs",
            "peak MB",
            "median ms",
            "quartiles",
            "clips/s",
            "training /\nthis",
            f"{first}\ndeploy / this",
        )
        rows = table("network", *columns, title=f"Batch {batch}{_singles(bench, batch)}")
        for row in bench.measured:
            timing = row.timings[position]
            times = (
                f"{timing.median_ms:.2f}",
                f"{timing.low_ms:.2f} - {timing.high_ms:.2f}",
                f"{timing.clips_per_s:,.1f}",
            )
            ratios = (
                f"{timing.to_training:.2f}",
                f"{timing.to_first:.2f}" if row.form == "deploy" else "",
            )
            rows.add_row(
                f"{row.backbone} {row.form}{_runs(bench, row)}",
                f"{row.params:,}",
                f"{row.gmacs:.3f}",
                f"{timing.peak_mb:.1f}",
                *times,
                *ratios,
            )
        out.print(rows)
    threads = f"{bench.threads} thread{'s' if bench.threads > 1 else ''}"
    sizes = (
        f"{setting.layout}, {setting.frames} frames, {setting.persons} persons, {setting.classes}"
        f" classes, {setting.channels} channels"
    )
    out.print(
        f"on        {bench.processor} ({bench.device}), {threads}, torch {bench.torch}",
        soft_wrap=True,
    )
    _warn_of(out, bench.load)
    out.print(
        f"input     {sizes}, float32; {setting.rounds} round{'s' * (setting.rounds != 1)} in turns"
        " after warm-up",
        soft_wrap=True,
    )
    out.print(
        "ratios    above 1: this network is that much faster; GMACs per clip with all its persons",
        soft_wrap=True,
    )


def _warn_of(out: Console, load: float) -> None:
    """Say that figures are doubtful where the machine had other work."""
    if load > BUSY:
        out.print(
            f"note      the machine was busy: its load was {load:.1f} before the start;"
            " measure on an idle one",
            soft_wrap=True,
        )


def print_latencies(
    networks: Sequence[TimedNetwork], latencies: Sequence[Latency], load: float
) -> None:
    """The networks of sweeps, one row for each structure, and where they were timed; load: of the
    machine in the minute before.
    """
    out = console()

    def milliseconds(name: str) -> list[str]:
        known = [getattr(latency, name) for latency in latencies]
        return ["" if each is None else f"{each:.2f}" for each in known]

    columns = [
        Column("deploy params", [f"{each.cost.deploy_params:,}" for each in networks], 3),
        Column("GMACs", [f"{each.cost.deploy_gmacs:.3f}" for each in networks], 4),
        Column("latency ms", milliseconds("deploy_latency_ms"), 0),
        Column("batch 64 ms", milliseconds("deploy_batch64_latency_ms"), 1),
        Column("compact ms", milliseconds("compact_latency_ms"), 2),
        Column("sparse ms", milliseconds("sparse_latency_ms"), 2),
    ]
    names = [network.name for network in networks]
    print_fitted(out, ("network", names), columns, "Deploy forms", "--json has every figure")
    first = latencies[0]
    threads = f"{first.latency_threads} thread{'s' if first.latency_threads > 1 else ''}"
    out.print(f"on        {first.latency_device}, {threads}, float32; in turns", soft_wrap=True)
    _warn_of(out, load)


def _runs(bench: Bench, row: Measured) -> str:
    """How a deploy form was found to run fastest."""
    return f" ({row.runs})" if bench.setting.settle and row.form == "deploy" else ""


def _singles(bench: Bench, batch: int) -> str:
    return (
        f", {bench.single_clips[batch]} of {batch} clips with one person"
        if bench.setting.single
        else ""
    )


def print_import(report: Report) -> None:
    """What the checkpoint held, tensor by tensor where something is not simply taken over, and what
    was written.
    """
    out = console()
    facts = table("checkpoint", text=report.checkpoint)
    for name, value in (
        ("read as", f"{report.backbone}: {report.source}"),
        (
            "network",
            ", ".join(
                f"{name}={plain(value)}"
                for name, value in report.model.items()
                if name != "backbone"
            ),
        ),
        (
            "for",
            (
                f"{report.layout}, {report.persons} person{'s' if report.persons > 1 else ''},"
                f" {report.classes} classes"
            ),
        ),
        ("matched", f"{report.matched} of {report.tensors} tensors"),
        ("unused", _grouped(report.unused)),
        ("constructed", ", ".join(report.constructed) or "none"),
        *(("assumed", text) for text in report.assumed),
        ("params", "" if report.params is None else f"{report.params:,}"),
        ("deploy params", f"{report.deploy_params:,}"),
        ("folded", report.folded),
        *((f"wrote {name}", path) for name, path in report.written.items()),
    ):
        facts.add_row(name, value)
    out.print(facts)


def _grouped(unused: dict[str, str]) -> str:
    """`9: the frozen skeleton graph, which no layer reads; ...`."""
    reasons = list(dict.fromkeys(unused.values()))
    return (
        "; ".join(
            f"{sum(why == reason for why in unused.values())}: {reason}" for reason in reasons
        )
        or "none"
    )
