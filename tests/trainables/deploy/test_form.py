"""Which foldings a deploy form takes, what it says of them, and files that are refused."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from tests import naive_models
from trainables.contract.backbones import BACKBONES
from trainables.contract.errors import UserError
from trainables.deploy.form import (
    Execution,
    deploy,
    folded,
    load_deploy,
    nonzero_params,
    persons_at_once,
    round_to_single,
    save_deploy,
    settle,
    usual_execution,
)
from trainables.models.backbones.hpi_gcn import MergedGraphConv
from trainables.module_copies import module_copy
from trainables.reparam.fusible import FULL, RELEASED
from trainables.sparsity.masks import attach


def masked(level: float):
    """RP with random masks on all its convolutions."""
    network = naive_models.narrow_backbone("hpi_gcn_rp", channels=64, stages=(1,)).eval()
    generator = torch.Generator().manual_seed(8)
    for conv in [module for module in network.blocks.modules() if isinstance(module, nn.Conv2d)]:
        attach(
            conv, (torch.rand(conv.weight.shape, generator=generator) >= level).float()
        ).active = True
    return network


@pytest.mark.parametrize(("level", "merged"), [(0.0, True), (0.1, True), (0.95, False)])
def test_sparse_convolutions_are_merged_only_where_that_leaves_fewer_numbers(level, merged):
    network = masked(level)
    form = deploy(network)
    assert isinstance(form.blocks[0].graph, MergedGraphConv) == form.folding.merge == merged
    other = deploy(network, form.folding.model_copy(update={"merge": not merged}))
    assert nonzero_params(form) <= nonzero_params(other)


def test_building_the_deploy_form_draws_no_random_number():
    network = naive_models.narrow_backbone()
    before = torch.random.get_rng_state()
    deploy(network, frames=8)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_deploy_keeps_the_precision():
    assert {
        parameter.dtype
        for parameter in deploy(naive_models.narrow_backbone().float(), frames=8).parameters()
    } == {torch.float32}


@pytest.mark.parametrize(
    "network",
    [
        *(naive_models.narrow_backbone(name).float() for name in ("hpi_gcn_op", "st_gcn")),
        masked(0.1).float(),
        masked(0.95).float(),
    ],
    ids=["op", "st_gcn", "masked", "sparse"],
)
def test_an_exact_form_that_is_rounded_is_what_single_precision_makes(network):
    form = deploy(copy.deepcopy(network).double(), frames=8)
    round_to_single(form)
    other = deploy(network, frames=8)
    assert (str(form.folding), form.execution) == (str(other.folding), other.execution)
    pairs = zip(form.state_dict().items(), other.state_dict().items(), strict=True)
    for (name, one), (same, two) in pairs:
        assert (name, one.stride(), one.dtype) == (same, two.stride(), two.dtype)
        assert one.numpy().tobytes() == two.numpy().tobytes(), name


@pytest.mark.parametrize("folding", [FULL, RELEASED], ids=["full", "released"])
@pytest.mark.parametrize("name", sorted(BACKBONES.own))
def test_a_form_in_double_precision_is_made_without_a_copy_and_shares_no_memory(name, folding):
    network = naive_models.narrow_backbone(name).double()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    form, of_copy = deploy(network, folding, frames=8), deploy(module_copy(network), folding)
    of_copy.expect(8)
    own = {tensor.untyped_storage().data_ptr() for tensor in network.state_dict().values()}
    for key, value in form.state_dict().items():
        assert value.untyped_storage().data_ptr() not in own, key
        assert torch.equal(value, of_copy.state_dict()[key]), key
        value.add_(1)  # whatever becomes of it
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_what_was_folded_is_said_in_numbers():
    network = naive_models.narrow_backbone("hpi_gcn_rp")
    text = folded(network, deploy(network))
    assert text.startswith("BatchNorm 20 -> 0, convolutions 17 -> 7, parameters ")
    assert "kept" not in text


@pytest.mark.parametrize(
    "name", ["hpi_gcn_rp", "hpi_gcn_op", "ctr_gcn", "info_gcn", "hd_gcn", "st_gcn"]
)
def test_every_way_to_run_gives_the_same_logits(name):
    """Single precision and enough channels for the device's own
    fused operations; rounding differs.
    """
    network = naive_models.narrow_backbone(name, channels=16, persons=2).float().eval()
    clips = naive_models.random_clips(7, 3, 9, 25, 2).float()
    clips[2, ..., 1] = 0
    form = deploy(network, frames=9)
    with torch.no_grad():
        expected = network(clips)
        for rows in (False, True):
            for at_once in (None, 1, 3, 8):
                form.arrange(Execution(rows=rows, at_once=at_once))
                before = clips.clone()
                assert (form(clips) - expected).abs().max() <= 1e-4 * expected.abs().max()
                assert torch.equal(clips, before)


@pytest.mark.parametrize("folding", [FULL, FULL.model_copy(update={"merge": False}), RELEASED])
@pytest.mark.parametrize(
    "way",
    [Execution(), Execution(at_once=8), Execution(rows=True), Execution(rows=True, at_once=8)],
)
def test_settling_takes_the_fastest_folding_and_way(monkeypatch, folding, way):
    monkeypatch.setattr("trainables.deploy.form.mkl_lacks_avx512", lambda: False)
    model, clips = (
        naive_models.narrow_backbone(persons=2).eval(),
        naive_models.random_clips(2, 3, 8, 25, 2),
    )
    monkeypatch.setattr(
        "trainables.deploy.form.call_seconds",
        lambda form, _clips: 2.0 - (form.folding == folding) - 0.5 * (form.execution == way),
    )
    form, seconds = settle(model, clips, rounds=1)
    assert (form.folding, form.execution) == (folding, way)
    assert not any(number.is_inference() for number in form.parameters())  # they can be packed
    assert len(seconds) == 12
    assert seconds[f"{folding}; {way}"] == min(seconds.values()) == 0.5
    with torch.no_grad():
        assert (form(clips) - model(clips)).abs().max() < 1e-9 * model(clips).abs().max()


@pytest.mark.parametrize(
    ("lacks", "threads", "persons"), [(True, 1, 2), (True, 3, 6), (True, 9, 8), (False, 3, 8)]
)
def test_so_many_persons_go_through_a_network_at_a_time(monkeypatch, lacks, threads, persons):
    monkeypatch.setattr("trainables.deploy.form.mkl_lacks_avx512", lambda: lacks)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert persons_at_once(torch.device("cpu")) == persons
    assert persons_at_once(torch.device("cuda")) is None


def test_kernels_are_multiplied_in_double_precision_and_rounded_once():
    model = naive_models.narrow_backbone(channels=16).float()
    exact = deploy(copy.deepcopy(model).double()).float()
    assert all(
        torch.equal(ours, theirs)
        for ours, theirs in zip(deploy(model).parameters(), exact.parameters(), strict=True)
    )


def test_hooks_of_the_trained_network_stay_with_it():
    model, calls = naive_models.narrow_backbone().eval(), []
    for module in (model.stem, model.blocks[0], model.head):
        module.register_forward_hook(lambda *_args: calls.append(1))
    deploy(model, frames=8)(naive_models.random_clips(1, 3, 8, 25, 1))
    assert calls == []


def test_file_of_a_broken_skeleton_is_refused(deploy_file):
    content = torch.load(deploy_file, weights_only=True)
    content["spec"]["parents"] = [(joint + 1) % 25 for joint in range(25)]
    torch.save(content, deploy_file)
    with pytest.raises(UserError, match="must have exactly one root"):
        load_deploy(deploy_file)


def test_file_of_whole_numbers_is_refused(deploy_file):
    content = torch.load(deploy_file, weights_only=True)
    content["state"]["head.fc.bias"] = content["state"]["head.fc.bias"].long()
    torch.save(content, deploy_file)
    with pytest.raises(UserError, match=r"head\.fc\.bias is not of real numbers"):
        load_deploy(deploy_file)


def test_what_is_usual_follows_folding_and_backbone(monkeypatch):
    monkeypatch.setattr("trainables.deploy.form.mkl_lacks_avx512", lambda: False)
    cpu = torch.device("cpu")
    rp, ctr = (
        naive_models.narrow_backbone("hpi_gcn_rp").spec,
        naive_models.narrow_backbone("ctr_gcn").spec,
    )
    assert str(usual_execution(rp, FULL, cpu)) == "8 persons at a time, as rows"
    assert str(usual_execution(ctr, FULL, cpu)) == "8 persons at a time"
    assert (
        str(usual_execution(rp, RELEASED, cpu))
        == str(usual_execution(rp, FULL, torch.device("cuda")))
        == "all persons at once"
    )
    monkeypatch.setattr("trainables.deploy.form.mkl_lacks_avx512", lambda: True)
    assert str(usual_execution(rp, FULL, cpu)) == "2 persons at a time, as rows"


def test_what_could_not_be_folded_is_named():
    network = naive_models.narrow_backbone("ctr_gcn")
    text = folded(network, deploy(network))
    assert text.endswith(
        "kept: adjacency matrices refined by each clip (tanh of differences); maxima and ReLU"
        " inside the temporal branches"
    )


@pytest.fixture
def deploy_file(tmp_path):
    path = tmp_path / "deploy.pt"
    save_deploy(deploy(naive_models.narrow_backbone()), path)
    return path


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.pt: must be a deploy form, got no such file"):
        load_deploy(tmp_path / "none.pt")


@pytest.mark.parametrize("keep", [0, 10, 1000, -200])
def test_cut_file_is_refused(deploy_file, keep):
    deploy_file.write_bytes(deploy_file.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"deploy\.pt: "):
        load_deploy(deploy_file)


def test_file_that_would_run_code_is_refused(deploy_file):
    torch.save({"format": print}, deploy_file)
    with pytest.raises(UserError, match=r"must be a (readable )?deploy form, but"):
        load_deploy(deploy_file)


def test_file_of_another_kind_is_refused(deploy_file):
    torch.save({"weights": torch.zeros(3)}, deploy_file)
    with pytest.raises(UserError, match="must be a file of format"):
        load_deploy(deploy_file)


def _rename(content):
    content["state"]["other"] = content["state"].pop("head.fc.bias")


def _cut_tensor(content):
    content["state"]["head.fc.bias"] = content["state"]["head.fc.bias"][:2]


def _widen(content):
    content["spec"]["model"]["channels"] = 16


def _unknown_backbone(content):
    content["spec"]["model"]["backbone"] = "other"


def _no_state(content):
    del content["state"]


@pytest.mark.parametrize("damage", [_rename, _cut_tensor, _widen, _unknown_backbone, _no_state])
def test_file_whose_tensors_do_not_fit_is_refused(deploy_file, damage):
    content = torch.load(deploy_file, weights_only=True)
    damage(content)
    torch.save(content, deploy_file)
    with pytest.raises(
        UserError, match="must hold a deploy form whose tensors fit its specification"
    ):
        load_deploy(deploy_file)


@pytest.mark.parametrize("numbers", [0, 2**24])
def test_a_file_gives_the_same_form_built_of_zeros_or_without_memory(
    tmp_path, monkeypatch, numbers
):
    monkeypatch.setattr("trainables.deploy.form.ZEROS_FIRST", numbers)
    saved, path = deploy(masked(0.6), frames=8), tmp_path / "deploy.pt"
    save_deploy(saved, path)
    state = torch.random.get_rng_state()
    loaded = load_deploy(path)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (loaded.frames, loaded.folding) == (8, saved.folding)
    clips = naive_models.random_clips(2, 3, 8, 25, 1)
    clips[1] = 0  # nobody is there
    assert torch.equal(loaded(clips), saved(clips))


@pytest.mark.parametrize("frames", [0, -3, 1.5, "16"])
def test_file_of_no_number_of_frames_is_refused(deploy_file, frames):
    content = torch.load(deploy_file, weights_only=True)
    torch.save({**content, "frames": frames}, deploy_file)
    with pytest.raises(UserError, match="frames must be a positive whole number"):
        load_deploy(deploy_file)
