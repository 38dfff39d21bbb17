"""The script that Slurm gets: its text, and what it does on a machine that stands for a cluster."""

from __future__ import annotations

import subprocess
import sys

import pytest

from orchestrator.launch.request import Work
from orchestrator.launch.slurm import SlurmRequest, render_slurm
from tests.orchestrator.launch.asked import SLURM, WORK


def test_a_slurm_job_of_one_node_is_this_script():
    text = render_slurm(WORK, SlurmRequest(**SLURM, gpus=1, memory="32G", account="lab")).text
    assert (
        text
        == """\
#!/usr/bin/env bash
#SBATCH --job-name=my_sweep
#SBATCH --partition=gpu
#SBATCH --account=lab
#SBATCH --time=24:00:00
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --mem=32G
#SBATCH --signal=B:USR1@300
#SBATCH --chdir=/shared/study
#SBATCH --open-mode=append
#SBATCH --output=my_sweep-%j.out
#SBATCH --requeue

set -euo pipefail
cd /shared/study
export PATH=/shared/venv/bin:"$PATH"
export OMP_NUM_THREADS=1 RAY_USAGE_STATS_ENABLED=0

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

# `scancel` sends this to the sweep, too, which needs no word of ours; who cancels a job does not
# want it back
trap : TERM
orchestrate sweep sweeps/my.yaml --set train.lr=0.1 &
sweep=$!
if [ -n "$preempted" ]; then tell; fi
# a signal ends `wait` before the sweep has ended
while kill -0 "$sweep" 2>/dev/null; do
    wait "$sweep" || true
done
code=0
wait "$sweep" || code=$?
# 130: it was interrupted, and every checkpoint is written; 138: it was told before it listened
if [ -n "$preempted" ] && { [ "$code" = 130 ] || [ "$code" = 138 ]; }; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""
    )


def test_several_nodes_are_whole_and_have_a_ray_with_a_token_of_its_own():
    text = render_slurm(WORK, SlurmRequest(**SLURM, nodes=3)).text
    assert "#SBATCH --exclusive\n" in text
    assert "#SBATCH --mem=0\n" in text
    assert "export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=" in text
    assert 'orchestrate sweep sweeps/my.yaml --set train.lr=0.1 --address "$address" &' in text
    one = render_slurm(WORK, SlurmRequest(**SLURM)).text
    assert "--exclusive" not in one
    assert "ray start" not in one


def install(tools, **commands):
    """Commands of a machine, each a script."""
    tools.mkdir()
    for name, text in commands.items():
        (tools / name).write_text(f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)


LISTENS = "trap 'exit {ends}' USR1\n"
WORKS = "for i in $(seq 600); do sleep 0.05; done\nexit 99\n"


@pytest.mark.parametrize(
    ("sweep", "code", "queued"),
    [
        # interrupted, with its checkpoints; once, however often the job is told
        (f"{LISTENS.format(ends=130)}kill -USR1 $PPID\n{WORKS}", 130, True),
        ("trap 'trap \"exit 1\" USR1; kill -USR1 $PPID; sleep 0.5; exit 130' USR1\n"
         f"kill -USR1 $PPID\n{WORKS}", 130, True),
        (f"kill -USR1 $PPID\n{WORKS}", 138, True),  # it was told before it listens
        (f"{LISTENS.format(ends=0)}kill -USR1 $PPID\n{WORKS}", 0, False),  # it was done
        ("exit 3\n", 3, False),
        ("exit 130\n", 130, False),  # a person's `orchestrate cancel`
        # `scancel` sends TERM to every process: the sweep hears it once, and stays cancelled
        ("trap 'trap \"exit 1\" USR1; sleep 0.3; exit 130' TERM\n"
         f"kill -TERM 0\n{WORKS}", 130, False),
    ],
)  # fmt: skip
def test_a_job_queues_again_where_it_is_told_and_only_there(tmp_path, sweep, code, queued):
    """The script itself, with a sweep that listens or does not."""
    work = Work("small", "s.yaml", str(tmp_path))
    script = render_slurm(work, SlurmRequest(**SLURM | {"environment": str(tmp_path)})).text
    install(tmp_path / "bin", orchestrate=sweep, scontrol='echo "$@" > queued')
    done = subprocess.run(
        ["bash"],
        input=script,
        text=True,
        env={"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": "17"},
        start_new_session=True,  # as a job is: a group of processes of its own
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    asked = tmp_path / "queued"
    assert asked.exists() == queued
    assert not queued or asked.read_text() == "requeue 17\n"


def test_a_job_of_several_nodes_starts_ray_on_each_with_a_token_that_goes(tmp_path):
    """The script itself, on nodes that only write down what they are asked."""
    script = render_slurm(
        Work("small", "s.yaml", str(tmp_path)),
        SlurmRequest(**SLURM | {"environment": str(tmp_path)}, nodes=3),
    ).text
    install(
        tmp_path / "bin",
        srun='echo "srun $*" >> said; stat -c "%a %s" "$RAY_AUTH_TOKEN_PATH" >> said',
        ray='[ "$*" = "health-check --address n1:6379" ]',
        # once the nodes have said what they were asked
        orchestrate='until [ "$(wc -l < said)" = 4 ]; do sleep 0.05; done\n'
        'echo "orchestrate $*" >> said',
        scontrol="printf 'n1\\nn2\\nn3\\n'",
        python=f'exec {sys.executable} "$@"',
    )
    slurm = {"JOB_ID": "17", "NNODES": "3", "JOB_NODELIST": "n[1-3]", "CPUS_PER_TASK": "8"}
    done = subprocess.run(
        ["bash"],
        input=script,
        text=True,
        env={"PATH": "/usr/bin:/bin"} | {f"SLURM_{name}": text for name, text in slurm.items()},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    said = (tmp_path / "said").read_text().splitlines()
    assert said[-1] == "orchestrate sweep s.yaml --address n1:6379"
    asked = sorted(line for line in said if line.startswith("srun"))
    assert [line.partition(" ray ")[0] for line in asked] == [
        "srun --nodes=1 --ntasks=1 --nodelist=n1",
        "srun --nodes=2 --ntasks=2 --exclude=n1",
    ]
    assert said.count("600 64") == 2
    assert not list(tmp_path.glob(".ray-token*"))


def test_words_of_a_script_stay_words():
    work = Work("s", "a b.yaml", "/shared/my study", ("tracking.uri=https://u:${PW}@h; rm",))
    text = render_slurm(work, SlurmRequest(**SLURM)).text
    assert "#SBATCH --chdir='/shared/my study'\n" in text
    assert "cd '/shared/my study'\n" in text
    assert "sweep 'a b.yaml' --set 'tracking.uri=https://u:${PW}@h; rm' &" in text
