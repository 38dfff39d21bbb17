"""A file is written whole and only where it is as good as it must be."""

import errno
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.trainables.deploy.export.store_cases import SHAPES, seen, store_of
from tests.trainables.deploy.export.test_files import network_of
from trainables.contract.errors import GateFailed, OutOfSpace, UserError
from trainables.contract.scores import Scores
from trainables.deploy.export import export as exporting
from trainables.deploy.export.about import Check
from trainables.deploy.export.export import Asked, Source, check_target, export, judge, put
from trainables.deploy.export.exported import open_exported
from trainables.deploy.export.formats import ENDINGS
from trainables.deploy.export.precisions import bfloat16_bits
from trainables.deploy.export.whole import Member, combine
from trainables.deploy.predict import score_store


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    store = store_of(tmp_path_factory.mktemp("export") / "store", "ucla")
    form, data = network_of(store, "st_gcn"), seen(store)
    every = np.arange(len(SHAPES))
    scores = score_store(form, store, every, data, torch.device("cpu"))
    return Source(
        name="one",
        kind="trial",
        members=[Member("one", form, data)],
        digests=["0" * 64],
        recipe={"trial": "one"},
        store=store,
        stored=Scores(scores.ids, scores.logits, scores.logits.argmax(axis=1)),
        split="selection",
        training=every[:6],
    )


def test_a_file_holds_what_was_checked_and_is_not_replaced_unasked(source, tmp_path):
    out = tmp_path / "model.pt2"
    about, size = export(source, out, Asked("pt2"))
    assert size == out.stat().st_size
    assert open_exported(out).about == about
    assert about.check.largest_difference < 1e-4
    assert about.check.clips == len(SHAPES)
    assert about.members[0].stream == "joint"
    assert about.joints == source.store.layout.joints
    with pytest.raises(UserError, match="must not exist yet"):
        export(source, out, Asked("pt2"))


def test_other_logits_than_the_stored_ones_are_not_written(source, tmp_path):
    others = source.stored.logits + np.float32(0.01)
    wrong = replace(source, stored=Scores(source.stored.ids, others, source.stored.labels))
    with pytest.raises(GateFailed, match="must be the stored ones within"):
        export(wrong, tmp_path / "model.pt2", Asked("pt2"))
    assert not list(tmp_path.iterdir())


def test_a_store_without_the_scored_clips_is_named(source, tmp_path):
    ids = tuple(f"other {number:03d}" for number in range(len(SHAPES)))
    wrong = replace(source, stored=Scores(ids, source.stored.logits))
    with pytest.raises(UserError, match="must be the store that one was scored on"):
        export(wrong, tmp_path / "model.pt2", Asked("pt2"))


@pytest.mark.parametrize(
    ("name", "asked", "message"),
    [
        ("model.onnx", Asked("pt2"), r"must end in \.pt2 for --format pt2, got '\.onnx'"),
        ("model.pt2", Asked("pt2", "int8"), "--precision int8: must be made for onnx or openvino"),
        ("there.onnx", Asked("onnx"), "must not exist yet"),
        ("there.xml", Asked("openvino"), r"there\.bin: must not exist yet"),
        ("folder.onnx", Asked("onnx", force=True), "must not exist yet$"),
        ("there.bin/model.onnx", Asked("onnx"), "there.bin must be a folder that can be written"),
    ],
)
def test_where_no_file_can_be_is_said_before_anything_is_made(tmp_path, name, asked, message):
    for there in ("there.onnx", "there.bin"):
        (tmp_path / there).touch()
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(UserError, match=message):
        check_target(tmp_path / name, asked)


@pytest.mark.parametrize(
    ("asked", "needs"),
    [
        (Asked("onnx"), "--format onnx: needs onnx, onnxscript, onnxruntime; pip install"),
        (Asked("openvino", "int8"), "needs onnx, onnxscript, openvino, onnxruntime; pip install"),
    ],
)
def test_what_is_not_installed_is_said_before_anything_is_made(tmp_path, monkeypatch, asked, needs):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(UserError, match=rf"{needs} 'orchestrate\[export\]'"):
        check_target(tmp_path / f"model{ENDINGS[asked.format]}", asked)


def test_a_lower_precision_needs_labels(source, tmp_path):
    unlabelled = replace(source, stored=Scores(source.stored.ids, source.stored.logits))
    with pytest.raises(UserError, match="to be exported in bf16, but nothing was held out"):
        export(unlabelled, tmp_path / "model.pt2", Asked("pt2", "bf16"))


def check(only_before, only_after, clips=1000):
    return Check(
        split="selection",
        clips=clips,
        largest_difference=0.5,
        largest_logit=10.0,
        lost_points=100 * (only_before - only_after) / clips,
        only_before=only_before,
        only_after=only_after,
        tolerance=0.2,
    )


def test_a_lower_precision_may_lose_as_much_as_is_tolerated():
    judge("one", check(4, 2), Asked("onnx", "int8", 0.2))
    judge("one", check(0, 9), Asked("onnx", "int8", 0.2))
    message = (
        r"lose at most 0\.2 points of top-1 \(--tolerance\), got 0\.30 points on 1000 selection"
        r" clips, standard error 0\.22: 4 clips became wrong and 1 right, one clip is 0\.10 points"
    )
    with pytest.raises(GateFailed, match=message):
        judge("one", check(4, 1), Asked("onnx", "int8", 0.2))


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_logits_that_are_not_numbers_pass_no_gate(precision):
    lost = check(0, 0).model_copy(update={"largest_difference": exporting.NOT_FINITE})
    with pytest.raises(GateFailed):
        judge("one", lost, Asked("onnx", precision))


def test_a_tolerance_that_is_no_number_tolerates_nothing():
    with pytest.raises(GateFailed):
        judge("one", check(4, 1), Asked("onnx", "int8", float("nan")))


def test_a_tolerance_below_one_clip_is_said_to_be_that():
    assert exporting.said_loss(check(1, 1)).endswith("one clip is 0.10 points")
    said = exporting.said_loss(check(1, 1, clips=200))
    assert said.endswith("one clip is 0.50 points, which is more than the tolerance of 0.2")


def test_a_file_that_came_meanwhile_is_not_replaced(source, tmp_path):
    out = tmp_path / "model.pt2"
    with pytest.raises(UserError, match="must not exist yet"):
        export(source, out, Asked("pt2"), lambda _text: out.write_bytes(b"another's"))
    assert out.read_bytes() == b"another's"


def content_of(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


PAIR = {"model.bin": b"old weights", "model.xml": b"old graph"}
FULL = OutOfSpace("model.xml", OSError(errno.ENOSPC, "No space left on device"))


@pytest.mark.parametrize("before", [{}, PAIR, {"model.bin": b"alone"}])
@pytest.mark.parametrize("fails", [".bin", ".xml"])
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.EIO, "Input/output error"), UserError),
        (FULL, OutOfSpace),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_of_two_files_none_is_replaced_alone(tmp_path, monkeypatch, before, fails, error, raised):
    real = exporting.write_atomic

    def failing(path, content):
        if path.suffix == fails:
            raise error
        real(path, content)

    for name, content in before.items():
        (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(exporting, "write_atomic", failing)
    files = {ending: tmp_path / f"model{ending}" for ending in (".bin", ".xml")}
    with pytest.raises(raised):
        put({".bin": b"1", ".xml": b"2"}, files)
    assert content_of(tmp_path) == before


def test_two_files_are_replaced_and_nothing_else_stays(tmp_path):
    for name, content in PAIR.items():
        (tmp_path / name).write_bytes(content)
    files = {ending: tmp_path / f"model{ending}" for ending in (".bin", ".xml")}
    assert put({".bin": b"1", ".xml": b"23"}, files) == 3
    assert content_of(tmp_path) == {"model.bin": b"1", "model.xml": b"23"}


@pytest.mark.full
@pytest.mark.parametrize("precision", ["bf16", "int8"])
@pytest.mark.parametrize(("kind", "name"), [("onnx", "model.onnx"), ("openvino", "model.xml")])
def test_a_lower_precision_is_smaller_and_close(source, tmp_path, precision, kind, name):
    asked = Asked(kind, precision, tolerance=100.0)
    about, size = export(source, tmp_path / name, asked)
    _full, large = export(source, tmp_path / f"full{name[5:]}", Asked(kind))
    assert 0 < about.check.largest_difference < 0.2 * about.check.largest_logit
    assert about.calibrated_on == (6 if precision == "int8" else 0)
    if precision == "bf16":
        assert size < large


def test_bfloat16_is_rounded_as_torch_does():
    values = torch.randn(1000) * torch.logspace(-20, 20, 1000)
    expected = values.bfloat16().view(torch.uint16).numpy()
    np.testing.assert_array_equal(bfloat16_bits(values.numpy()), expected)


@pytest.mark.parametrize("how", ["logits", "probabilities", "normalised"])
def test_members_are_fused_as_ensembles_are(how):
    from orchestrator.ensembling.combine import combine_rows

    rows = [np.random.default_rng(seed).normal(size=(6, 4)).astype(np.float32) for seed in (0, 1)]
    rows[0][2] = 3.0  # without a spread
    rows[1][3] = [200.0, 0.0, 0.0, 0.0]
    ours = combine([torch.from_numpy(each) for each in rows], [0.3, 1.7], how)
    np.testing.assert_allclose(ours, combine_rows(rows, [0.3, 1.7], how), rtol=1e-5, atol=1e-5)
