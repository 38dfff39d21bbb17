"""`orchestrate data import` from the outside: what it prints, what it writes, how it ends."""

from __future__ import annotations

import inspect
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from orchestrator.cli.commands.data import data_app
from orchestrator.cli.commands.imports import import_app
from tests.naive_ntu import Part, made, one_hot, written
from tests.naive_stores import (
    UCLA_NAMES,
    array,
    bytes_of,
    msr_source,
    table,
    ucla_source,
)
from tests.orchestrator.cli.data_command import SYNTH, lines_of, run, synthetic
from trainables.contract.errors import UserError
from trainables.data.store.reading import Store


def test_import_audit_and_info_of_ucla(tmp_path: Path) -> None:
    src, out = ucla_source(tmp_path / "src", UCLA_NAMES), tmp_path / "store"
    printed = run("import", "nw-ucla", src, out)
    assert "5 clips, 10 classes, 20 frames, protocols xview" in printed
    assert printed.splitlines()[-1] == f"next: orchestrate data audit {out}"
    found = json.loads(run("audit", out, "--json"))
    kinds = {
        "within_train",
        "within_selection",
        "within_test",
        "train_selection",
        "train_test",
        "selection_test",
    }
    assert found["duplicates"] == dict.fromkeys(kinds, 0)
    assert found["protocols"]["xview"]["train"] + found["protocols"]["xview"]["selection"] == 4
    summary = json.loads(run("info", out, "--json"))
    assert (summary["clips"], summary["layout"], summary["protocols"]["xview"]["test"]) == (
        5,
        "ucla20",
        1,
    )


def test_import_of_msr(tmp_path: Path) -> None:
    names = ("a01_s01_e01", "a01_s02_e01", "a02_s01_e01")
    src = msr_source(tmp_path / "src", names, listed=names[:2])
    assert (
        run("import", "msr-action3d", src, tmp_path / "my store").splitlines()[-1]
        == f"next: orchestrate data audit '{tmp_path}/my store'"
    )
    run("import", "msr-action3d", src, tmp_path / "listed")
    run("import", "msr-action3d", src, tmp_path / "all", "--all-clips")
    assert Store.open(tmp_path / "listed").info.clips == 2
    assert Store.open(tmp_path / "all").info.clips == 3


def test_import_of_arrays_with_a_layout_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "clips.npz", a=array(1, 4, 3, 3), b=array(2, 4, 3, 2))
    layout = tmp_path / "stick.yaml"
    layout.write_text(
        "name: stick\njoints: [hip, knee, foot]\nparents: [hip, hip, knee]\norigin: hip\n"
    )
    listed = table(tmp_path / "t.csv", "id,label,split", "a,walk,train", "b,run,test")
    arguments = (
        "import",
        "arrays",
        tmp_path / "clips.npz",
        tmp_path / "store",
        "--table",
        listed,
        "--layout",
        layout,
    )
    run(*arguments, "--pipeline", "ucla")
    made = Store.open(tmp_path / "store")
    assert (made.layout.name, made.info.pipeline, made.info.classes) == (
        "stick",
        "ucla",
        ("run", "walk"),
    )
    with pytest.raises(UserError, match="--force"):
        run(*arguments)
    run(*arguments, "--force")
    assert Store.open(tmp_path / "store").info.pipeline == "ctr"


def test_import_of_ntu(tmp_path: Path) -> None:
    names = ["S001C001P001R001A001", "S001C002P003R001A002", "S018C003P002R001A061"]
    src = written(tmp_path / "src", dict.fromkeys(names, made(4, Part(0, range(4)))))
    (src / "S001C001P001R001A003.skeleton").write_text("1\n1\n")
    result = CliRunner().invoke(
        data_app, ["import", "ntu", str(src), str(tmp_path / "120"), "--jobs", "2"]
    )
    assert "3 clips, 120 classes, 24 frames, protocols xsub, xset" in result.stdout
    note = result.stderr.splitlines()[-2:]
    assert note[0] == "note: damaged files, left out (--strict refuses them): 1"
    assert note[1].startswith("  S001C001P001R001A003: line 3: must be a body of frame 1")
    skipped = next(line for line in lines_of(run("info", tmp_path / "120")) if line[0] == "skipped")
    assert skipped[1].startswith("S001C001P001R001A003: line 3: must be a body of frame 1")
    assert "note: " not in result.stdout
    assert "2 clips, 60 classes, 16 frames" in run(
        "import", "ntu", src, tmp_path / "60", "--release", "60", "--single-actor", "duplicate"
    )
    with pytest.raises(UserError, match=r"S001C001P001R001A003\.skeleton: line 3"):
        run("import", "ntu", src, tmp_path / "strict", "--strict")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["120", "60", "src"]


def test_import_of_ntu_arrays(tmp_path: Path) -> None:
    x = np.ones((2, 3, 150), np.float32)
    np.savez(
        tmp_path / "NTU60_CS.npz",
        x_train=x,
        y_train=one_hot([0, 1], 60),
        x_test=x[:1],
        y_test=one_hot([1], 60),
    )
    result = CliRunner().invoke(
        data_app, ["import", "ntu-npz", str(tmp_path / "NTU60_CS.npz"), str(tmp_path / "plain")]
    )
    assert "3 clips, 60 classes, 18 frames, protocols xsub" in result.stdout
    assert "note: rows have no subjects" in result.stderr
    names = tmp_path / "names.txt"
    names.write_text("S001C002P001R001A001\nS001C003P001R001A002\nS001C001P003R001A002\n")
    run(
        "import",
        "ntu-npz",
        tmp_path / "NTU60_CS.npz",
        tmp_path / "named",
        "--protocol",
        "xview",
        "--names",
        names,
    )
    made_store = Store.open(tmp_path / "named")
    assert made_store.column("subject").tolist() == [3, 1, 1]
    with pytest.raises(UserError, match="needs 60 classes and --protocol xsub or xview"):
        run(
            "import",
            "ntu-npz",
            tmp_path / "NTU60_CS.npz",
            tmp_path / "wrong",
            "--protocol",
            "split",
            "--names",
            names,
        )


def test_import_of_pyskl_annotations(tmp_path: Path) -> None:
    records = [
        {
            "frame_dir": name,
            "label": k % 2,
            "total_frames": 4,
            "keypoint": array(k, 2, 4, 17, 2),
            "keypoint_score": np.ones((2, 4, 17)),
        }
        for k, name in enumerate("abcd")
    ]
    (tmp_path / "mine.pkl").write_bytes(
        pickle.dumps({"split": {"train": ["a", "b"], "val": ["c"]}, "annotations": records})
    )
    (tmp_path / "names.txt").write_text("wave\njump\n")
    result = CliRunner().invoke(
        data_app,
        [
            "import",
            "pyskl",
            *map(str, (tmp_path / "mine.pkl", tmp_path / "s")),
            "--classes",
            str(tmp_path / "names.txt"),
            "--max-persons",
            "1",
        ],
    )
    assert result.exit_code == 0, result.output
    assert "4 clips, 2 classes, 16 frames, protocols split" in result.stdout
    assert result.stderr == "note: clips in no split, stored without a part: 1\n"
    summary = json.loads(run("info", tmp_path / "s", "--json"))
    assert (summary["layout"], summary["classes"], summary["protocols"]["split"]["test"]) == (
        "coco17",
        {"wave": 2, "jump": 2},
        1,
    )
    with pytest.raises(UserError, match=r"--max-persons: .* got 0\n--valid-ratio: .* got 2"):
        run(
            "import",
            "pyskl",
            tmp_path / "mine.pkl",
            tmp_path / "t",
            "--max-persons",
            "0",
            "--valid-ratio",
            "2",
        )


def test_import_of_kinetics_skeletons(tmp_path: Path) -> None:
    for part in ("train", "val"):
        (tmp_path / f"kinetics_{part}").mkdir()
        (tmp_path / f"kinetics_{part}_label.json").write_text(
            json.dumps({part: {"has_skeleton": True, "label": "run", "label_index": 0}})
        )
        content = {
            "data": [{"frame_index": 7, "skeleton": [{"pose": [0.5] * 36, "score": [0.9] * 18}]}],
            "label": "run",
            "label_index": 0,
        }
        (tmp_path / f"kinetics_{part}" / f"{part}.json").write_text(json.dumps(content))
    assert "2 clips, 1 classes, 600 frames, protocols split" in run(
        "import", "kinetics-skeleton", tmp_path, tmp_path / "s"
    )
    assert Store.open(tmp_path / "s").clip(0)[0, 6, 0].tolist() == [170, 128, np.float32(0.9)]


CYCLE = "name: stick\njoints: [hip, knee, foot]\nparents: [hip, foot, knee]\norigin: hip\n"


@pytest.mark.parametrize(
    ("layout", "values", "message"),
    [
        (
            CYCLE,
            array(1, 4, 3, 3),
            (
                r"stick\.yaml: layout 'stick': parents must form a tree, but joint 'knee' is in a"
                r" cycle"
            ),
        ),
        (
            "ntu25",
            array(1, 4, 24, 3),
            r"\[b\]: shape must be \(frames, 25, 2 or 3\) .* for layout 'ntu25', got \(4, 24, 3\)",
        ),
        ("ntu25", np.full((4, 25, 3), np.nan), r"\[b\]: every coordinate must be finite, got 300"),
    ],
)
def test_damaged_arrays_leave_no_store(
    tmp_path: Path, layout: str, values: np.ndarray, message: str
) -> None:
    if layout == CYCLE:
        (tmp_path / "stick.yaml").write_text(layout)
        layout = str(tmp_path / "stick.yaml")
    np.savez(tmp_path / "clips.npz", a=array(1, 4, 25, 3), b=values)
    listed = table(tmp_path / "t.csv", "id,label,split", "a,0,train", "b,1,test")
    with pytest.raises(UserError, match=message) as caught:
        run(
            "import",
            "arrays",
            tmp_path / "clips.npz",
            tmp_path / "store",
            "--table",
            listed,
            "--layout",
            layout,
        )
    assert len(str(caught.value).splitlines()) == 1
    assert not [entry.name for entry in tmp_path.iterdir() if "store" in entry.name]


def test_importing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    src = ucla_source(tmp_path / "src", UCLA_NAMES)
    for name in ("one", "two"):
        run("import", "nw-ucla", src, tmp_path / name)
        run(*SYNTH, tmp_path / f"synth-{name}")
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
    assert bytes_of(tmp_path / "synth-one") == bytes_of(tmp_path / "synth-two")


def test_every_import_stores_int16_where_it_is_asked_to(tmp_path: Path) -> None:
    out = tmp_path / "stores"
    run(
        "import",
        "nw-ucla",
        ucla_source(tmp_path / "ucla", UCLA_NAMES),
        out / "ucla",
        "--storage",
        "int16",
    )
    names = ("a01_s01_e01", "a01_s02_e01")
    run(
        "import",
        "msr-action3d",
        msr_source(tmp_path / "msr", names, listed=names),
        out / "msr",
        "--storage",
        "int16",
    )
    np.savez(tmp_path / "clips.npz", a=array(1), b=array(2))
    listed = table(tmp_path / "t.csv", "id,label,split", "a,walk,train", "b,run,test")
    run(
        "import",
        "arrays",
        tmp_path / "clips.npz",
        out / "arrays",
        "--table",
        listed,
        "--layout",
        "coco17",
        "--storage",
        "int16",
    )
    run(*SYNTH, out / "synth", "--storage", "int16")
    for name in ("ucla", "msr", "arrays", "synth"):
        made = Store.open(out / name)
        assert made.joints.dtype == np.int16
        assert "stored as int16" in run("info", out / name)
    assert all(
        {"storage", "force"} <= set(inspect.signature(command.callback).parameters)
        for command in import_app.registered_commands
    )
    # half a step, of at most 0.2 mm
    np.testing.assert_allclose(Store.open(out / "arrays").clip(0)[0], array(1), rtol=0, atol=1.1e-4)
    run(*SYNTH, out / "plain")
    assert json.loads(run("info", out / "plain", "--json"))["storage"] == "float32"


HOSTILE = ("\x1b[31mred", "../../etc", "a/b", "a\\b", "walk ", "x" * 300, "a\nb")


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", ["arrays", "pyskl", "kinetics", "nctvm"])
def test_every_importer_refuses_the_same_ids(tmp_path: Path, kind: str, name: str) -> None:
    """And shows none of them as it is."""
    src, out = tmp_path / "src", tmp_path / "store"
    src.mkdir()
    annotation = {"label": 0, "keypoint": array(1, 4, 20, 3)[None], "total_frames": 4}
    if kind == "arrays":
        listed = table(src / "t.csv", "id,label,split", f"{name},1,train", "b,2,test")
        arguments = ["arrays", src, out, "--table", listed, "--layout", "ucla20"]
    elif kind == "pyskl":
        records = [{"frame_dir": each} | annotation for each in (name, "b")]
        content = {"split": {"train": [name], "val": ["b"]}, "annotations": records}
        (src / "a.pkl").write_bytes(pickle.dumps(content))
        arguments = ["pyskl", src / "a.pkl", out, "--layout", "ucla20"]
    elif kind == "nctvm":
        for part in ("train", "val"):
            np.save(src / f"{part}_data.npy", np.ones((1, 3, 2, 20, 1)))
            (src / f"{part}_label.pkl").write_bytes(pickle.dumps(([name], [0])))
        arguments = ["nctvm", src, out, "--layout", "ucla20"]
    else:
        for part in ("train", "val"):
            entry = {"has_skeleton": True, "label": "wave", "label_index": 0}
            (src / f"kinetics_{part}_label.json").write_text(json.dumps({name: entry}))
        arguments = ["kinetics-skeleton", src, out]
    with pytest.raises(UserError) as error:
        run("import", *arguments)
    rules = ("must not hold", "must be printable", "white space", "at most 200 characters")
    assert any(rule in str(error.value) for rule in rules)
    assert all(line.isprintable() for line in str(error.value).splitlines())
    assert not out.exists()


@pytest.mark.parametrize("kind", ["arrays", "pyskl", "kinetics", "ntu-npz"])
def test_a_billion_classes_are_refused(tmp_path: Path, kind: str) -> None:
    src, out = tmp_path / "src", tmp_path / "store"
    src.mkdir()
    if kind == "arrays":
        listed = table(src / "t.csv", "id,label,split", "a,0,train", "b,1000000000,test")
        arguments = ["arrays", src, out, "--table", listed, "--layout", "ucla20"]
    elif kind == "pyskl":
        records = [
            {
                "frame_dir": name,
                "label": label,
                "keypoint": array(1, 4, 20, 3)[None],
                "total_frames": 4,
            }
            for name, label in (("a", 0), ("b", 10**9))
        ]
        content = {"split": {"train": ["a"], "val": ["b"]}, "annotations": records}
        (src / "a.pkl").write_bytes(pickle.dumps(content))
        arguments = ["pyskl", src / "a.pkl", out, "--layout", "ucla20"]
    elif kind == "kinetics":
        for name, part, label in (("a", "train", 0), ("b", "val", 10**9)):
            entry = {"has_skeleton": True, "label": f"c{label}", "label_index": label}
            (src / f"kinetics_{part}_label.json").write_text(json.dumps({name: entry}))
        arguments = ["kinetics-skeleton", src, out]
    else:
        one, many = np.ones((1, 3, 150), np.float32), np.zeros((1, 20_000), np.uint8)
        np.savez(src / "a.npz", x_train=one, y_train=many, x_test=one, y_test=many)
        arguments = ["ntu-npz", src / "a.npz", out]
    with pytest.raises(UserError, match="labels must be class numbers below 10000"):
        run("import", *arguments)


def arrays_source(folder: Path, factor: float = 1.0) -> list[object]:
    """Arguments of `import arrays` for two clips of a body, times `factor`."""
    made = Store.open(synthetic(folder / "made"))
    (folder / "src").mkdir()
    for name, position in (("a", 0), ("b", 1)):
        np.save(folder / "src" / f"{name}.npy", made.clip(position) * factor)
    listed = table(folder / "t.csv", "id,label,split", "a,walk,train", "b,run,test")
    return ["arrays", folder / "src", folder / "out", "--table", listed, "--layout", "ucla20"]


def test_millimetres_are_asked_for(tmp_path: Path) -> None:
    arguments = arrays_source(tmp_path, 1000)
    with pytest.raises(UserError, match=r"it would be a body in mm\), got 1[0-9]{3} across"):
        run("import", *arguments)
    assert not (tmp_path / "out").exists()
    run("import", *arguments, "--unit", "mm")
    made, found = Store.open(tmp_path / "made"), Store.open(tmp_path / "out")
    np.testing.assert_allclose(found.clip(0), made.clip(0), rtol=1e-5, atol=1e-6)


def test_a_data_set_has_the_name_it_is_given(tmp_path: Path) -> None:
    arguments = arrays_source(tmp_path)
    run("import", *arguments)
    assert Store.open(tmp_path / "out").info.name == "src"
    assert "out: gestures, 2 clips" in run("import", *arguments, "--force", "--name", "gestures")
    assert Store.open(tmp_path / "out").info.name == "gestures"
    for name in ("x" * 300, "a/b", "", "\x1b[2J"):
        with pytest.raises(UserError, match="the name of a data set must"):
            run("import", *arguments, "--force", "--name", name)
    for importer in import_app.registered_commands:
        assert importer.callback is not None
        assert "name" in inspect.signature(importer.callback).parameters
