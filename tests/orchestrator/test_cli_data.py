"""`orchestrate data` from the outside: what it prints, what it writes, how it ends."""

from __future__ import annotations

import inspect
import json
import pickle
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


def test_import_of_pyskl_annotations(tmp_path: Path) -> None:
    records = [
        {"frame_dir": name, "label": k % 2, "total_frames": 4, "keypoint": array(k, 2, 4, 17, 2), "keypoint_score": np.ones((2, 4, 17))}
        for k, name in enumerate("abcd")
    ]
    (tmp_path / "mine.pkl").write_bytes(pickle.dumps({"split": {"train": ["a", "b"], "val": ["c"]}, "annotations": records}))
    (tmp_path / "names.txt").write_text("wave\njump\n")
    result = CliRunner().invoke(
        data_app,
        ["import", "pyskl", *map(str, (tmp_path / "mine.pkl", tmp_path / "s")), "--classes", str(tmp_path / "names.txt"), "--max-persons", "1"],
    )
    assert result.exit_code == 0, result.output
    assert "4 clips, 2 classes, 16 frames, protocols split" in result.stdout
    assert result.stderr == "clips in no split, stored without a part: 1\n"
    summary = json.loads(run("info", tmp_path / "s", "--json"))
    assert (summary["layout"], summary["classes"], summary["protocols"]["split"]["test"]) == ("coco17", {"wave": 2, "jump": 2}, 1)
    with pytest.raises(UserError, match=r"--max-persons: .* got 0\n--valid-ratio: .* got 2"):
        run("import", "pyskl", tmp_path / "mine.pkl", tmp_path / "t", "--max-persons", "0", "--valid-ratio", "2")


def test_import_of_kinetics_skeletons(tmp_path: Path) -> None:
    for part in ("train", "val"):
        (tmp_path / f"kinetics_{part}").mkdir()
        (tmp_path / f"kinetics_{part}_label.json").write_text(json.dumps({part: {"has_skeleton": True, "label": "run", "label_index": 0}}))
        content = {"data": [{"frame_index": 7, "skeleton": [{"pose": [0.5] * 36, "score": [0.9] * 18}]}], "label": "run", "label_index": 0}
        (tmp_path / f"kinetics_{part}" / f"{part}.json").write_text(json.dumps(content))
    assert "2 clips, 1 classes, 600 frames, protocols split" in run("import", "kinetics-skeleton", tmp_path, tmp_path / "s")
    assert Store.open(tmp_path / "s").clip(0)[0, 6, 0].tolist() == [170, 128, np.float32(0.9)]


CYCLE = "name: stick\njoints: [hip, knee, foot]\nparents: [hip, foot, knee]\norigin: hip\n"


@pytest.mark.parametrize(
    ("layout", "values", "message"),
    [
        (CYCLE, array(1, 4, 3, 3), r"stick\.yaml: layout 'stick': parents must form a tree, but joint 1 is in a cycle"),
        ("ntu25", array(1, 4, 24, 3), r"\[b\]: shape must be \(frames, 25, 2 or 3\) .* for layout 'ntu25', got \(4, 24, 3\)"),
        ("ntu25", np.full((4, 25, 3), np.nan), r"\[b\]: every coordinate must be finite, got 300"),
    ],
)
def test_damaged_arrays_leave_no_store(tmp_path: Path, layout: str, values: np.ndarray, message: str) -> None:
    if layout == CYCLE:
        (tmp_path / "stick.yaml").write_text(layout)
        layout = str(tmp_path / "stick.yaml")
    np.savez(tmp_path / "clips.npz", a=array(1, 4, 25, 3), b=values)
    listed = table(tmp_path / "t.csv", "id,label,split", "a,0,train", "b,1,test")
    with pytest.raises(UserError, match=message) as caught:
        run("import", "arrays", tmp_path / "clips.npz", tmp_path / "store", "--table", listed, "--layout", layout)
    assert len(str(caught.value).splitlines()) == 1
    assert not [entry.name for entry in tmp_path.iterdir() if "store" in entry.name]


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
for command in ([], ["import"], ["import", "arrays"], ["import", "pyskl"], ["synth"], ["info"], ["audit"]):
    assert CliRunner().invoke(data_app, [*command, "--help"]).exit_code == 0
heavy = {"torch", "ray", "mlflow", "pandas", "pyarrow", "numpy"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_synth_defaults_are_those_of_the_generator() -> None:
    """The command repeats them so that --help shows them without importing NumPy."""
    shown = {name: option.default for name, option in inspect.signature(synth).parameters.items()}
    assert {name: shown[name] for name in SyntheticConfig.model_fields} == SyntheticConfig().model_dump()
