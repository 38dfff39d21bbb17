"""`orchestrate models`, `bench`, `import-weights`, `pack`: networks without a sweep.

A few lines each; imports inside keep --help light.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from orchestrator.cli.commands.exporting import export
from orchestrator.cli.commands.options import Json, Storage
from orchestrator.cli.commands.weights import import_weights
from trainables.contract.errors import UserError

Layout = Annotated[str, typer.Option("--layout", help="Take this built-in layout, or a YAML file.")]
Frames = Annotated[int, typer.Option("--frames", min=2, help="Take clips of so many frames.")]
Persons = Annotated[int, typer.Option("--persons", min=1, help="Take clips of so many persons.")]
Classes = Annotated[
    int, typer.Option("--classes", min=1, help="Take networks that tell so many classes apart.")
]
Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME",
        help="Measure these backbones, or the networks of these sweeps; without a name all"
        " backbones.",
    ),
]
BatchSizes = Annotated[
    list[int] | None,
    typer.Option(
        "--batch",
        min=1,
        help="Run so many clips at a time; may be repeated.  [default: 1 and 64]",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        help="Use so many CPU threads.  [default: as torch takes; for a sweep's networks as they"
        " were timed before]",
    ),
]
Channels = Annotated[
    int, typer.Option("--channels", min=8, help="Build networks whose first stage is so wide.")
]
Rounds = Annotated[int, typer.Option("--rounds", min=1, help="Give every network so many turns.")]
Single = Annotated[
    float,
    typer.Option(
        "--single", min=0.0, max=1.0, help="Make this share of the clips hold one person only."
    ),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"],
    typer.Option("--device", help="Measure on this device; auto is cuda if there is one."),
]
Settle = Annotated[
    bool,
    typer.Option("--settle", help="Find first how each deploy form runs fastest on this machine."),
]


def models(
    classes: Classes = 120,
    layout: Layout = "ntu25",
    frames: Frames = 64,
    persons: Persons = 2,
    as_json: Json = False,
) -> None:
    """List the backbones: parameters and MACs of both forms, the papers' figures, options."""
    from orchestrator.planning.catalogue import catalogue
    from trainables.data.readers.layout_file import find_layout

    listed = catalogue(find_layout(layout), classes=classes, frames=frames, persons=persons)
    if as_json:
        print(json.dumps(listed.to_json(), indent=2))
    else:
        from orchestrator.cli.printing.networks import print_catalogue

        print_catalogue(listed)


def bench(
    backbones: Names = None,
    batch: BatchSizes = None,
    threads: Threads = None,
    layout: Layout = "ntu25",
    frames: Frames = 64,
    persons: Persons = 2,
    classes: Classes = 120,
    channels: Channels = 64,
    rounds: Rounds = 10,
    single: Single = 0.0,
    device: Device = "auto",
    settle: Settle = False,
    storage: Storage = "runs",
    as_json: Json = False,
) -> None:
    """Measure the latency of deploy forms and training forms on this machine.

    Those of a sweep's trials are timed again, in turns, and noted as measured by bench.
    """
    runs = _sweeps(backbones or (), storage)
    if runs:
        of_backbones = (batch, layout, frames, persons, classes, channels, single, settle)
        if of_backbones != (None, "ntu25", 64, 2, 120, 64, 0.0, False):
            raise UserError(
                "bench: of a sweep's networks --threads, --rounds and --device can be chosen; the"
                " trials decide everything else"
            )
        _bench_sweeps(runs, threads, rounds, device, as_json)
        return
    from trainables.data.readers.layout_file import find_layout
    from trainables.deploy.bench import Setting
    from trainables.deploy.bench import bench as measure

    skeleton = find_layout(layout)
    setting = Setting(
        tuple(batch or (1, 64)),
        skeleton.name,
        frames,
        persons,
        classes,
        channels,
        rounds,
        single,
        threads,
        device,
        settle,
    )
    measured = measure(
        backbones or (),
        skeleton,
        setting,
        note=lambda text: print(text, file=sys.stderr, flush=True),
    )
    if as_json:
        print(json.dumps(measured.to_json(), indent=2))
    else:
        from orchestrator.cli.printing.networks import print_bench

        print_bench(measured)


def _sweeps(names: Sequence[str], storage: str) -> list[Path]:
    """The folders of the sweeps that all of `names` are; nothing where none is one."""
    from orchestrator.record.folder import find_folder, list_names
    from trainables.contract.backbones import BACKBONES

    known = set(list_names(storage)) - set(BACKBONES.names())
    runs = {
        name: find_folder(name, storage)
        for name in names
        if name in known or Path(name, "resolved.json").is_file()
    }
    others = [name for name in names if name not in runs]
    if runs and others:
        raise UserError(
            f"bench: name backbones or sweeps, got sweep {next(iter(runs))} beside {others[0]}"
        )
    for name in others:
        try:
            BACKBONES.find(name)
        except UserError as error:
            there = ", ".join(sorted(known)) or "none"
            raise UserError(
                f"bench: {name}: must be a backbone or a sweep; the sweeps in {storage}/ are"
                f" {there}; a backbone {error}"
            ) from error
    return list(runs.values())


def _bench_sweeps(
    runs: Sequence[Path], threads: int | None, rounds: int, device: str, as_json: bool
) -> None:
    from orchestrator.planning.machine import present
    from orchestrator.record.commands import command
    from orchestrator.record.copies import here, send
    from orchestrator.record.networks import networks_of, threads_of
    from trainables.deploy.bench import find_device
    from trainables.deploy.timing import Turns, runs_sparse, time_in_turns

    on, load = find_device(device), os.getloadavg()[0]
    networks = networks_of(runs, sparse=runs_sparse(on))
    if threads is None:
        threads = _usual_threads(threads_of(networks), cores=present()[0])
    latencies = time_in_turns(
        [here(network.trials[0].deploy_file) for network in networks],
        Turns(on, rounds, threads),
        note=lambda text: print(text, file=sys.stderr, flush=True),
    )
    for network, latency in zip(networks, latencies, strict=True):
        for trial in network.trials:
            trial.save_latency(latency)
            send(trial.latency_file)
    if as_json:
        rows = [
            {"trials": [str(trial.path) for trial in network.trials], **latency.model_dump()}
            for network, latency in zip(networks, latencies, strict=True)
        ]
        print(json.dumps(rows, indent=2))
        return
    from orchestrator.cli.printing.networks import print_latencies

    print_latencies(networks, latencies, load)
    for run in runs:
        print(f"next: {command('ensemble', run)} writes the figures into its report")


def _usual_threads(timed: Sequence[int], cores: int) -> int | None:
    """The most with which networks were timed before, None where none was; says so where they
    differ. UserError where this machine has fewer cores.
    """
    if not timed:
        return None
    most = timed[-1]
    if most > cores:
        raise UserError(
            f"--threads: must be given: networks were timed with {most} threads, and this"
            f" machine has {cores} cores"
        )
    if len(timed) > 1:
        numbers = " and ".join(map(str, timed))
        print(
            f"threads   {most}, the most of {numbers} with which they were timed before;"
            " --threads chooses others",
            file=sys.stderr,
        )
    return most


def pack(
    source: Annotated[
        str,
        typer.Argument(
            metavar="TRIAL",
            help="Take SWEEP/TRIAL, the folder of a trial, or a deploy form's file.",
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Write this file.")],
    half: Annotated[
        bool,
        typer.Option(
            "--half",
            help="Round weights to half precision: the file halves, scores change a little.",
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace OUT if it is there already.")
    ] = False,
    storage: Storage = "runs",
    as_json: Json = False,
) -> None:
    """Write a deploy form anew: zeros left out, weights rounded to half precision where asked."""
    from dataclasses import asdict

    from trainables.deploy.rewrite import pack_deploy

    packed = pack_deploy(_trial_or_file(source, storage), out, half=half, force=force)
    if as_json:
        print(json.dumps(asdict(packed), indent=2))
        return
    print(f"{packed.source}: {packed.params:,} parameters in {packed.bytes_before:,} bytes")
    print(
        f"{packed.out}: {packed.nonzero_params:,} that are not zero in {packed.bytes_after:,} bytes"
    )
    if packed.rounded:
        print(
            f"rounded to half precision: by at most {packed.largest_change:.1e} of the largest"
            " weight of a tensor"
        )
    if packed.compact:
        print(
            "many of its channels are useless: trainables.deploy.compact.compact(load_deploy(OUT))"
            " runs without them, faster"
        )
    if packed.sparse:
        print(
            "on this machine it is faster on its kept weights alone:"
            " trainables.deploy.sparse.runtime.run_sparse(load_deploy(OUT))"
        )


def _trial_or_file(text: str, storage: str) -> Path:
    """The folder or file of that name, or else the trial's deploy form that `text` names."""
    if Path(text).exists():
        return Path(text)
    from orchestrator.ensembling.find_model import find_model
    from orchestrator.record.copies import here
    from trainables.contract.artifacts import TrialDir

    rule = f"{text}: must be SWEEP/TRIAL, the folder of a trial or a deploy form's file"
    try:
        found = find_model(text, storage)
    except UserError as error:
        raise UserError(f"{rule}, and there is none of that name") from error
    if found.kind != "trial" or found.path is None:
        raise UserError(f"{rule}, got {found.kind}")
    return here(TrialDir(found.path).deploy_file)


COMMANDS: dict[str, Callable[..., None]] = {
    "models": models,
    "bench": bench,
    "import-weights": import_weights,
    "pack": pack,
    "export": export,
}
