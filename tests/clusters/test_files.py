"""Every file of `clusters/` against what its reader accepts, without a network or a cluster."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from orchestrator.launch.kuberay import KubeRayRequest, cluster_spec
from tests.clusters.kuberay_fields import problems_of
from tests.orchestrator.in_process import run_captured
from trainables.contract.secrets import redacted

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "clusters"
FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
YAML = [path for path in FILES if path.suffix == ".yaml"]
LAUNCHED = sorted((FOLDER / "ray").glob("*.yaml"))
SCRIPTS = sorted((FOLDER / "slurm").glob("*.sbatch"))
RENDERED = re.findall(
    r"^(orchestrate launch .*) > (\S+)$", (FOLDER / "README.md").read_text(), re.MULTILINE
)


def shown(path):
    return str(path.relative_to(FOLDER))


def documents(path):
    return [content for content in yaml.safe_load_all(path.read_text()) if content is not None]


@pytest.mark.parametrize("path", YAML, ids=shown)
def test_keys_are_there_once(path):
    class Once(yaml.SafeLoader):
        def construct_mapping(self, node, deep=False):
            keys = [self.construct_object(key, deep=True) for key, _ in node.value]
            assert len(keys) == len(set(keys)), keys
            return super().construct_mapping(node, deep)

    assert list(yaml.load_all(path.read_text(), Loader=Once))


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_no_file_holds_a_secret(path):
    text = path.read_text()
    assert redacted(re.sub(r"\$\(\w+\)|\$\$\w+", "${X}", text)) == re.sub(
        r"\$\(\w+\)|\$\$\w+", "${X}", text
    )
    assert not re.search(r"AKIA[0-9A-Z]{16}|-----BEGIN|\b[0-9a-f]{32,}\b", text)


@pytest.mark.parametrize(("command", "path"), RENDERED, ids=lambda text: text.split("/")[-1])
def test_rendered_files_are_what_launch_renders(command, path, capsys):
    code, out, err = run_captured(capsys, *shlex.split(command)[1:])
    assert code == 0, err
    assert (ROOT / path).read_text() == out


def test_every_script_and_job_is_rendered():
    static = {"kuberay/raycluster.yaml", "kuberay/storage.yaml", "kuberay/kueue.yaml"}
    folders = ("kuberay", "slurm", "skypilot")
    there = {shown(path) for path in FILES if shown(path).split("/")[0] in folders}
    assert {path.removeprefix("clusters/") for _, path in RENDERED} == there - static


def test_the_readme_has_a_row_for_each_way():
    rows = re.findall(r"^\| `([\w/.-]+)` \|", (FOLDER / "README.md").read_text(), re.MULTILINE)
    ways = {shown(path) for path in (*LAUNCHED, *SCRIPTS)}
    ways |= {"kuberay/rayjob.yaml", "kuberay/raycluster.yaml", "skypilot/sweep.yaml"}
    assert set(rows) == ways


@pytest.mark.parametrize("path", LAUNCHED, ids=shown)
def test_ray_accepts_its_launchers_files(path):
    """Ray's schema, its defaults filled in as `ray up` does, and what it checks beyond."""
    import jsonschema
    import ray.autoscaler
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load(path.read_text())
    schema = json.loads(Path(ray.autoscaler.__file__).with_name("ray-schema.json").read_text())
    jsonschema.validate(config, schema)
    validate_config(prepare_config(config))


@pytest.mark.parametrize("path", LAUNCHED, ids=shown)
def test_every_node_of_a_launcher_asks_for_the_token(path):
    config = yaml.safe_load(path.read_text())
    for which in ("head", "worker"):
        starts = [each for each in config[f"{which}_start_ray_commands"] if "ray start" in each]
        assert starts
        for command in starts:
            assert "RAY_AUTH_MODE=token" in command
            assert "--dashboard-host=0.0.0.0" not in command
    assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}


def test_rays_schema_notices_a_misspelt_key():
    import jsonschema
    import ray.autoscaler

    schema = json.loads(Path(ray.autoscaler.__file__).with_name("ray-schema.json").read_text())
    config = yaml.safe_load(LAUNCHED[0].read_text()) | {"max_worker": 2}
    with pytest.raises(jsonschema.ValidationError, match="max_worker"):
        jsonschema.validate(config, schema)


@pytest.mark.parametrize("name", ["rayjob.yaml", "raycluster.yaml"])
def test_kuberay_knows_every_field(name):
    [resource] = documents(FOLDER / "kuberay" / name)
    assert problems_of(resource) == []


def test_a_misspelt_field_of_kuberay_is_noticed():
    [resource] = documents(FOLDER / "kuberay" / "raycluster.yaml")
    resource["spec"]["workerGroupSpecs"][0]["maxReplica"] = 3
    resource["spec"]["rayVersion"] = 2.6
    del resource["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["image"]
    assert problems_of(resource) == [
        "spec.rayVersion: must be str, got 2.6",
        "spec.headGroupSpec.template.spec.containers[0].image: is missing",
        "spec.workerGroupSpecs[0].maxReplica: unknown",
    ]


def test_a_cluster_that_stays_is_that_of_a_job_with_an_autoscaler():
    [resource] = documents(FOLDER / "kuberay" / "raycluster.yaml")
    spec = resource["spec"]
    assert spec.pop("enableInTreeAutoscaling") is True
    assert spec.pop("autoscalerOptions")["version"] == "v2"
    [workers] = spec["workerGroupSpecs"]
    workers |= {"replicas": 4, "minReplicas": 4, "maxReplicas": 4}
    asked = KubeRayRequest("registry.example.org/orchestrate:1", workers=4, secret="mlflow-client")
    assert spec == cluster_spec(asked)


def test_the_claim_and_the_queue_are_those_that_jobs_ask_for():
    [claim] = documents(FOLDER / "kuberay" / "storage.yaml")
    assert claim["metadata"]["name"] == KubeRayRequest("i").claim
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    [job] = documents(FOLDER / "kuberay" / "rayjob.yaml")
    flavour, cluster, local = documents(FOLDER / "kuberay" / "kueue.yaml")
    assert job["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": local["metadata"]["name"]}
    assert local["spec"]["clusterQueue"] == cluster["metadata"]["name"]
    [group] = cluster["spec"]["resourceGroups"]
    [quota] = group["flavors"]
    assert quota["name"] == flavour["metadata"]["name"]
    assert [each["name"] for each in quota["resources"]] == group["coveredResources"]
    [workers] = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    [container] = workers["template"]["spec"]["containers"]
    assert set(container["resources"]["limits"]) <= set(group["coveredResources"])


@pytest.mark.parametrize("path", SCRIPTS, ids=shown)
def test_scripts_are_sound(path):
    checkers = [["bash", "-n"], ["shellcheck", "--severity=warning"]]
    for checker in checkers:
        if shutil.which(checker[0]):
            done = subprocess.run([*checker, path], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr


SBATCH = frozenset(
    "job-name partition account qos time nodes ntasks-per-node cpus-per-task gpus-per-node mem"
    " signal chdir open-mode output requeue exclusive".split()
)
"""Options of sbatch that the scripts use."""


@pytest.mark.parametrize("path", SCRIPTS, ids=shown)
def test_options_of_a_script_stand_before_its_commands(path):
    lines = path.read_text().splitlines()
    asked = [line for line in lines if line.startswith("#SBATCH")]
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines[1 : 1 + len(asked)] == asked
    names = [re.match(r"#SBATCH --([\w-]+)", line)[1] for line in asked]
    assert len(set(names)) == len(names)
    assert set(names) <= SBATCH
    assert {"requeue", "signal", "open-mode"} <= set(names)


COMPOSE = {
    "image", "build", "environment", "volumes", "healthcheck", "restart", "depends_on", "command",
    "ports",
}  # fmt: skip
"""Keys of a service that the compose file uses."""


def test_the_tracking_server_is_published_on_the_loopback():
    [compose] = documents(FOLDER / "mlflow" / "compose.yaml")
    assert set(compose) == {"services", "volumes"}
    for service in compose["services"].values():
        assert set(service) <= COMPOSE
        assert ("image" in service) != ("build" in service)
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        for volume in service["volumes"]:
            assert volume.partition(":")[0] in compose["volumes"]
        assert set(service.get("depends_on", {})) <= set(compose["services"])
    images = [each["image"] for each in compose["services"].values() if "image" in each]
    assert all(re.search(r":\d", image) for image in images)
    required = re.findall(r"\$\{(\w+):\?", (FOLDER / "mlflow" / "compose.yaml").read_text())
    assert set(required) == {
        "POSTGRES_PASSWORD",
        "MLFLOW_FLASK_SERVER_SECRET_KEY",
        "MLFLOW_AUTH_ADMIN_PASSWORD",
    }


def test_the_parts_of_the_tracking_server_in_kubernetes_find_each_other():
    found = {(each["kind"], each["metadata"]["name"]): each for each in documents(
        FOLDER / "mlflow" / "kubernetes.yaml"
    )}  # fmt: skip
    claims = {name for kind, name in found if kind == "PersistentVolumeClaim"}
    for (kind, name), each in found.items():
        if kind in ("StatefulSet", "Deployment"):
            labels = each["spec"]["template"]["metadata"]["labels"]
            assert each["spec"]["selector"]["matchLabels"] == labels
            assert found["Service", name]["spec"]["selector"] == labels
            for volume in each["spec"]["template"]["spec"]["volumes"]:
                assert volume["persistentVolumeClaim"]["claimName"] in claims
    assert all(each["spec"].get("type", "ClusterIP") == "ClusterIP" for each in found.values())


def test_the_user_of_an_image_may_write_to_its_volumes():
    """A new volume or share is root's; the images run as user 1000."""
    for name, user in (("Dockerfile", "ray"), ("mlflow/Dockerfile", "mlflow")):
        assert f"useradd --create-home --uid 1000 {user}" in (FOLDER / name).read_text()
    assert "ray ALL=(ALL) NOPASSWD: ALL" in (FOLDER / "Dockerfile").read_text()  # SkyPilot
    made = (FOLDER / "mlflow/Dockerfile").read_text().partition("USER")[0]
    assert "install --directory --owner=mlflow --group=mlflow /artifacts" in made
    [server] = [
        each
        for each in documents(FOLDER / "mlflow" / "kubernetes.yaml")
        if each["kind"] == "Deployment"
    ]
    pods = [server["spec"]["template"]["spec"]]
    for name in ("rayjob.yaml", "raycluster.yaml"):
        [resource] = documents(FOLDER / "kuberay" / name)
        cluster = resource["spec"].get("rayClusterSpec", resource["spec"])
        groups = (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
        pods += [group["template"]["spec"] for group in groups]
    assert [pod["securityContext"]["fsGroup"] for pod in pods] == [1000] * 5
    for path in LAUNCHED:
        commands = yaml.safe_load(path.read_text()).get("initialization_commands", [])
        mounted = [at for at, each in enumerate(commands) if "sudo mount" in each]
        owned = [at for at, each in enumerate(commands) if "sudo chown 1000:1000 /sweeps" in each]
        assert len(mounted) == len(owned)
        assert mounted < owned or not mounted


def test_the_images_run_as_nobody_special_and_one_mlflow_is_meant():
    for name in ("Dockerfile", "mlflow/Dockerfile"):
        lines = (FOLDER / name).read_text().splitlines()
        assert [line for line in lines if line.startswith("USER")][-1] in (
            "USER ray",
            "USER mlflow",
        )
        assert all(re.search(r":\S*\d", line) for line in lines if line.startswith("FROM"))
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines()
                if "==" in line)  # fmt: skip
    assert f'"mlflow[auth]=={pins["mlflow"]}"' in (FOLDER / "mlflow/Dockerfile").read_text()
    for name in ("rayjob.yaml", "raycluster.yaml"):
        assert f"rayVersion: {pins['ray']}\n" in (FOLDER / "kuberay" / name).read_text()
