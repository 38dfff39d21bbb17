"""A batch job of Slurm: one node, or several whole ones with a Ray of their own.

Knows no other scheduler.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from orchestrator.launch.request import (
    Rendered,
    Work,
    at_least,
    checked,
    matches,
    names,
    shared,
    unprintable,
)

WARNING_S = 300
"""Before the end of its time, or where it is preempted, a job is told: checkpoints take seconds."""

TIME = r"(\d+-)?\d+(:\d\d){0,2}"
"""Of Slurm: minutes, hours:minutes:seconds, days-hours, ..."""


@dataclass(frozen=True, slots=True)
class SlurmRequest:
    """What Slurm is asked for. A job of several nodes has them to itself, as Ray's ports must be
    free; a job of one node shares it unless `whole`.
    """

    partition: str
    time: str
    cpus: int  # of each node
    environment: str  # folder of the Python environment that has `orchestrate`
    nodes: int = 1
    gpus: int = 0  # of each node
    memory: str | None = None  # of each node; None: all of a whole node, else the site's default
    account: str | None = None
    qos: str | None = None
    whole: bool = False

    @property
    def exclusive(self) -> bool:
        """Whether its nodes are its own."""
        return self.whole or self.nodes > 1

    def problems(self) -> list[str]:
        """Every field that Slurm would not take."""
        return [
            *names(
                ("--partition", self.partition), ("--account", self.account), ("--qos", self.qos)
            ),
            *matches("--time", self.time, TIME, "a time of Slurm such as 24:00:00 or 2-00"),
            *matches("--memory", self.memory, r"\d+[KMGT]?", "an amount such as 64G"),
            *at_least("--cpus", self.cpus, 1),
            *at_least("--nodes", self.nodes, 1),
            *at_least("--gpus", self.gpus, 0),
            *unprintable(("--environment", self.environment)),
        ]


def render_slurm(work: Work, asked: SlurmRequest) -> Rendered:
    """The batch script, which `sbatch` reads from its standard input; UserError lists every field
    that cannot be.
    """
    checked([*work.problems(), *asked.problems(), *_without_folder(work), *shared(work)])
    parts = [
        _header(work, asked),
        _ON_SIGNAL,
        *([_CLUSTER] if asked.nodes > 1 else []),
        _sweep(work, asked),
    ]
    folder, environment = shlex.quote(str(work.folder)), shlex.quote(asked.environment)
    parts.insert(1, _PLACE.format(folder=folder, environment=environment))
    return Rendered("slurm", "\n".join(parts), ("sbatch", "--parsable"), ".sbatch")


def _without_folder(work: Work) -> list[str]:
    """A job's output goes to a folder, whatever its sweep needs."""
    return [] if work.folder else ["--folder: must be given, for the job's output"]


def _header(work: Work, asked: SlurmRequest) -> str:
    options = {
        "job-name": work.name,
        "partition": asked.partition,
        "account": asked.account,
        "qos": asked.qos,
        "time": asked.time,
        "nodes": asked.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": asked.cpus,
        "gpus-per-node": asked.gpus or None,
        "mem": asked.memory or ("0" if asked.exclusive else None),
        "signal": f"B:USR1@{WARNING_S}",
        "chdir": shlex.quote(str(work.folder)),  # where its output is
        "open-mode": "append",
        "output": f"{work.name}-%j.out",
    }
    lines = [f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None]
    lines += ["#SBATCH --requeue", *(["#SBATCH --exclusive"] if asked.exclusive else [])]
    return "\n".join(["#!/usr/bin/env bash", *lines, ""])


_PLACE = """\
set -euo pipefail
cd {folder}
export PATH={environment}/bin:"$PATH"
export OMP_NUM_THREADS=1 RAY_USAGE_STATS_ENABLED=0
"""

_ON_SIGNAL = """\
# Slurm says early that the job's time ends, or that it is preempted: trials write checkpoints, and
# the same job goes on from them when it is its turn again.
preempted=""
sweep=""
told=""
tell() {
    # once: a second signal would end it without checkpoints
    if [ -n "$sweep" ] && [ -z "$told" ]; then told=yes; kill -USR1 "$sweep" || true; fi
}
trap 'preempted=yes; tell' USR1
"""

_CLUSTER = """\
# A Ray of this job alone: whoever has its token may run code as you, so it is in a file of yours.
token="$PWD/.ray-token-$SLURM_JOB_ID"
trap 'rm -f "$token"' EXIT
(umask 077 && python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$token")
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH="$token"
export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"
read -r head < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
address="$head:6379"
srun --nodes=1 --ntasks=1 --nodelist="$head" \\
    ray start --head --node-ip-address="$head" --port=6379 --include-dashboard=false --block &
for attempt in $(seq 60); do
    if ray health-check --address "$address" >/dev/null 2>&1; then break; fi
    if [ "$attempt" = 60 ]; then echo "Ray's head on $head does not answer" >&2; exit 1; fi
    sleep 2
done
srun --nodes=$((SLURM_NNODES - 1)) --ntasks=$((SLURM_NNODES - 1)) --exclude="$head" \\
    ray start --address="$address" --block &
"""

_SWEEP = """\
# `scancel` sends this to the sweep, too, which needs no word of ours; who cancels a job does not
# want it back
trap : TERM
{command} &
sweep=$!
if [ -n "$preempted" ]; then tell; fi
# a signal ends `wait` before the sweep has ended
while kill -0 "$sweep" 2>/dev/null; do
    wait "$sweep" || true
done
code=0
wait "$sweep" || code=$?
# 130: it was interrupted, and every checkpoint is written; 138: it was told before it listened
if [ -n "$preempted" ] && {{ [ "$code" = 130 ] || [ "$code" = 138 ]; }}; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def _sweep(work: Work, asked: SlurmRequest) -> str:
    command = shlex.join(work.words())
    if asked.nodes > 1:
        command += ' --address "$address"'
    return _SWEEP.format(command=command)
