"""Deploy forms on their kept weights: the same function."""

from __future__ import annotations

import copy
import json
import logging
import pickle

import numba
import numpy as np
import pytest
import torch

from tests import naive_models
from tests.trainables.models.multilevel_cases import KINDS, clips_for, masked
from trainables.contract.config import SparsityConfig
from trainables.contract.disk import cache_root
from trainables.contract.errors import UserError
from trainables.deploy.form import deploy, save_deploy
from trainables.deploy.sparse import runtime
from trainables.deploy.sparse.choices import FORM, Choices
from trainables.deploy.sparse.modules import SparseConv
from trainables.deploy.sparse.runtime import run_sparse
from trainables.sparse import convolution, kernels
from trainables.sparse.vectors import LANES
from trainables.sparsity.generator import SparseGenerator

FRAMES = 12
CASES = {
    "hpi_gcn_rp": {"temporal": "rep_tcn"},
    "hpi_gcn_op": {"temporal": "rep_tcn"},
    "hpi_gcn_baseline": {"temporal": "conv"},
    "st_gcn": {"temporal": "rep_tcn"},
    "st_gcn_pp": {},
    "ctr_gcn": {},
    "aa_gcn": {},
    "dg_stgcn": {},
    "st_gcn_k5": {},
    "info_gcn": {},
    "hd_gcn": {},
}


@pytest.fixture(autouse=True)
def choices(tmp_path, monkeypatch):
    """A cache of this test's own; its file."""
    monkeypatch.setenv("ORCHESTRATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sparse" / "choices.json"


def clips_of(form, frames=FRAMES):
    some = next(form.parameters())
    shape = (3, 3, frames, form.spec.joints, form.spec.persons)
    clips = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    clips[0, ..., 1:] = 0.0  # one person
    return clips.to(some.dtype)


def form_of(case, level=0.7, frames=FRAMES, structure="weight"):
    options = {"channels": 16, "stages": (2, 1), "layout": "coco17", "persons": 2, **CASES[case]}
    network = naive_models.narrow_backbone(case, **options).eval()
    if level:
        generator = SparseGenerator(
            list(network.blocks), SparsityConfig(level=level, structure=structure), 0, seed=0
        )
        generator.begin_epoch(0, torch.optim.SGD(network.parameters(), lr=0.1))
    return deploy(network, frames=frames)


def difference(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_gives_the_same_logits(case):
    form = form_of(case)
    sparse = run_sparse(form, forced=True)
    clips = clips_of(form)
    assert difference(sparse(clips), form(clips)) < 1e-12
    longer = clips_of(form, frames=FRAMES + 3)
    assert difference(sparse(longer), form(longer)) < 1e-12
    assert not any(isinstance(module, SparseConv) for module in form.modules())


@pytest.mark.parametrize("case", ["hpi_gcn_rp", "hpi_gcn_op", "st_gcn"])
@pytest.mark.parametrize("level", [0.1, 0.6, 0.9])
@torch.inference_mode()
def test_blocks_of_outputs_that_share_their_zeros_give_the_same_logits(case, level):
    """They are computed together, as are nearly dense kernels."""
    form = form_of(case, level=level, structure="4x1")
    sparse, clips = run_sparse(form, forced=True), clips_of(form)
    assert difference(sparse(clips), form(clips)) < 1e-12
    groups = {int(step[11]) for program in sparse.stem._programs.values() for step in program.steps}
    assert 4 in groups


@torch.inference_mode()
def test_a_program_sorts_its_weights_once_and_as_numbers(monkeypatch):
    """Rows of several columns are sorted some twenty times as slowly."""
    sorted_, unique = [], np.unique

    def watched(array, axis=None, **how):
        sorted_.append((array.ndim, axis))
        return unique(array, axis=axis, **how)

    monkeypatch.setattr(np, "unique", watched)
    form = form_of("hpi_gcn_rp", structure="4x1")
    sparse = run_sparse(form, forced=True)
    sparse(clips_of(form))
    (program,) = sparse.stem._programs.values()
    multiplied = sum(int(step[0]) == kernels.MULTIPLY for step in program.steps)
    assert set(sorted_) == {(1, None)}
    assert len(sorted_) <= multiplied


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backbone", ["st_gcn", "ctr_gcn"])
@torch.inference_mode()
def test_networks_of_several_levels_give_the_same_logits(kind, backbone):
    network = masked(kind, backbone)
    form, clips = deploy(network, frames=8), clips_for(network)
    sparse = run_sparse(form, forced=True)
    assert difference(sparse(clips), form(clips)) < 1e-12
    for name, level in form.levels().items():
        assert difference(sparse.levels()[name](clips), level(clips)) < 1e-12


@torch.inference_mode()
def test_clips_may_change_their_length_from_call_to_call():
    """Pieces of several lengths use the same memory one after the other."""
    form = form_of("hpi_gcn_rp", frames=None)
    sparse = run_sparse(form, forced=True)
    for frames in (12, 40, 7, 64, 12):
        clips = clips_of(form, frames)
        assert difference(sparse(clips), form(clips)) < 1e-12


@pytest.mark.parametrize("case", ["hpi_gcn_rp", "hpi_gcn_op", "st_gcn"])
@torch.inference_mode()
def test_in_single_precision_they_differ_by_rounding(case):
    form = form_of(case).float()
    clips = clips_of(form)
    assert difference(run_sparse(form, forced=True)(clips), form(clips)) < 1e-6


@torch.inference_mode()
def test_copies_pickles_and_autocast_work():
    form = form_of("hpi_gcn_op").float()
    sparse, clips = run_sparse(form, forced=True), clips_of(form)
    expected = sparse(clips)
    assert torch.equal(pickle.loads(pickle.dumps(sparse))(clips), expected)
    assert torch.equal(copy.deepcopy(sparse)(clips), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert sparse(clips).isfinite().all()


@torch.inference_mode()
def test_threads_give_the_same_bits(monkeypatch):
    form = form_of("hpi_gcn_rp").float()
    sparse, clips = run_sparse(form, forced=True), clips_of(form)
    alone = sparse(clips)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert torch.equal(sparse(clips), alone)


@pytest.mark.parametrize("case", ["hpi_gcn_rp", "ctr_gcn"])
def test_it_may_be_cast(case):
    """Programs are made anew; single convolutions run dense in another precision."""
    form = form_of(case).float()
    sparse, clips = run_sparse(form, forced=True), clips_of(form)
    with torch.no_grad():
        sparse(clips)
        assert difference(sparse.double()(clips.double()), form.double()(clips.double())) < 1e-12


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_other_precisions_run_dense(kind):
    assert run_sparse(form_of("hpi_gcn_rp").to(kind), forced=True) is None


def test_what_is_faster_is_measured_with_a_person_for_every_thread(monkeypatch):
    form, seen = form_of("hpi_gcn_rp"), []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    monkeypatch.setattr(
        "trainables.deploy.sparse.choices._ratio", lambda _sparse, dense: seen.append(dense()) or 2
    )
    run_sparse(form)
    assert [len(logits) for logits in seen] == [3]  # clips of two persons


@pytest.mark.parametrize("case", ["hpi_gcn_rp", "hpi_gcn_op", "st_gcn"])
@torch.inference_mode()
def test_both_ways_give_the_same_logits(case):
    form = form_of(case)
    sparse, clips = run_sparse(form, forced=True, whole=False), clips_of(form)
    assert runtime.has_program(form)
    assert any(isinstance(module, SparseConv) for module in sparse.modules())
    assert difference(sparse(clips), form(clips)) < 1e-12


def test_it_is_no_file(tmp_path):
    with pytest.raises(ValueError, match="made anew"):
        save_deploy(run_sparse(form_of("hpi_gcn_rp"), forced=True), tmp_path / "deploy.pt")


def test_a_dense_form_stays_as_it_is():
    assert run_sparse(form_of("hpi_gcn_rp", level=0.0), forced=True) is None


def test_without_numba_it_says_so_once(monkeypatch, caplog):
    monkeypatch.setattr(runtime, "compiled", lambda: False)
    runtime._say_what_is_missing.cache_clear()
    form = form_of("hpi_gcn_rp")
    with caplog.at_level(logging.WARNING):
        assert run_sparse(form) is None
        assert run_sparse(form) is None
    assert [record.getMessage().count("numba") for record in caplog.records] == [1]


@pytest.mark.parametrize("case", ["hpi_gcn_rp", "ctr_gcn"])
@pytest.mark.parametrize(("ratio", "faster"), [(2.0, True), (0.5, False)])
def test_what_is_faster_is_measured_once(choices, monkeypatch, ratio, faster, case):
    measured = []
    monkeypatch.setattr(
        "trainables.deploy.sparse.choices._ratio", lambda *_: measured.append(ratio) or ratio
    )
    form = form_of(case)
    sparse = run_sparse(form)
    assert (sparse is not None) == faster
    known = json.loads(choices.read_text())["times_as_fast"]
    assert len(known) == len(measured) > 0
    assert all(f"torch {torch.__version__.split('+')[0]}" in name for name in known)
    assert all(f"numba {numba.__version__}, {LANES} lanes;" in name for name in known)
    run_sparse(form)
    assert len(measured) == len(known)
    if sparse is not None:
        assert difference(sparse(clips_of(form)), form(clips_of(form))) < 1e-12


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"form": 0}',
        f'{{"form": {FORM}, "times_as_fast": 3}}',
        f'{{"form": {FORM}, "times_as_fast": {{"a": null}}}}',
        pytest.param(f'{{"form": {FORM}, "times_as_fast": {{"a": 1{400 * "0"}}}}}', id="too large"),
        pytest.param(100_000 * "[", id="too deep"),
    ],
)
def test_a_damaged_file_of_choices_is_written_anew(choices, content, monkeypatch):
    choices.parent.mkdir(parents=True)
    choices.write_text(content)
    monkeypatch.setattr("trainables.deploy.sparse.choices._ratio", lambda *_: 2.0)
    assert Choices().worth("a convolution", lambda: None, lambda: None)
    assert len(json.loads(choices.read_text())["times_as_fast"]) == 1


def test_choices_of_others_are_kept(choices):
    one, other = Choices(), Choices()
    for each, name in ((one, "a"), (other, "b"), (one, "c")):
        each.worth(name, lambda: None, lambda: None)
    names = {key.rpartition("; ")[2] for key in json.loads(choices.read_text())["times_as_fast"]}
    assert names == {"a", "b", "c"}


def test_a_cache_that_cannot_be_written_is_no_failure(choices, monkeypatch):
    monkeypatch.setattr("trainables.deploy.sparse.choices._ratio", lambda *_: 2.0)
    choices.parent.parent.write_text("a file")
    assert Choices().worth("a convolution", lambda: None, lambda: None)


def test_a_user_without_a_home_keeps_no_choices(monkeypatch):
    monkeypatch.delenv("ORCHESTRATE_CACHE")
    monkeypatch.setenv("HOME", "~")  # what expanduser cannot resolve
    with pytest.raises(UserError, match="ORCHESTRATE_CACHE: must name a folder for caches here"):
        cache_root()
    monkeypatch.setattr("trainables.deploy.sparse.choices._ratio", lambda *_: 2.0)
    assert Choices().worth("a convolution", lambda: None, lambda: None)


@pytest.mark.parametrize(
    "change", [{"padding": (1, 0)}, {"stride": (1, 2)}, {"groups": 2}, {"kernel_size": (3, 1)}]
)
def test_what_a_program_does_not_know_is_no_program(change):
    form = form_of("st_gcn")
    assert runtime.has_program(form)
    residual = next(
        each for block in form.blocks for each in (block.residual,) if hasattr(each, "conv")
    )
    for name, value in change.items():
        setattr(residual.conv, name, value)
    assert not runtime.has_program(form)


def test_one_by_one_convolutions_take_no_room():
    """Rooms are few; whoever needs one would have to make it anew."""
    kernel = np.eye(4)[:, :, None]
    convolution._rooms.kept.clear()
    x = np.ones((1, 4, 6, 5))
    x.flags.writeable = False  # nor is the input taken for one
    np.testing.assert_array_equal(convolution.Convolution(kernel, convolution.Steps())(x), x)
    assert not convolution._rooms.kept


def test_rooms_are_kept_by_their_bytes(monkeypatch):
    """An ensemble of many networks comes back to each of them in every call."""
    made = []

    def room(number):
        return convolution.room(lambda: made.append(number) or np.zeros(125), "a test", number)

    convolution._rooms.kept.clear()
    for number in (*range(40), *range(40)):
        room(number)
    assert made == list(range(40))
    monkeypatch.setattr(convolution, "ROOMS_BYTES", 3500)
    room(40)
    assert [number for _, number in convolution._rooms.kept] == [38, 39, 40]
