"""Exported files give the logits of what they were made of, where this package is not installed."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainables.deploy.export.store_cases import SHAPES, raw, seen, store_of
from tests.trainables.deploy.export.test_exported import about_of
from tests.trainables.models.multilevel_cases import masked
from trainables.contract.config import ModelConfig
from trainables.contract.errors import UserError
from trainables.deploy.export.exported import open_exported
from trainables.deploy.export.formats import onnx_file, openvino_file, to_onnx, to_pt2, trace
from trainables.deploy.export.whole import Member, Whole
from trainables.deploy.form import deploy
from trainables.deploy.predict import score_store
from trainables.models.backbone import NetworkSpec
from trainables.models.build import build_training_form

FRAMES = 8
FILES = ("model.pt2", "model.onnx", "model.xml")
DOCS = Path(__file__).parents[4] / "docs" / "export.md"

ALONE = """
import importlib.util, pathlib, sys
project = ("trainables", "orchestrator")
sys.meta_path = [each for each in sys.meta_path if "editable" not in repr(each)]
sys.path = [each for each in sys.path if not (pathlib.Path(each) / project[0]).is_dir()]
assert not any(importlib.util.find_spec(name) for name in project)
"""


def network_of(store, backbone, **options):
    """An untrained deploy form whose normalisations have statistics."""
    torch.manual_seed(0)
    groups = {"groups": 4} if backbone.startswith("hpi") else {}
    model = ModelConfig(
        backbone=backbone, channels=16, stages=(1,), input_block="conv", **groups, **options
    )
    spec = NetworkSpec(model=model, parents=store.layout.parents, classes=3, persons=2)
    network = build_training_form(spec)
    for _ in range(3):
        network(torch.randn(4, 3, FRAMES, store.layout.size, 2))
    return deploy(network.eval(), frames=FRAMES)


def written(folder, store, members, recipe):
    """All files of one model, the raw clips in `clips.npy` and what they give in the package."""
    whole = Whole(members, store.info, recipe, 130)
    clips = np.concatenate([raw(store, position) for position in same_length(store)])
    program = trace(whole, clips.shape[1], store.layout.size, 2)
    about, model = about_for(store).model_dump_json(), to_onnx(program)
    content = {**to_pt2(program, about), **onnx_file(model, about), **openvino_file(model, about)}
    for ending, data in content.items():
        (folder / f"model{ending}").write_bytes(data)
    np.save(folder / "clips.npy", clips)
    logits = [
        score_store(member.form, store, np.arange(len(SHAPES)), member.data, torch.device("cpu"))
        for member in members
    ]
    return [table.logits for table in logits]


def about_for(store):
    return about_of(store.info.channels, joints=store.layout.joints)


def same_length(store):
    """Positions of the clips of twelve frames."""
    return np.flatnonzero(np.asarray(store.column("length")) == 12)


def logits_of(path, store):
    """Of every clip, one by one."""
    exported = open_exported(path, threads=1)
    return np.concatenate([exported._run(np.ascontiguousarray(raw(store, i))) for i in range(10)])


def two_streams(store):
    members = [
        Member("one", network_of(store, "hpi_gcn_rp"), seen(store, "joint")),
        Member("two", network_of(store, "hpi_gcn_rp"), seen(store, "bone_motion")),
    ]
    recipe = {
        "combine": "probabilities",
        "sources": [[0.75, {"trial": "one"}, 2.0], [0.25, {"trial": "two"}]],
    }
    return members, recipe


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Folder with the files of a two-stream ensemble, its store and its members' logits."""
    folder = tmp_path_factory.mktemp("model")
    store = store_of(folder / "store", "ctr")
    members, recipe = two_streams(store)
    return folder, store, written(folder, store, members, recipe)


def fused(tables):
    first, second = (np.exp(each) for each in (tables[0] / 2.0, tables[1]))
    shares = [each / each.sum(axis=1, keepdims=True) for each in (first, second)]
    return np.log(0.75 * shares[0] + 0.25 * shares[1])


@pytest.mark.parametrize("name", FILES)
def test_an_ensemble_of_two_streams_gives_its_logits_for_clips_of_every_length(model, name):
    folder, store, tables = model
    np.testing.assert_allclose(logits_of(folder / name, store), fused(tables), atol=1e-4)


@pytest.mark.parametrize("name", FILES)
def test_an_opened_file_says_what_it_is_and_gives_probabilities(model, name):
    folder, store, tables = model
    exported = open_exported(folder / name)
    assert exported.about == about_for(store)
    clips = np.load(folder / "clips.npy")
    expected = np.exp(fused(tables))[same_length(store)]
    np.testing.assert_allclose(exported.probabilities(clips), expected, atol=1e-4)


def blocks():
    """The programs of the page."""
    return re.findall(r"```python\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)


def test_what_the_page_shows_runs_without_this_package(model):
    """One process for all programs: a runtime takes a second to load."""
    folder, store, tables = model
    np.save(folder / "expected.npy", fused(tables)[same_length(store)])
    programs = [block for block in blocks() if "trainables" not in block]
    assert len(programs) == 6
    checks = [
        "np.testing.assert_allclose(logits, np.load('expected.npy'), atol=1e-4)"
        if "logits" in block
        else "assert about['description']['classes'] == ['sit', 'stand', 'wave']"
        for block in programs
    ]
    script = "\n".join([ALONE, *(f"{a}\n{b}" for a, b in zip(programs, checks, strict=True))])
    alone(script, folder)


def alone(script, folder):
    done = subprocess.run(
        [sys.executable, "-I", "-W", "ignore", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_the_program_that_uses_this_package_runs_too(model, monkeypatch):
    folder, store, tables = model
    monkeypatch.chdir(folder)
    (program,) = (block for block in blocks() if "trainables" in block)
    names = {}
    exec(program, names)
    np.testing.assert_allclose(names["logits"], fused(tables)[same_length(store)], atol=1e-4)
    assert names["classes"] == ("sit", "stand", "wave")


def test_a_file_holds_no_line_of_the_code_it_was_made_of(model):
    folder, _store, _tables = model
    for name in (*FILES, "model.bin"):
        content = (folder / name).read_bytes()
        assert b"site-packages" not in content, name
        assert b"trainables/" not in content, name


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_short_is_refused(model, tmp_path, name):
    content = (model[0] / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=f"{name}: must be a readable exported file"):
        open_exported(tmp_path / name)


def test_weights_of_another_model_of_the_same_size_are_refused(model, tmp_path):
    for name in ("model.xml", "model.bin"):
        (tmp_path / name).write_bytes((model[0] / name).read_bytes())
    open_exported(tmp_path / "model.xml")
    places = re.findall(r'offset="(\d+)" size="(\d+)"', (tmp_path / "model.xml").read_text())
    start, size = max(((int(at), int(size)) for at, size in places), key=lambda each: each[1])
    weights = np.fromfile(tmp_path / "model.bin", np.uint8)
    weights[start : start + size] ^= 1
    weights.tofile(tmp_path / "model.bin")
    with pytest.raises(UserError, match=r"bin: must be the file that was written with model\.xml"):
        open_exported(tmp_path / "model.xml")


def test_pickles_of_more_than_tensors_are_refused(tmp_path):
    import io
    import zipfile

    harmful = io.BytesIO()
    torch.save({"path": Path("somewhere")}, harmful)
    with zipfile.ZipFile(tmp_path / "model.pt2", "w") as archive:
        archive.writestr("model/data/sample_inputs/model.pt", harmful.getvalue())
    with pytest.raises(UserError, match="must be a readable exported file"):
        open_exported(tmp_path / "model.pt2")


HEAVY = {
    "ctr_gcn": ("ucla", "ctr_gcn", "joint_motion"),
    "info_gcn": ("ctr", "info_gcn", "bone"),
    "hpi_gcn_rp": ("pyskl", "hpi_gcn_rp", "bone_motion"),
    "st_gcn": ("pyskl xyc", "st_gcn", "bone_motion"),
    "hd_gcn": ("pyskl xy", "hd_gcn", "joint"),
    "aa_gcn": ("ucla", "aa_gcn", "joint"),
    "dg_stgcn": ("ucla", "dg_stgcn", "joint"),
}


@pytest.mark.full
@pytest.mark.parametrize("case", HEAVY)
def test_every_kind_of_network_and_of_data_set_gives_its_logits(tmp_path, case):
    kind, backbone, stream = HEAVY[case]
    store = store_of(tmp_path / "store", kind)
    members = [Member("one", network_of(store, backbone), seen(store, stream))]
    assert_same_everywhere(tmp_path, store, members)


def assert_same_everywhere(folder, store, members):
    """One network's logits: of every clip in its three files, and where this package is not."""
    (expected,) = written(folder, store, members, {"trial": "one"})
    for name in FILES:
        ours = logits_of(folder / name, store)
        np.testing.assert_allclose(ours, expected, atol=1e-4, err_msg=name)
    np.save(folder / "expected.npy", expected[same_length(store)])
    programs = [block for block in blocks() if "logits" in block and "trainables" not in block]
    check = "\nnp.testing.assert_allclose(logits, np.load('expected.npy'), atol=1e-4)\n"
    alone("\n".join([ALONE, *(program + check for program in programs)]), folder)


@pytest.mark.full
@pytest.mark.parametrize("network", ["nested", "experts", "mixture"])
def test_networks_of_several_levels_give_their_logits(tmp_path, network):
    store = store_of(tmp_path / "store", "coco")
    form = deploy(masked(network, persons=2).float().eval(), frames=FRAMES)
    members = [Member("one", form, seen(store))]
    assert_same_everywhere(tmp_path, store, members)
