"""Hands what was rendered to the site's own client. Knows what no field means."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from orchestrator.launch.request import FILE, Rendered
from trainables.contract.errors import UserError
from trainables.contract.names import printable
from trainables.contract.secrets import redacted

PATIENCE_S = 600.0
"""Of a client: SkyPilot may take minutes to find a machine."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""Ray's client colours what it says, for a file, too."""

WHERE = {
    "sbatch": "a login node of a Slurm cluster has it",
    "ray": "pip install 'ray[default]'",
    "kubectl": "Kubernetes' own command line, with access to the cluster",
    "sky": "pip install 'skypilot[aws]', or of another cloud",
}
"""Client -> where it comes from."""


def submit(rendered: Rendered) -> str:
    """Submit, and return what the client answers; UserError where it is missing or refuses."""
    client = find_client(rendered.command[0])
    words = [client, *rendered.command[1:]]
    if FILE not in rendered.command:
        return _run(rendered, words, rendered.text if rendered.suffix else None)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, f"sweep{rendered.suffix}")
        file.write_text(rendered.text, encoding="utf-8")
        return _run(rendered, [str(file) if word == FILE else word for word in words], None)


def find_client(name: str) -> str:
    """Path of a client, of this Python's environment or on PATH."""
    beside = Path(sys.executable).with_name(name)
    found = shutil.which(name) or (str(beside) if beside.is_file() else None)
    if found is None:
        raise UserError(
            f"launch: needs the command {name}, which is not on this machine ({WHERE[name]});"
            " --dry-run prints what would be submitted"
        )
    return found


def _run(rendered: Rendered, words: list[str], given: str | None) -> str:
    try:
        done = subprocess.run(
            words,
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"launch {rendered.kind}: {rendered.command[0]} did not answer for {PATIENCE_S:g} s"
        ) from error
    if done.returncode:
        said = _reason(done.stderr.strip() or done.stdout.strip() or "it said nothing")
        raise UserError(
            f"launch {rendered.kind}: {_field(said)}{rendered.command[0]} refuses (exit code"
            f" {done.returncode}): {printable(redacted(said))}"
        )
    return printable(_COLOUR.sub("", done.stdout)).strip()


def _reason(said: str) -> str:
    """What a client says, without the way there: of a traceback its last line."""
    return said.splitlines()[-1].strip() if "Traceback (most recent" in said else said[-2000:]


FIELDS = {
    "invalid partition": "--partition: ",
    "invalid account": "--account: ",
    "invalid qos": "--qos: ",
    "time limit": "--time: ",
    "memory specification": "--memory: ",
    "cpu count": "--cpus: ",
    "generic resource": "--gpus: ",
    "namespaces": "--namespace: ",
}
"""What a client complains of, in small letters -> the option that says it."""


def _field(said: str) -> str:
    """The option that a refusal is about, where that can be told."""
    text = said.lower()
    return next((option for words, option in FIELDS.items() if words in text), "")
