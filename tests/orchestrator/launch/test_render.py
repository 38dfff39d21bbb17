"""What is submitted, as text: the same values give the same text, and wrong ones no text at all."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from orchestrator.launch.kuberay import KubeRayRequest, render_kuberay
from orchestrator.launch.ray_job import RayRequest, render_ray
from orchestrator.launch.request import Work, kubernetes_name
from orchestrator.launch.skypilot import SkyPilotRequest, render_skypilot
from orchestrator.launch.slurm import SlurmRequest, render_slurm
from tests.orchestrator.launch.asked import SLURM, WORK
from trainables.contract.errors import UserError


def test_a_job_of_a_ray_cluster_is_this_command():
    rendered = render_ray(WORK, RayRequest("http://127.0.0.1:8265"))
    assert rendered.shown() == (
        "ray job submit --address http://127.0.0.1:8265 --no-wait -- env -C /shared/study"
        " orchestrate sweep sweeps/my.yaml --set train.lr=0.1 --address auto"
    )


def test_a_rayjob_goes_on_with_the_same_sweep_on_cluster_after_cluster():
    asked = KubeRayRequest("r/o:1", workers=2, queue="q", secret="mlflow", mount="/shared")
    job = yaml.safe_load(render_kuberay(WORK, asked).text)
    assert job["metadata"] == {
        "generateName": "my-sweep-",
        "namespace": "default",
        "labels": {"kueue.x-k8s.io/queue-name": "q"},
    }
    spec = job["spec"]
    assert spec["entrypoint"] == (
        "env -C /shared/study python -m orchestrator.launch.for_good"
        " orchestrate sweep sweeps/my.yaml --set train.lr=0.1 --address auto"
    )
    assert spec["backoffLimit"] == 3
    cluster = spec["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    [workers] = cluster["workerGroupSpecs"]
    assert workers["replicas"] == workers["minReplicas"] == workers["maxReplicas"] == 2
    for group in (cluster["headGroupSpec"], workers):
        [container] = group["template"]["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "mlflow"}}]


def test_a_skypilot_task_names_secrets_and_holds_none():
    asked = SkyPilotRequest(
        "r/o:1", "s3://b", "A100:4", mount="/shared", secrets=("MLFLOW_TRACKING_TOKEN",)
    )
    rendered = render_skypilot(WORK, asked)
    task = yaml.safe_load(rendered.text)
    assert task["secrets"] == {"MLFLOW_TRACKING_TOKEN": None}
    assert task["file_mounts"] == {"/shared": {"source": "s3://b", "mode": "MOUNT_CACHED"}}
    assert task["resources"]["use_spot"] is True
    assert task["run"].splitlines()[-1] == "orchestrate sweep sweeps/my.yaml --set train.lr=0.1"
    assert "--secret MLFLOW_TRACKING_TOKEN FILE" in rendered.shown()
    on_demand = yaml.safe_load(
        render_skypilot(WORK, SkyPilotRequest("i", "s3://b", spot=False, mount="/shared")).text
    )
    assert on_demand["resources"]["use_spot"] is False
    assert "accelerators" not in on_demand["resources"]


@pytest.mark.parametrize(
    ("render", "asked", "messages"),
    [
        (
            render_slurm,
            SlurmRequest("a b", "soon", 0, "/e\n", nodes=0, gpus=-1, memory="much", qos="-x"),
            "--partition --qos --time --memory --cpus --nodes --gpus --environment".split(),
        ),
        (render_ray, RayRequest("10.0.0.1:6379"), ["--address: must be http://HOST:PORT"]),
        (
            render_kuberay,
            KubeRayRequest(
                "", workers=0, cpus=0, gpus=-1, memory="32 GB", queue="a/b", mount="/shared:x"
            ),
            "--image --queue --memory --mount --workers --cpus --gpus --folder".split(),
        ),
        (
            render_skypilot,
            SkyPilotRequest("i j", "bucket", "four", "many", "a b", mount="x", secrets=("a=b",)),
            "--image --bucket --cpus --infra --mount --secret --folder".split(),
        ),
    ],
)
def test_every_wrong_field_is_named_at_once(render, asked, messages):
    with pytest.raises(UserError) as caught:
        render(WORK, asked)
    found = caught.value.problems
    assert len(found) == len(messages)
    for problem, message in zip(found, messages, strict=True):
        assert problem.startswith(message)


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (Work("s", "s.yaml", "study"), "--folder: must be an absolute path, got 'study'"),
        (Work("s", "s\n.yaml", "/s"), "FILE: must be printable text in one line"),
        (
            Work("s", "s.yaml", "/s", ("tracking.uri=http://u:hunter2@h",)),
            r"--set tracking.uri=http://u:\*\*\*@h: must not hold a password",
        ),
    ],
)
def test_what_no_cluster_can_run(work, message):
    for render, asked in (
        (render_slurm, SlurmRequest(**SLURM)),
        (render_ray, RayRequest("http://h:8265")),
        (render_kuberay, KubeRayRequest("i")),
        (render_skypilot, SkyPilotRequest("i", "s3://b")),
    ):
        with pytest.raises(UserError, match=message) as caught:
            render(work, asked)
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "asked",
    [
        {"claim": "my_claim"},
        {"secret": "MLflow"},
        {"namespace": "a.b"},
        {"queue": "q" * 64},
        {"queue": "q-"},
        {"memory": "32K"},
        {"memory": "32"},
        {"image": 'img: x"'},
        {"mount": "/a:b"},
    ],
)
def test_what_kubernetes_would_refuse_is_refused_before(asked):
    with pytest.raises(UserError, match=f"--{next(iter(asked))}: must be"):
        render_kuberay(WORK, KubeRayRequest(**{"image": "i", "mount": "/shared"} | asked))


@pytest.mark.parametrize(
    "asked",
    [
        {"memory": "32Gi"},
        {"memory": "1.5T"},
        {"memory": "64000k"},
        {"claim": "my.claim-2"},
        {"secret": "s" * 60 + "." + "t" * 60},
        {"image": "Host:5000/a_b/c:1.0@sha256:0f"},
    ],
)
def test_what_kubernetes_takes_is_taken(asked):
    rendered = render_kuberay(WORK, KubeRayRequest(**{"image": "i", "mount": "/shared"} | asked))
    assert all(value in rendered.text for value in asked.values())


@pytest.mark.parametrize("folder", ["/other", "/sweeps/../other", "/sweepsy", "/"])
def test_a_sweep_is_in_what_outlives_its_machine(folder):
    work = Work("s", "s.yaml", folder)
    for render, asked in (
        (render_kuberay, KubeRayRequest("i")),
        (render_skypilot, SkyPilotRequest("i", "s3://b")),
    ):
        with pytest.raises(UserError, match=r"^--folder: must be in --mount \(/sweeps\)"):
            render(work, asked)
        render(Work("s", "s.yaml", "/sweeps/mine"), asked)


BUCKET = {"storage": "s3://lab/runs", "store": "s3://lab/data", "tracking": "http://mlflow:5000"}
AT_ADDRESSES = Work("s", "nw_ucla", None, ("storage=s3://lab/runs",), **BUCKET)


def test_a_sweep_at_addresses_needs_no_folder_no_claim_and_no_mount():
    command = "orchestrate sweep nw_ucla --set storage=s3://lab/runs"
    assert render_ray(AT_ADDRESSES, RayRequest("http://h:8265")).text == (
        f"{command} --address auto\n"
    )
    asked = KubeRayRequest("r/o:1", claim=None, secret="bucket-keys")
    job = yaml.safe_load(render_kuberay(AT_ADDRESSES, asked).text)
    assert job["spec"]["entrypoint"] == (
        f"python -m orchestrator.launch.for_good {command} --address auto"
    )
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        assert "volumes" not in pod
        [container] = pod["containers"]
        assert "volumeMounts" not in container
        assert container["envFrom"] == [{"secretRef": {"name": "bucket-keys"}}]
    rendered = render_skypilot(
        AT_ADDRESSES, SkyPilotRequest("r/o:1", secrets=("AWS_SECRET_ACCESS_KEY",))
    )
    task = yaml.safe_load(rendered.text)
    assert task["run"] == f"{command}\n"
    assert "file_mounts" not in task
    assert task["secrets"] == {"AWS_SECRET_ACCESS_KEY": None}


def test_no_key_of_a_bucket_is_rendered(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAPLANTEDPLANTED01")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted/secret")
    work = AT_ADDRESSES.starting_in("/sweeps")
    for rendered in (
        render_slurm(work, SlurmRequest(**SLURM, nodes=2)),
        render_ray(work, RayRequest("http://h:8265")),
        render_kuberay(work, KubeRayRequest("i", secret="keys")),
        render_skypilot(work, SkyPilotRequest("i", "s3://b", secrets=("AWS_SECRET_ACCESS_KEY",))),
    ):
        whole = f"{rendered.text} {rendered.shown()}"
        assert "AKIAPLANTED" not in whole
        assert "planted/" not in whole


RENDERS = {
    "slurm": (render_slurm, SlurmRequest(**SLURM)),
    "ray": (render_ray, RayRequest("http://h:8265")),
    "kuberay": (render_kuberay, KubeRayRequest("i")),
    "kuberay, no claim": (render_kuberay, KubeRayRequest("i", claim=None)),
    "skypilot": (render_skypilot, SkyPilotRequest("i", "s3://b")),
    "skypilot, no bucket": (render_skypilot, SkyPilotRequest("i")),
}


@pytest.mark.parametrize(
    ("how", "folder", "changed", "message"),
    [
        ("ray", None, {"storage": "runs"}, "storage: must be an address such as s3://BUCKET/F"),
        ("ray", None, {"store": "data/x"}, "data.store: must be an address such as s3://BUCKET"),
        ("ray", None, {"tracking": "sqlite:///m.db"}, "tracking.uri: must be an address such as h"),
        ("ray", "/s", {"storage": "/tmp/runs"}, "storage: must be a folder that all nodes share"),
        ("slurm", "/s", {"storage": "/dev/shm/r"}, "storage: must be a folder that all nodes sh"),
        (
            "slurm",
            "/s",
            {"storage": "file:///tmp/r"},
            "storage: must be a folder that all nodes sh",
        ),
        ("kuberay", "/sweeps", {"storage": "file:///data"}, "storage: must be an address, or in"),
        (
            "skypilot, no bucket",
            None,
            {"storage": "file:///data"},
            "--bucket: must be given unless",
        ),
        ("slurm", None, {}, "--folder: must be given, for the job's output"),
        ("kuberay", "/sweeps", {"storage": "/data/runs"}, "storage: must be an address, or in"),
        (
            "kuberay",
            "/sweeps",
            {"storage": "../runs"},
            "storage: must be an address, or in",
        ),
        (
            "kuberay",
            "/sweeps",
            {"tracking": "sqlite:////m.db"},
            "tracking.uri: must be an ad",
        ),
        (
            "kuberay, no claim",
            None,
            {"storage": "/runs"},
            "storage: must be an address, as",
        ),
        ("kuberay, no claim", "/x", {}, "--folder: must be left out where nothing is mounted"),
        ("skypilot", "/sweeps", {"storage": "/data"}, "storage: must be an address, or in"),
        ("skypilot, no bucket", None, {"storage": "runs"}, "--bucket: must be given unless"),
        ("skypilot, no bucket", None, {"file": "my.yaml"}, "FILE: must be the name of a shipped"),
    ],
)
def test_what_would_go_with_its_machine_is_refused(how, folder, changed, message):
    render, asked = RENDERS[how]
    work = replace(AT_ADDRESSES, folder=folder, **changed)
    with pytest.raises(UserError) as caught:
        render(work, asked)
    [problem] = caught.value.problems
    assert problem.startswith(message)


@pytest.mark.parametrize(
    ("how", "changed"),
    [
        ("slurm", {"storage": "/shared/runs"}),
        ("ray", {"storage": "/nfs/runs", "tracking": "sqlite:////nfs/m.db"}),
        ("kuberay", {"storage": "/sweeps/runs", "tracking": "sqlite:///m.db", "store": "/data"}),
        ("skypilot", {"storage": "runs", "tracking": "sqlite:////sweeps/m.db"}),
    ],
)
def test_what_outlives_its_machine_is_taken(how, changed):
    render, asked = RENDERS[how]
    render(replace(AT_ADDRESSES, folder="/sweeps", **changed), asked)


def test_a_command_that_kuberay_would_take_apart_is_refused():
    work = Work("s", "s.yaml", "/s", ("train.lr={values: [0.1]}",))
    with pytest.raises(UserError, match=r"--set train\.lr: must be free of spaces, quotes"):
        render_kuberay(work, KubeRayRequest("i"))


@pytest.mark.parametrize(
    ("name", "made"),
    [("My_Sweep.2", "my-sweep-2"), ("7", "sweep-7"), ("a" * 60, "a" * 40), ("A-", "a")],
)
def test_names_of_kubernetes(name, made):
    assert kubernetes_name(name, 40) == made
