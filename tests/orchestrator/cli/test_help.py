"""What the command says of itself: help of every command, its version, names it cannot use."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import typer

import orchestrator
from orchestrator.cli.commands.sweeps import app, main

ROOT = Path(__file__).parents[3]
HOSTILE = "\x1b[31mred"
LONG = "a" * 300


def commands(command=None, path=()):
    """Every command with its path, groups among them."""
    command = command or typer.main.get_command(app)
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))


COMMANDS = dict(commands())


def run(capsys, monkeypatch, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["orchestrate", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    found = capsys.readouterr()
    return int(end.value.code or 0), found.out, found.err


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_help_is_a_sentence(path) -> None:
    command = COMMANDS[path]
    texts = {"": command.help} | {
        (option.opts or [option.name])[0]: getattr(option, "help", None)
        for option in command.params
    }
    for name, text in texts.items():
        assert text, name
        sentence = re.sub(r" +\[default.*\]$", "", text)
        assert re.fullmatch(r"[A-Z0-9].* .*[.]", sentence, re.DOTALL), (name, text)


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_a_usage_line_has_its_marks_once_and_names_in_upper_case(path) -> None:
    command = COMMANDS[path]
    usage = command.get_usage(typer.Context(command, info_name="orchestrate"))
    _, _, arguments = usage.partition("[OPTIONS]")
    for word in arguments.split():
        assert re.fullmatch(
            r"(\[[A-Z0-9_]+\]|\{[A-Z0-9_]+\}|[A-Z0-9_]+)(\.\.\.)?|\[ARGS\]\.\.\.", word
        )


@pytest.mark.parametrize("path", [(), ("sweep",), ("data", "import", "ntu"), ("ui",)])
def test_h_is_help(path, capsys, monkeypatch) -> None:
    short = run(capsys, monkeypatch, *path, "-h")
    assert short == run(capsys, monkeypatch, *path, "--help")
    assert short[0] == 0
    assert "-h, --help" in short[1]


def test_one_version_everywhere(capsys, monkeypatch) -> None:
    assert run(capsys, monkeypatch, "--version") == (0, f"{orchestrator.__version__}\n", "")
    top = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert top is not None
    assert top[1] == orchestrator.__version__


def test_completion_is_offered(capsys, monkeypatch) -> None:
    _, out, _ = run(capsys, monkeypatch, "--help")
    assert "--install-completion" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", HOSTILE),
        ("sweep", HOSTILE),
        ("validate", "quickstart", "--set", f"{HOSTILE}=1"),
        ("ensemble", "--scores", f"{HOSTILE}.json", "--labels", f"{HOSTILE}.csv"),
        ("data", "info", HOSTILE),
        ("bench", HOSTILE),
    ],
)
def test_what_is_typed_is_not_printed_back_as_it_is(arguments, capsys, monkeypatch) -> None:
    code, out, err = run(capsys, monkeypatch, *arguments)
    assert code == 2
    assert "\x1b" not in out + err
    assert r"\x1b[31mred" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("validate", "quickstart", "--no-data", "--set", f"name={LONG}"), "--set name: must have"),
        (("sweep", "quickstart", "--name", "a b"), "--name: must be letters, digits"),
        (
            (
                "validate",
                "quickstart",
                "--no-data",
                "--set",
                f"ensembles=[{{name: {LONG}, over: data.stream, method: mean}}]",
            ),
            "ensembles[0].name: must have at most 80 characters, got 'aaa",
        ),
        (("validate", "quickstart", "--set", f"data.store={LONG}"), ": File name too long"),
        (("validate", LONG), "File name too long"),
        (("status", LONG), ": File name too long"),
        (("data", "info", LONG), ": File name too long"),
        (("ui", "--port", "99999"), "65535"),
        (("ui", "--host", "a b"), "--host: must be an address of this machine, got 'a b'"),
    ],
)
def test_names_that_cannot_be_used(arguments, message, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, monkeypatch, *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("predict", "x", "y", "--unit", "furlong"),
            "Error: Invalid value for '--unit': 'furlong' is not one of 'm', 'cm', 'mm', 'px'.",
        ),
        (
            ("export", "x", "y", "--precision", "fp2"),
            "'fp2' is not one of 'fp32', 'bf16', 'int8', did you mean 'fp32'?",
        ),
        # in a group of commands
        (("data", "import", "arrays", "x", "y", "--channels", "xz"), "did you mean 'xyz'?"),
        (("check", "backbone", "st_gcn", "--set", "model.channels=7"), "--set: channels must be"),
    ],
)
def test_an_option_is_refused_in_plain_words(arguments, message, capsys, monkeypatch) -> None:
    code, _, err = run(capsys, monkeypatch, *arguments)
    assert code == 2
    assert message in err
    assert "Value error" not in err
