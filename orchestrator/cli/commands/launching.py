"""`orchestrate launch`: a sweep handed to a cluster's own scheduler.

A few lines each; imports inside keep --help light.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.commands.options import Json

if TYPE_CHECKING:
    from orchestrator.launch.request import Rendered, Work

launch_app = typer.Typer(
    help="Hand a sweep to a cluster: render what is asked for, and submit it.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

File = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="Run this sweep file, as the cluster sees it, or the shipped search space of this"
        " name.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=V", help="Override a value of the file; may be repeated."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what would be submitted, and submit nothing.")
]
Folder = Annotated[
    str | None,
    typer.Option(
        "--folder",
        help="Start the sweep in this folder of the cluster, absolute; relative paths begin there.",
    ),
]
Image = Annotated[
    str, typer.Option("--image", help="Use this container image, with `orchestrate` in it.")
]
Mount = Annotated[
    str, typer.Option("--mount", help="Mount the storage at this path of the container.")
]


@launch_app.command("slurm")
def launch_slurm(
    file: File,
    partition: Annotated[
        str, typer.Option("--partition", help="Ask this partition for the nodes.")
    ],
    time: Annotated[
        str, typer.Option("--time", help="End, and begin again, after this time: 24:00:00.")
    ],
    cpus: Annotated[int, typer.Option("--cpus", help="Ask for so many cores of each node.")],
    overrides: Overrides = None,
    nodes: Annotated[int, typer.Option("--nodes", help="Ask for so many nodes.")] = 1,
    gpus: Annotated[int, typer.Option("--gpus", help="Ask for so many GPUs of each node.")] = 0,
    memory: Annotated[
        str | None, typer.Option("--memory", help="Ask for so much memory of each node: 64G.")
    ] = None,
    account: Annotated[
        str | None, typer.Option("--account", help="Let this account pay for it.")
    ] = None,
    qos: Annotated[
        str | None, typer.Option("--qos", help="Ask for this quality of service.")
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole-node", help="Share the node with nobody; several never are.")
    ] = False,
    environment: Annotated[
        str | None,
        typer.Option(
            "--environment", help="Use this Python environment on the nodes; default: this one."
        ),
    ] = None,
    folder: Folder = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Submit a batch job to Slurm, with `sbatch`.

    It writes checkpoints before its time ends or when it is preempted, and then queues again.
    """
    from orchestrator.launch.slurm import SlurmRequest, render_slurm

    asked = SlurmRequest(
        partition=partition,
        time=time,
        cpus=cpus,
        environment=environment or sys.prefix,
        nodes=nodes,
        gpus=gpus,
        memory=memory,
        account=account,
        qos=qos,
        whole=whole,
    )
    work = _work(file, overrides, folder).starting_in(str(Path.cwd()))
    _launch(render_slurm(work, asked), dry_run, as_json)


@launch_app.command("ray")
def launch_ray(
    file: File,
    address: Annotated[
        str, typer.Option("--address", help="Submit to the dashboard at http://HOST:8265.")
    ],
    overrides: Overrides = None,
    folder: Folder = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Submit a job to a Ray cluster that runs, with `ray job submit`.

    The folder lies under the same path on every node; a sweep at addresses needs none.
    """
    from orchestrator.launch.ray_job import RayRequest, render_ray

    work = _work(file, overrides, folder)
    if not work.at_addresses:
        work = work.starting_in(str(Path.cwd()))
    _launch(render_ray(work, RayRequest(address)), dry_run, as_json)


@launch_app.command("kuberay")
def launch_kuberay(
    file: File,
    image: Image,
    overrides: Overrides = None,
    workers: Annotated[int, typer.Option("--workers", help="Ask for so many workers.")] = 1,
    cpus: Annotated[int, typer.Option("--cpus", help="Ask for so many cores of each.")] = 8,
    gpus: Annotated[int, typer.Option("--gpus", help="Ask for so many GPUs of each.")] = 1,
    memory: Annotated[
        str, typer.Option("--memory", help="Ask for so much memory of each worker.")
    ] = "32Gi",
    claim: Annotated[
        str | None,
        typer.Option(
            "--claim",
            help="Mount this PersistentVolumeClaim in every pod.",
            show_default="sweeps; none where storage and store are addresses",
        ),
    ] = None,
    mount: Mount = "/sweeps",
    namespace: Annotated[
        str, typer.Option("--namespace", help="Create the job in this namespace.")
    ] = "default",
    queue: Annotated[
        str | None, typer.Option("--queue", help="Wait in this LocalQueue of Kueue.")
    ] = None,
    secret: Annotated[
        str | None,
        typer.Option("--secret", help="Give the pods the keys of this Secret as variables."),
    ] = None,
    folder: Folder = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Create a RayJob of KubeRay in Kubernetes, with `kubectl`.

    The job gets a Ray cluster of its own, and another one where that is lost.
    """
    from orchestrator.launch.kuberay import KubeRayRequest, render_kuberay

    work = _work(file, overrides, folder)
    if claim is None and not work.at_addresses:
        claim = "sweeps"
    asked = KubeRayRequest(
        image=image,
        workers=workers,
        cpus=cpus,
        gpus=gpus,
        memory=memory,
        claim=claim,
        mount=mount,
        namespace=namespace,
        queue=queue,
        secret=secret,
    )
    _launch(render_kuberay(work.starting_in(asked.mounted), asked), dry_run, as_json)


@launch_app.command("skypilot")
def launch_skypilot(
    file: File,
    image: Image,
    overrides: Overrides = None,
    bucket: Annotated[
        str | None,
        typer.Option(
            "--bucket",
            help="Mount this bucket, s3://NAME; needed unless `storage` is an address.",
        ),
    ] = None,
    accelerators: Annotated[
        str | None, typer.Option("--accelerators", help="Ask for these GPUs: A100:4.")
    ] = None,
    cpus: Annotated[str, typer.Option("--cpus", help="Ask for so many cores, or more: 8+.")] = "8+",
    infra: Annotated[
        str | None, typer.Option("--infra", help="Look in this cloud or region only.")
    ] = None,
    spot: Annotated[
        bool, typer.Option("--spot/--on-demand", help="Take a machine that may be taken away.")
    ] = True,
    secret: Annotated[
        list[str] | None,
        typer.Option("--secret", help="Give the job this variable of yours; may be repeated."),
    ] = None,
    mount: Mount = "/sweeps",
    folder: Folder = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Launch a managed job of SkyPilot, with `sky`.

    It moves to another machine, and goes on there, when its own is taken away.
    """
    from orchestrator.launch.skypilot import SkyPilotRequest, render_skypilot

    asked = SkyPilotRequest(
        image=image,
        bucket=bucket,
        accelerators=accelerators,
        cpus=cpus,
        infra=infra,
        spot=spot,
        mount=mount,
        secrets=tuple(secret or ()),
    )
    work = _work(file, overrides, folder).starting_in(asked.mounted)
    _launch(render_skypilot(work, asked), dry_run, as_json)


def _work(file: str, overrides: list[str] | None, folder: str | None) -> Work:
    """The sweep, found good without its data, which may be on the cluster alone."""
    from orchestrator.launch.request import Work
    from orchestrator.planning.check import checked_sweep

    sweep = checked_sweep(file, overrides or (), data=False)
    places = {
        "storage": sweep.storage,
        "store": sweep.data.store,
        "tracking": sweep.tracking.uri,
    }
    return Work(sweep.name, file, folder, tuple(overrides or ()), **places)


def _launch(rendered: Rendered, dry_run: bool, as_json: bool) -> None:
    from orchestrator.launch.submit import submit

    answer = None if dry_run else submit(rendered)
    if as_json:
        told = {
            "kind": rendered.kind,
            "file": rendered.text,
            "command": list(rendered.command),
            "submitted": not dry_run,
            "answer": answer,
        }
        print(json.dumps(told, indent=2))
    elif dry_run:
        print(rendered.text, end="")
        print(f"submitted with: {rendered.shown()}", file=sys.stderr)
    else:
        print(answer)
