"""Standard output that knows ASCII only, that is full, that nobody reads: no traceback."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.cli.printing.output import OutputFull, standard_output
from orchestrator.cli.printing.tables import table
from tests.naive_stores import clip, store

FULL = Path("/dev/full")


def test_what_ascii_lacks_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    stream = io.TextIOWrapper(content, encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    with standard_output():
        sys.stdout.write("ä 步 \udcc3\udca4\n")
        made = table("größe", text="→")
        made.add_row("█", "ü")
        Console(file=sys.stdout).print(made)
    printed = content.getvalue()
    assert printed.startswith(b"\\xe4 \\u6b65 \xc3\xa4\n")
    assert b"gr\\xf6\\xdfe" in printed


@pytest.mark.skipif(not FULL.exists(), reason="/dev/full is of Linux")
@pytest.mark.parametrize("text", ["x", "x" * 100_000])
def test_a_full_output_is_one_error(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Whether the first write fails or only the last flush; and nothing is left that fails."""
    stream = FULL.open("w", encoding="utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    rule = "standard output cannot be written: No space left on device"
    with pytest.raises(OutputFull, match=rule) as caught, standard_output():
        sys.stdout.write(text)
    assert caught.value.exit_code == 2
    stream.close()


def test_errors_of_other_files_stay_theirs() -> None:
    with pytest.raises(OSError, match="full disk"), standard_output():
        raise OSError(28, "full disk")


def test_a_closed_pipe_ends_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    stream = os.fdopen(write, "w")
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(SystemExit) as caught, standard_output():
        sys.stdout.write("x")
    assert caught.value.code == 2
    stream.close()


@pytest.mark.parametrize(
    "arguments", [["data", "info", "dätä"], ["validate", "swö.yaml"]], ids=["data info", "validate"]
)
def test_names_with_umlauts_in_a_c_locale(tmp_path: Path, arguments: list[str]) -> None:
    """Those that are typed, and those that stand in a sweep file."""
    store(tmp_path / "dätä", [clip("a"), clip("b"), clip("c", split="test")])
    text = (
        "version: 1\nname: small\ndata: {store: dätä, protocol: split, selection: {kind: none}}\n"
    )
    (tmp_path / "swö.yaml").write_text(text, encoding="utf-8")
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    code = "from orchestrator.cli import main; main()"
    found = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        env=environment | {"PYTHONPATH": str(Path(__file__).parents[3])},
        check=False,
        cwd=tmp_path,
    )
    assert found.returncode == 0, found.stderr
    assert arguments[-1].encode() in found.stdout
