"""`orchestrate data` from the outside: what it prints, what it writes, how it ends."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from orchestrator.cli.data import data_app
from orchestrator.cli.imports import synth
from tests.naive_stores import UCLA_NAMES, array, bytes_of, clip, msr_source, store, table, ucla_source
from trainables.contract.errors import GateFailed, OrchestrateError, UserError
from trainables.data.store import Store
from trainables.data.synthetic import SyntheticConfig

SYNTH = ("synth", "--classes", "2", "--clips-per-class", "4", "--subjects", "2", "--views", "2", "--frames", "6")


def run(*arguments: object) -> str:
    """What the command prints on stdout; its own errors are raised, as the top-level command expects."""
    result = CliRunner().invoke(data_app, [str(argument) for argument in arguments])
    if isinstance(result.exception, OrchestrateError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_import_audit_and_info_of_ucla(tmp_path: Path) -> None:
    src, out = ucla_source(tmp_path / "src", UCLA_NAMES), tmp_path / "store"
    printed = run("import", "nw-ucla", src, out)
    assert "5 clips, 10 classes, 20 frames, protocols xview" in printed
    assert printed.splitlines()[-1] == f"next: orchestrate data audit {out}"
    found = json.loads(run("audit", out, "--json"))
    kinds = {"within_train", "within_selection", "within_test", "train_selection", "train_test", "selection_test"}
    assert found["duplicates"] == dict.fromkeys(kinds, 0)
    assert found["protocols"]["xview"]["train"] + found["protocols"]["xview"]["selection"] == 4
    summary = json.loads(run("info", out, "--json"))
    assert (summary["clips"], summary["layout"], summary["protocols"]["xview"]["test"]) == (5, "ucla20", 1)


def test_import_of_msr(tmp_path: Path) -> None:
    names = ("a01_s01_e01", "a01_s02_e01", "a02_s01_e01")
    src = msr_source(tmp_path / "src", names, listed=names[:2])
    run("import", "msr-action3d", src, tmp_path / "listed")
    run("import", "msr-action3d", src, tmp_path / "all", "--all-clips")
    assert Store.open(tmp_path / "listed").info.clips == 2
    assert Store.open(tmp_path / "all").info.clips == 3


def test_import_of_arrays_with_a_layout_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "clips.npz", a=array(1, 4, 3, 3), b=array(2, 4, 3, 2))
    layout = tmp_path / "stick.yaml"
    layout.write_text("name: stick\njoints: [hip, knee, foot]\nparents: [hip, hip, knee]\norigin: hip\n")
    listed = table(tmp_path / "t.csv", "id,label,split", "a,walk,train", "b,run,test")
    arguments = ("import", "arrays", tmp_path / "clips.npz", tmp_path / "store", "--table", listed, "--layout", layout)
    run(*arguments, "--pipeline", "ucla")
    made = Store.open(tmp_path / "store")
    assert (made.layout.name, made.info.pipeline, made.info.classes) == ("stick", "ucla", ("run", "walk"))
    with pytest.raises(UserError, match="--force"):
        run(*arguments)
    run(*arguments, "--force")
    assert Store.open(tmp_path / "store").info.pipeline == "ctr"


def test_importing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    src = ucla_source(tmp_path / "src", UCLA_NAMES)
    for name in ("one", "two"):
        run("import", "nw-ucla", src, tmp_path / name)
        run(*SYNTH, tmp_path / f"synth-{name}")
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
    assert bytes_of(tmp_path / "synth-one") == bytes_of(tmp_path / "synth-two")


def test_synth_takes_its_settings(tmp_path: Path) -> None:
    printed = run(*SYNTH, tmp_path / "s", "--layout", "coco17", "--persons", "2", "--seed", "3", "--noise", "0")
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


def test_every_import_stores_int16_where_it_is_asked_to(tmp_path: Path) -> None:
    out = tmp_path / "stores"
    run("import", "nw-ucla", ucla_source(tmp_path / "ucla", UCLA_NAMES), out / "ucla", "--storage", "int16")
    names = ("a01_s01_e01", "a01_s02_e01")
    run("import", "msr-action3d", msr_source(tmp_path / "msr", names, listed=names), out / "msr", "--storage", "int16")
    np.savez(tmp_path / "clips.npz", a=array(1), b=array(2))
    listed = table(tmp_path / "t.csv", "id,label,split", "a,walk,train", "b,run,test")
    run("import", "arrays", tmp_path / "clips.npz", out / "arrays", "--table", listed, "--layout", "coco17", "--storage", "int16")
    run(*SYNTH, out / "synth", "--storage", "int16")
    for name in ("ucla", "msr", "arrays", "synth"):
        made = Store.open(out / name)
        assert made.joints.dtype == np.int16
        assert "storage           int16" in run("info", out / name)
    np.testing.assert_allclose(Store.open(out / "arrays").clip(0)[0], array(1), rtol=0, atol=1.1e-4)  # half a step, of at most 0.2 mm
    run(*SYNTH, out / "plain")
    assert json.loads(run("info", out / "plain", "--json"))["storage"] == "float32"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*SYNTH, "out", "--classes", "1", "--frames", "2"), r"--classes: .* got 1\n--frames: .* got 2"),
        ((*SYNTH, "out", "--clips-per-class", "3"), r"clips_per_class must be at least subjects \* views = 4, got 3"),
        ((*SYNTH, "out", "--layout", "ntu26"), "layout must be one of"),
        (("import", "nw-ucla", "nowhere", "out"), r"ucla_train\.json: the list cannot be read"),
        (("info", "nowhere"), r"nowhere: must be a store"),
        (("audit", "nowhere"), r"nowhere: must be a store"),
        (("audit", "nowhere", "--selection-kind", "person", "--fraction", "2"), r"--selection-kind: .* got person\n--fraction: .* got 2"),
    ],
)
def test_wrong_values_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        run(*arguments)
    assert caught.value.exit_code == 2
    assert not list(tmp_path.iterdir())


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    clips = [clip("a", 0, fill=1), clip("b", 1, fill=2), clip("c", 0, fill=1, split="test"), clip("d", 1, fill=1, split="val")]
    return store(tmp_path / "leaky", clips).path


def test_audit_says_what_is_where(leaky: Path) -> None:
    printed = run("audit", leaky, "--selection-kind", "protocol")
    assert "protocol split: train 2, selection 1 (protocol), test 1, clean test 0" in printed
    lines = [re.split(r"\s{2,}", line.strip()) for line in printed.splitlines()]
    assert ["identical: train test", "1", "c"] in lines
    assert ["identical: selection test", "1", "c"] in lines
    assert ["identical: train selection", "1", "d"] in lines
    assert ["identical clips with different labels", "1", "d"] in lines
    assert ["coordinates that are NaN or infinite", "0"] in lines


def test_strict_audit_prints_and_then_fails(leaky: Path) -> None:
    result = CliRunner().invoke(data_app, ["audit", str(leaky), "--strict", "--json", "--selection-kind", "none"])
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
    assert list(json.loads(run("audit", tmp_path / "s", "--json"))["protocols"]) == ["xsub", "xview"]
    one = json.loads(
        run("audit", tmp_path / "s", "--protocol", "xview", "--selection-kind", "clip", "--fraction", "0.5", "--seed", "1", "--json")
    )
    assert list(one["protocols"]) == ["xview"]
    assert one["protocols"]["xview"]["selection"] == one["protocols"]["xview"]["train"] == 2
    with pytest.raises(UserError, match="protocol must be one of xsub, xview, got 'xset'"):
        run("audit", tmp_path / "s", "--protocol", "xset")


def test_info_prints_tables(tmp_path: Path) -> None:
    run(*SYNTH, tmp_path / "s")
    printed = run("info", tmp_path / "s")
    for text in ("movement 1", "ucla20 (20 joints)", "xview", "2: 1, 2", "synthetic"):
        assert text in printed


def test_help_stays_light() -> None:
    code = """
import sys
from typer.testing import CliRunner
from orchestrator.cli.data import data_app
from orchestrator.cli.imports import synth
for command in ([], ["import"], ["import", "arrays"], ["synth"], ["info"], ["audit"]):
    assert CliRunner().invoke(data_app, [*command, "--help"]).exit_code == 0
heavy = {"torch", "ray", "mlflow", "pandas", "pyarrow", "numpy"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_synth_defaults_are_those_of_the_generator() -> None:
    """The command repeats them so that --help shows them without importing NumPy."""
    shown = {name: option.default for name, option in inspect.signature(synth).parameters.items()}
    assert {name: shown[name] for name in SyntheticConfig.model_fields} == SyntheticConfig().model_dump()
