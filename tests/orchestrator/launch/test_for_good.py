"""Which ends of a sweep make KubeRay start another cluster."""

from __future__ import annotations

import subprocess
import sys

import pytest

from orchestrator.launch.for_good import FINAL, run


@pytest.mark.parametrize("code", [0, 1, 127, 130])
def test_other_ends_stay_what_they_are(code, capfd):
    assert run(["sh", "-c", f"exit {code}"]) == code
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("code", sorted(FINAL))
def test_what_would_end_the_same_again_ends_well_and_says_so(code, capfd):
    assert run(["sh", "-c", f"exit {code}"]) == 0
    assert f"exit code {code}: {FINAL[code]}" in capfd.readouterr().err


def test_a_sweep_that_is_killed_is_no_success():
    assert run(["sh", "-c", "kill -9 $$"]) == 137


def test_it_runs_by_its_name_with_the_words_as_they_are():
    words = [
        sys.executable,
        "-m",
        "orchestrator.launch.for_good",
        "sh",
        "-c",
        'exit "$1"',
        "-",
        "5",
    ]
    assert subprocess.run(words, check=False, capture_output=True).returncode == 0
