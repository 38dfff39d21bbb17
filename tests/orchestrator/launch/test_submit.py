"""Submitting: the site's own client gets what was rendered, and its refusal is one clear error."""

from __future__ import annotations

import json

import pytest

from orchestrator.launch import submit as submitting
from orchestrator.launch.request import FILE, Rendered
from orchestrator.launch.submit import submit
from tests.orchestrator.in_process import run_captured
from trainables.contract.errors import UserError

SLURM = Rendered("slurm", "#!/bin/bash\n", ("sbatch", "--parsable"), ".sbatch")


@pytest.fixture
def clients(tmp_path, monkeypatch):
    """Makes a client: a script that PATH has, and nothing else is there."""
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", f"{tools}")

    def make(name, text):
        (tools / name).write_text(f"#!/bin/bash\n{text}\n")
        (tools / name).chmod(0o755)

    return make


def test_a_script_is_read_from_standard_input(clients):
    clients("sbatch", 'read -r line; echo "$@ $line"')
    assert submit(SLURM) == "--parsable #!/bin/bash"


def test_an_answer_is_plain_text(clients):
    clients("sbatch", r"printf '\033[32m17\033[39m submitted\007\n'")
    assert submit(SLURM) == r"17 submitted\x07"


def test_a_file_is_there_while_the_client_runs(clients):
    clients("sky", 'read -r line < "$3"; echo "$1 $2 ${3##*/} $line"')
    rendered = Rendered("skypilot", "name: x\n", ("sky", "jobs", "launch", FILE), ".yaml")
    assert submit(rendered) == "jobs launch sweep.yaml name: x"


@pytest.mark.parametrize("name", ["sbatch", "kubectl", "sky"])
def test_a_client_that_is_not_there_is_named(clients, name):
    with pytest.raises(UserError, match=f"needs the command {name}, which is not on this machine"):
        submit(Rendered("x", "", (name,)))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (
            "sbatch: error: invalid partition specified: gpus",
            "launch slurm: --partition: sbatch refuses (exit code 1): sbatch: error: invalid",
        ),
        ("sbatch: error: Invalid account", "launch slurm: --account: sbatch refuses"),
        ("no idea", "launch slurm: sbatch refuses (exit code 1): no idea"),
        ("http://u:hunter2@h is down", "refuses (exit code 1): http://u:***@h is down"),
        ("", "refuses (exit code 1): it said nothing"),
        (
            "Traceback (most recent call last):\n  File a\nConnectionError: no Ray at http://h",
            "launch slurm: sbatch refuses (exit code 1): ConnectionError: no Ray at http://h",
        ),
    ],
)
def test_a_refusal_names_the_field(clients, said, message):
    clients("sbatch", f"echo '{said}' >&2; exit 1")
    with pytest.raises(UserError) as caught:
        submit(SLURM)
    assert message in str(caught.value)


def test_a_client_that_hangs_is_ended(clients, monkeypatch):
    monkeypatch.setattr(submitting, "PATIENCE_S", 0.2)
    clients("sbatch", "exec /bin/sleep 30")
    with pytest.raises(UserError, match=r"sbatch did not answer for 0\.2 s"):
        submit(SLURM)


ASKED = ("launch", "slurm", "quickstart", "--partition", "p", "--time", "1", "--cpus", "2")


def test_a_dry_run_shows_what_is_submitted_and_submits_nothing(clients, capsys):
    code, shown, said = run_captured(capsys, *ASKED, "--dry-run")
    assert code == 0
    assert said == "submitted with: sbatch --parsable\n"
    clients("sbatch", 'while IFS= read -r line; do echo "$line"; done')
    code, submitted, _ = run_captured(capsys, *ASKED)
    assert (code, submitted) == (0, shown)
    code, out, _ = run_captured(capsys, *ASKED, "--json")
    told = json.loads(out)
    assert (code, told.pop("answer"), told.pop("file")) == (0, shown.strip(), shown)
    assert told == {"kind": "slurm", "command": ["sbatch", "--parsable"], "submitted": True}
    _, out, _ = run_captured(capsys, *ASKED, "--json", "--dry-run")
    assert json.loads(out)["answer"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("slurm", "quickstart", "--time", "1", "--cpus", "1"), "Missing option '--partition'"),
        ((*ASKED[1:], "--hours", "3"), "No such option: --hours"),
        (("slurm", "nowhere.yaml", *ASKED[3:], "--dry-run"), "nowhere.yaml"),
        ((*ASKED[1:], "--set", "train.lr=-1", "--dry-run"), "--set train.lr: must be"),
        (("ray", "quickstart", "--address", "ray://h:1", "--dry-run"), "--address: must be http"),
        (("kuberay", "quickstart"), "Missing option '--image'"),
        (("skypilot", "quickstart", "--image", "i"), "--bucket: must be given"),
        (("pbs", "quickstart"), "No such command 'pbs'"),
    ],
)
def test_what_cannot_be_asked_is_one_clear_error(arguments, message, capsys):
    code, out, err = run_captured(capsys, "launch", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
