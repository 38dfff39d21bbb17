"""A sweep to submit, and what a job of Slurm is asked at the least."""

from orchestrator.launch.request import Work

WORK = Work("my_sweep", "sweeps/my.yaml", "/shared/study", ("train.lr=0.1",))
SLURM = {"partition": "gpu", "time": "24:00:00", "cpus": 8, "environment": "/shared/venv"}
