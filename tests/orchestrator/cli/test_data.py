"""`orchestrate data` from the outside: synth, info, audit, and how each command ends."""

from __future__ import annotations

import inspect
import io
import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from orchestrator.cli.commands.data import audit, data_app
from orchestrator.cli.commands.imports import synth
from orchestrator.cli.printing import tables
from orchestrator.cli.printing.stores import BESIDE_BAR, print_summary
from tests.naive_stores import (
    SPLIT,
    clip,
    store,
)
from tests.orchestrator.cli.data_command import SYNTH, lines_of, run
from trainables.contract.errors import GateFailed, UserError
from trainables.data.inspection.audit import NEAR
from trainables.data.inspection.summary import summarise
from trainables.data.store.reading import Clip, Store
from trainables.data.synthetic import SyntheticConfig


def test_synth_takes_its_settings(tmp_path: Path) -> None:
    printed = run(
        *SYNTH,
        tmp_path / "s",
        "--layout",
        "coco17",
        "--persons",
        "2",
        "--seed",
        "3",
        "--noise",
        "0",
    )
    assert "8 clips, 2 classes" in printed
    made = Store.open(tmp_path / "s")
    assert made.layout.name == "coco17"
    settings = made.info.provenance["settings"]
    assert settings == {
        "classes": 2,
        "clips_per_class": 4,
        "subjects": 2,
        "views": 2,
        "frames": 6,
        "persons": 2,
        "noise": 0.0,
        "seed": 3,
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (*SYNTH, "out", "--classes", "1", "--frames", "2"),
            r"--classes: .* got 1\n--frames: .* got 2",
        ),
        (
            (*SYNTH, "out", "--clips-per-class", "3"),
            r"clips_per_class must be at least subjects \* views = 4, got 3",
        ),
        ((*SYNTH, "out", "--layout", "ntu26"), "layout must be one of"),
        (
            ("import", "nw-ucla", "nowhere", "out"),
            (
                r"nowhere: must be a folder that holds all_sqe/ .*, but lacks ucla_train\.json,"
                r" ucla_valid\.json"
            ),
        ),
        (
            ("import", "ntu", "nowhere", "out"),
            r"nowhere: must be a folder or a \.zip of \.skeleton files",
        ),
        (
            ("import", "ntu", "S001C001P001R001A001.skeleton", "out"),
            r"must be a folder or a \.zip of \.skeleton files, not one of them",
        ),
        (("import", "ntu-npz", "nowhere", "out"), r"nowhere: must be an \.npz archive"),
        (("info", "nowhere"), r"nowhere: must be a store .* /\S*/nowhere is not there"),
        (("info", __file__), r"test_data\.py: must be a store .* it is a file"),
        (("info", "."), r"\.: must be a store .* there is no dataset\.json in it"),
        (("audit", "nowhere"), r"nowhere: must be a store"),
        (
            ("audit", "nowhere", "--selection-kind", "person", "--fraction", "2"),
            r"--selection-kind: .* got person\n--fraction: .* got 2",
        ),
    ],
)
def test_wrong_values_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        run(*arguments)
    assert caught.value.exit_code == 2
    assert not list(tmp_path.iterdir())


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    clips = [
        clip("a", 0, fill=1),
        clip("b", 1, fill=2),
        clip("c", 0, fill=1, split="test"),
        clip("d", 1, fill=1, split="val"),
    ]
    return store(tmp_path / "leaky", clips).path


def test_a_store_is_pushed_and_looked_at_where_it_is(tmp_path: Path) -> None:
    made = store(tmp_path / "s", [clip("a"), clip("b", split="test")])
    address = f"file://{tmp_path}/bucket/s"
    assert run("push", made.path, address) == f"{address}: {made.info.name}, 2 clips\n"
    there, here = (json.loads(run("info", place, "--json")) for place in (address, made.path))
    assert there | {"path": here["path"]} == here
    assert run("audit", address) == run("audit", made.path)


@pytest.mark.parametrize(
    "arguments",
    [(*SYNTH, "s3://bucket/s"), ("import", "nw-ucla", "s3://bucket/raw", "out")],
    ids=str,
)
def test_what_is_made_from_files_lies_on_this_machine(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        UserError, match=r"s3:/bucket/\w+: must be a place on this machine, no addr"
    ):
        run(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_audit_says_what_is_where(leaky: Path) -> None:
    printed = run("audit", leaky, "--selection-kind", "protocol")
    assert "protocol split: train 2, selection 1 (protocol), test 1, clean test 0" in printed
    lines = lines_of(printed)
    assert ["identical: train test", "1", "c"] in lines
    assert ["identical: selection test", "1", "c"] in lines
    assert ["identical: train selection", "1", "d"] in lines
    assert ["identical clips with different labels", "1", "d"] in lines
    assert ["coordinates that are NaN or infinite", "0"] in lines


def test_strict_audit_prints_and_then_fails(leaky: Path) -> None:
    result = CliRunner().invoke(
        data_app, ["audit", str(leaky), "--strict", "--json", "--selection-kind", "none"]
    )
    assert isinstance(result.exception, GateFailed)
    assert result.exception.exit_code == 4
    assert "split: 1 clips have an identical clip in another part" in str(result.exception)
    assert json.loads(result.stdout)["duplicates"]["train_test"] == 1


def test_strict_audit_of_a_clean_store_passes(tmp_path: Path) -> None:
    run(*SYNTH, tmp_path / "s")
    result = CliRunner().invoke(data_app, ["audit", str(tmp_path / "s"), "--strict"])
    assert (result.exit_code, result.exception) == (0, None)


def test_audit_of_one_protocol(tmp_path: Path) -> None:
    run(*SYNTH, tmp_path / "s")
    assert list(json.loads(run("audit", tmp_path / "s", "--json"))["protocols"]) == [
        "xsub",
        "xview",
    ]
    one = json.loads(
        run(
            "audit",
            tmp_path / "s",
            "--protocol",
            "xview",
            "--selection-kind",
            "clip",
            "--fraction",
            "0.5",
            "--seed",
            "1",
            "--json",
        )
    )
    assert list(one["protocols"]) == ["xview"]
    assert one["protocols"]["xview"]["selection"] == one["protocols"]["xview"]["train"] == 2
    with pytest.raises(UserError, match="protocol must be one of xsub, xview, got 'xset'"):
        run("audit", tmp_path / "s", "--protocol", "xset")


def test_info_prints_tables(tmp_path: Path) -> None:
    run(*SYNTH, tmp_path / "s")
    printed = run("info", tmp_path / "s")
    for text in ("movement 1", "ucla20 (20 joints)", "xview", "2, of 4 clips", "synthetic"):
        assert text in printed


def test_info_shows_lengths_as_bars_and_how_groups_are_split(tmp_path: Path) -> None:
    clips = [
        clip(
            f"{i:02}",
            i % 2,
            frames=5 if i < 8 else 6,
            split="train" if i < 7 else "test",
            subject=i % 3,
        )
        for i in range(10)
    ]
    lines = lines_of(run("info", store(tmp_path / "s", clips).path))
    assert ["5", "8", "█" * 40] in lines
    assert ["6", "2", "█" * 10] in lines
    # nobody is in a validation part
    assert lines[lines.index(["class", "clips", "train", "test"]) - 1] == ["split", "split"]
    assert ["class 0", "5", "4", "1"] in lines
    assert ["2", "3", "2", "1"] in lines  # subject 2
    assert ["cameras", "not known"] in lines
    assert ["joints", "x, y, z in metres, stored as float32"] in lines


def test_info_loses_no_column_on_a_narrow_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = dict.fromkeys(("first", "second", "third", "fourth", "fifth"), SPLIT["split"])
    clips = [clip("a"), clip("b", split="test"), clip("c", split="val")]
    made = summarise(store(tmp_path / "s", clips, protocols=rules))
    screen = io.StringIO()
    monkeypatch.setattr(
        tables,
        "Console",
        partial(Console, file=screen, force_terminal=True, width=50, no_color=True),
    )
    print_summary(made)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue()).splitlines()
    assert any(line.split().count("selection") == 5 for line in lines)
    assert sum("█" in line for line in lines) == 1  # a bar is shorter, not folded
    assert next(line for line in lines if "█" in line).count("█") == 50 - BESIDE_BAR


def test_info_says_settings_in_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = summarise(store(tmp_path / "s", [clip("a"), clip("b", split="test")]))
    made["provenance"] = {"settings": {"classes": 10, "sizes": [3, 4], "kind": "walk"}}
    print_summary(made)
    assert "classes: 10, sizes: 3/4, kind: walk" in capsys.readouterr().out


def test_info_of_many_classes_shows_the_ends_and_json_everything(tmp_path: Path) -> None:
    """Every class has 1 clip, but class 3 has 2 and class 50 has 3."""
    clips = [
        clip(f"{k:02}_{i}", k, split="train" if k % 2 else "test")
        for k in range(60)
        for i in range({3: 2, 50: 3}.get(k, 1))
    ]
    made = store(tmp_path / "s", clips, classes=60).path
    lines = lines_of(run("info", made))
    assert ["classes", "60, of 1 to 3 clips"] in lines
    assert ["... 48 more"] in lines
    assert lines.index(["class 3", "2", "2", "0"]) + 1 == lines.index(["class 50", "3", "0", "3"])
    assert sum(line[0].startswith("class ") for line in lines) == 12
    counts = json.loads(run("info", made, "--json"))["counts"]["class"]
    assert len(counts) == 60
    assert counts["class 50"] == {
        "clips": 3,
        "protocols": {"split": {"train": 0, "selection": 0, "test": 3}},
    }


def test_audit_says_what_is_near(tmp_path: Path) -> None:
    one = clip("a", subject=1)
    made = store(
        tmp_path / "s", [one, Clip("b", 0, one.joints + 1, subject=1, extra={"split": "test"})]
    ).path
    lines = lines_of(run("audit", made))
    assert ["near copies: train test", "1", "b"] in lines
    assert ["identical", "0"] in lines
    assert ["subjects in both: train test", "1", "1"] in lines
    # in float32, 1 m away, rounding alone is more
    found = json.loads(run("audit", made, "--json", "--near", "1e-5"))
    assert (found["near"], found["unit"], found["near_duplicates"]["train_test"]) == (1e-5, "mm", 0)
    with pytest.raises(UserError, match="near must be a positive number, got 0"):
        run("audit", made, "--near", "0")
    result = CliRunner().invoke(data_app, ["audit", str(made), "--strict"])
    assert "split: 1 clips have a near copy in another part" in str(result.exception)


def test_help_stays_light() -> None:
    code = """
import sys
from typer.testing import CliRunner
from orchestrator.cli.commands.data import data_app
from orchestrator.cli.commands.imports import synth
names = ("arrays", "ntu", "ntu-npz", "pyskl", "kinetics-skeleton")
imports = (["import", name] for name in names)
for command in ([], ["import"], *imports, ["synth"], ["info"], ["audit"], ["show"]):
    assert CliRunner().invoke(data_app, [*command, "--help"]).exit_code == 0
heavy = {"torch", "ray", "mlflow", "pandas", "pyarrow", "numpy", "matplotlib", "PIL"}
heavy &= set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_tolerance_shown_is_that_of_the_audit() -> None:
    assert inspect.signature(audit).parameters["near"].default == NEAR


def test_synth_defaults_are_those_of_the_generator() -> None:
    """The command repeats them so that --help shows them without importing NumPy."""
    shown = {name: option.default for name, option in inspect.signature(synth).parameters.items()}
    assert {
        name: shown[name] for name in SyntheticConfig.model_fields
    } == SyntheticConfig().model_dump()
