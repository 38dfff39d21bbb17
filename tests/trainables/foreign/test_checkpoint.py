"""Checkpoint files of the released code: what is read, what is refused and how, and the files that
come of it.
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import naive_networks
from tests.naive_stores import bytes_of
from trainables.contract.config import DataConfig, ModelConfig, SelectionConfig, StreamConfig
from trainables.contract.errors import UserError
from trainables.contract.scores import Scores
from trainables.data.store.reading import Store, write_store
from trainables.data.synthetic import SyntheticConfig, synthetic_recordings
from trainables.deploy.form import deploy, load_deploy
from trainables.deploy.predict import score_store
from trainables.deploy.weights import load_weights
from trainables.foreign.checkpoint import import_tensors
from trainables.foreign.family import Said
from trainables.foreign.importing import Outputs, Scoring, import_checkpoint
from trainables.foreign.state_file import read_tensors
from trainables.layouts import load_layout
from trainables.models.build import build_backbone
from trainables.reparam.fusible import RELEASED

RP, OP = "hpi_gcn_rp_pa5_k5_joint", "hpi_gcn_op_g8_k5_joint"
CLASSES = 12  # of the networks with vectors


def tensors(name: str = RP) -> dict[str, torch.Tensor]:
    return {
        key: tensor.float() if tensor.is_floating_point() else tensor
        for key, tensor in naive_networks.checkpoint(name).items()
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("theirs") / "rp.pt"
    torch.save(tensors(), path)
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("store") / "synth"
    config = SyntheticConfig(
        classes=CLASSES, clips_per_class=2, subjects=2, views=1, frames=8, persons=2
    )
    recordings = synthetic_recordings(config, load_layout("ntu25"))
    write_store(path, recordings.clips, recordings.description)
    return path


class Runs:
    """A pickle that would write a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "ran")


@pytest.mark.parametrize("wrapped", ["state_dict", "model", "model_state_dict", "net"])
def test_wrappers_and_prefixes_are_taken_off(wrapped, tmp_path):
    plain = {"l1.weight": torch.ones(2), "fc.bias": torch.zeros(1)}
    behind = {f"module.{name}": tensor for name, tensor in plain.items()}
    for content in (
        plain,
        behind,
        {wrapped: behind, "epoch": 3},
        {wrapped: {"state_dict": behind}, "optimizer": {"lr": 0.1}},
    ):
        torch.save(content, tmp_path / "c.pt")
        found = read_tensors(tmp_path / "c.pt")
        assert found.keys() == plain.keys()
        assert all(torch.equal(found[name], plain[name]) for name in plain)


def test_a_file_that_would_run_code_is_refused_and_not_run(tmp_path):
    torch.save(
        {"state_dict": {"fc.weight": torch.ones(2)}, "hook": Runs(tmp_path / "ran")},
        tmp_path / "zip.pt",
    )
    (tmp_path / "bare.pkl").write_bytes(pickle.dumps({"fc.weight": Runs(tmp_path / "ran")}))
    for name in ("zip.pt", "bare.pkl"):
        with pytest.raises(
            UserError, match="must be a checkpoint that can be read without running code from it"
        ) as caught:
            read_tensors(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert "trust" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be a checkpoint"),
        (b"not a checkpoint at all", "must be a checkpoint"),
        (b"PK\x03\x04 cut", "must be a checkpoint"),
        (pickle.dumps([1, 2]), "must be a checkpoint|must hold a state dict"),
    ],
)
def test_damaged_files_are_refused(tmp_path, content, message):
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_tensors(tmp_path / "c.pt")


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"state_dict": {}},
        {"epoch": 3},
        [torch.ones(1)],
        torch.ones(1),
        {"state_dict": {"a": 1}},
    ],
)
def test_what_holds_no_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(UserError, match=r"c\.pt: must hold a state dict of tensors"):
        read_tensors(tmp_path / "c.pt")


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"c\.pt: must be a checkpoint, got no such file"):
        read_tensors(tmp_path / "c.pt")


def refused(theirs, backbone="hpi_gcn_rp", layout="ntu25", **options) -> tuple[str, ...]:
    with pytest.raises(UserError) as caught:
        import_tensors(theirs, backbone, load_layout(layout), **options)
    return caught.value.problems


def test_tensors_that_are_missing_left_over_or_misshapen_are_all_named():
    theirs = tensors()
    del theirs["l2.bn.weight"], theirs["l9.gcn.conv0.bias"]
    theirs["l3.bn.bias"] = torch.zeros(7)
    theirs["l11.bn.weight"] = theirs["l10.bn.weight"]
    theirs["extra.weight"] = torch.zeros(1)
    found = refused(theirs)
    assert found == (
        "extra.weight: no rule of HPI-GCN's released code, training form covers this tensor",
        "blocks.9.temporal.bn.weight: must be a tensor of the network, which has none of this name",
        "l2.bn.weight: must be in the checkpoint, but is missing",
        "l9.gcn.conv0.bias: must be in the checkpoint, but is missing",
        "blocks.1.temporal.bn.bias: must have shape (64,), got (7,)",
    )


@pytest.mark.parametrize("name", ["fc.weight", "data_bn.weight", "l2.gcn.space_att.PA"])
def test_a_tensor_that_shows_the_architecture_is_missing(name):
    theirs = tensors()
    del theirs[name]
    (problem,) = refused(theirs)
    assert "must be in the checkpoint" in problem


def test_parts_of_one_of_our_tensors_that_do_not_fit_together():
    theirs = tensors()
    del theirs["diff_map3.0.weight"]
    (problem,) = refused(theirs)
    assert problem == "diff_map3.0.weight: must be in the checkpoint, but is missing"
    theirs["diff_map3.0.weight"] = torch.zeros(8, 5, 1, 1)
    (problem,) = refused(theirs)
    assert "do not fit together" in problem


def test_a_checkpoint_of_another_backbone_or_code_base():
    assert refused(tensors(OP)) == (
        (
            "the checkpoint must be of hpi_gcn_rp, got hpi_gcn_op (HPI-GCN's released code,"
            " training form); use --as hpi_gcn_op"
        ),
    )
    (problem,) = refused({"layer.weight": torch.ones(1)})
    assert "the checkpoint's names must be those of a hpi_gcn_rp" in problem
    assert "1 tensors such as layer.weight" in problem
    (problem,) = refused(tensors(), "hd_gcn")
    assert (
        problem == "the checkpoint's names must be those of a hd_gcn (HD-GCN's released code), "
        "got those of HPI-GCN's released code, training form; use --as hpi_gcn_rp"
    )


def test_a_skeleton_or_an_option_that_does_not_fit():
    assert refused(tensors(), layout="ucla20") == (
        "layout must have the checkpoint's 25 joints, got ucla20 with 20",
    )
    (problem,) = refused(tensors(), options={"strides": (1, 2)})
    assert "the checkpoint's network cannot be built here" in problem


def test_weights_and_deploy_form_give_the_checkpoints_logits(saved, tmp_path):
    report = import_checkpoint(
        saved,
        "hpi_gcn_rp",
        outputs=Outputs(weights=tmp_path / "w.pt", deploy=tmp_path / "d.pt", frames=8),
    )
    assert (report.form, report.matched, report.tensors, report.classes, report.persons) == (
        "training form",
        507,
        507,
        CLASSES,
        2,
    )
    assert report.written == {
        "weights": str(tmp_path / "w.pt"),
        "deploy form": str(tmp_path / "d.pt"),
    }
    assert report.params == sum(
        parameter.numel() for parameter in load_weights(tmp_path / "w.pt").parameters()
    )
    assert report.deploy_params < report.params
    clips = naive_networks.clips(RP).float()
    expected = naive_networks.logits(RP)
    form = load_deploy(tmp_path / "d.pt")
    assert form.frames == 8
    with torch.no_grad():
        for network in (load_weights(tmp_path / "w.pt").eval(), form):
            assert (network(clips) - expected).abs().max() < 1e-4 * expected.abs().max()


def deployed_checkpoint() -> tuple[dict[str, torch.Tensor], torch.nn.Module]:
    """A deploy form under the names that the released code's conversion leaves, and the network it
    is of.
    """
    model = ModelConfig(backbone="hpi_gcn_rp", channels=8, stages=(1, 1, 1))
    stream = StreamConfig(bone=True)
    network = build_backbone(
        model, load_layout("ntu25"), classes=CLASSES, persons=2, stream=stream, seed=0
    ).eval()
    theirs = {}
    for name, tensor in deploy(network, RELEASED).state_dict().items():
        head, _, rest = name.partition(".")
        if head == "blocks":
            number, _, rest = rest.partition(".")
            for ours, their in (
                ("graph.embed.", "gcn.conv0."),
                ("graph.mixing.matrix", "gcn.space_att.A"),
                ("graph.expand.", "gcn.conv_bn1.conv_bn."),
                ("graph.residual.", "gcn.residual.conv_bn."),
                ("temporal.0.", "tcn1.TCN_reparam."),
                ("temporal.1.", "bn."),
                ("residual.", "residual.conv_bn."),
            ):
                if rest.startswith(ours):
                    theirs[f"l{int(number) + 2}.{rest.replace(ours, their, 1)}"] = tensor
                    break
        else:
            theirs[
                {"data_norm": "data_bn", "stem": "l1.conv_bn", "head": rest.partition(".")[0]}[head]
                + "."
                + rest.rpartition(".")[2]
            ] = tensor
    return theirs, network


def test_a_deploy_form_of_theirs_becomes_one_of_ours_and_has_no_training_form(tmp_path):
    theirs, network = deployed_checkpoint()
    torch.save(theirs, tmp_path / "theirs.pt")
    options = {"stages": (1, 1, 1)}
    with pytest.raises(
        UserError,
        match=(
            r"--out: .*theirs\.pt is a deploy form already, which has no training form; use"
            r" --deploy"
        ),
    ):
        import_checkpoint(
            tmp_path / "theirs.pt",
            "hpi_gcn_rp",
            Said(options=options),
            outputs=Outputs(weights=tmp_path / "w.pt", deploy=tmp_path / "d.pt"),
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theirs.pt"]
    report = import_checkpoint(
        tmp_path / "theirs.pt",
        "hpi_gcn_rp",
        Said(options=options),
        outputs=Outputs(deploy=tmp_path / "d.pt", frames=6),
    )
    assert (report.form, report.params, report.model["input_block"]) == (
        "deploy form",
        None,
        "conv",
    )
    form = load_deploy(tmp_path / "d.pt")
    assert form.frames == 6
    clips = torch.randn(3, 3, 6, 25, 2, generator=torch.Generator().manual_seed(1))
    clips[1, ..., 1] = 0.0  # absent: taken from the table
    with torch.no_grad():
        assert torch.allclose(form(clips), network(clips), atol=1e-5)


def test_persons_that_the_checkpoint_contradicts(saved, tmp_path):
    with pytest.raises(UserError, match=r"--persons: .* is of networks for 2, got 1"):
        import_checkpoint(
            saved, "hpi_gcn_rp", Said(persons=1), outputs=Outputs(deploy=tmp_path / "d.pt")
        )
    assert not list(tmp_path.iterdir())


def test_nothing_is_replaced_unasked_and_everything_is_known_before_reading(saved, tmp_path):
    (tmp_path / "w.pt").write_text("mine")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError) as caught:
        import_checkpoint(
            tmp_path / "nowhere.pt",
            "hpi_gcn_rp",
            outputs=Outputs(weights=tmp_path / "w.pt", deploy=tmp_path / "a" / "d.pt"),
        )
    assert caught.value.problems == (
        f"{tmp_path}/w.pt: there is a file already; --force replaces it",
        f"{tmp_path}/a/d.pt: its folder does not exist",
    )
    with pytest.raises(UserError, match="must be a file, but it is a folder"):
        import_checkpoint(
            saved, "hpi_gcn_rp", outputs=Outputs(deploy=tmp_path / "folder", force=True)
        )
    with pytest.raises(UserError, match="must be different files"):
        import_checkpoint(
            saved,
            "hpi_gcn_rp",
            outputs=Outputs(weights=tmp_path / "x.pt", deploy=tmp_path / "x.pt"),
        )
    assert (tmp_path / "w.pt").read_text() == "mine"
    import_checkpoint(saved, "hpi_gcn_rp", outputs=Outputs(weights=tmp_path / "w.pt", force=True))
    assert load_weights(tmp_path / "w.pt").spec.classes == CLASSES


def test_a_disk_that_fills_up_leaves_nothing(saved, tmp_path, monkeypatch):
    def full(form, path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("trainables.foreign.importing.save_deploy", full)
    with pytest.raises(UserError, match=r"d\.pt: cannot be written: No space left on device"):
        import_checkpoint(
            saved,
            "hpi_gcn_rp",
            outputs=Outputs(weights=tmp_path / "w.pt", deploy=tmp_path / "d.pt"),
        )
    assert not list(tmp_path.iterdir())


def test_scores_are_of_the_clips_as_trials_see_them(saved, store, tmp_path):
    before = bytes_of(store)
    scoring = Scoring(tmp_path / "s.parquet", store, "xsub")
    report = import_checkpoint(
        saved,
        "hpi_gcn_rp",
        outputs=Outputs(deploy=tmp_path / "d.pt", scoring=scoring, frames=8),
    )
    found = Scores.load(tmp_path / "s.parquet")
    opened = Store.open(store)
    assert found.labels is None
    # half of the clips, of the second subject
    assert report.scored_clips == len(found.ids) == CLASSES
    data = DataConfig(
        store=str(store), protocol="xsub", selection=SelectionConfig(kind="none"), frames=8
    )
    split = opened.split("xsub", data.selection)
    form = load_deploy(tmp_path / "d.pt")
    again = score_store(form, opened, split.test, data, torch.device("cpu"))
    assert again.ids == found.ids == tuple(sorted(opened.column("id")[split.test]))
    assert np.allclose(again.logits, found.logits)
    moved = replace(scoring, file=tmp_path / "m.parquet", stream="joint_motion", part="train")
    import_checkpoint(saved, "hpi_gcn_rp", outputs=Outputs(scoring=moved, frames=8))
    assert set(Scores.load(tmp_path / "m.parquet").ids).isdisjoint(found.ids)
    assert bytes_of(store) == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"protocol": "xset"}, "--protocol: must be one of xsub in .*, got 'xset'"),
        ({"stream": "bones"}, "--stream: must be one of joint, .*, got 'bones'"),
        ({"stream": "bone"}, "model.input_block must be auto or conv for the stream bone"),
    ],
)
def test_scoring_that_does_not_fit(saved, store, tmp_path, changed, message):
    scoring = replace(Scoring(tmp_path / "s.parquet", store, "xsub"), **changed)
    with pytest.raises(UserError, match=message):
        import_checkpoint(
            saved, "hpi_gcn_rp", outputs=Outputs(weights=tmp_path / "w.pt", scoring=scoring)
        )
    assert not list(tmp_path.iterdir())


def test_a_store_of_other_classes_persons_or_joints(saved, tmp_path_factory, tmp_path):
    def refusal(layout="ntu25", asked=None, **settings) -> str:
        path = tmp_path_factory.mktemp("other") / "synth"
        config = SyntheticConfig(
            **(
                {
                    "classes": CLASSES,
                    "clips_per_class": 2,
                    "subjects": 2,
                    "views": 1,
                    "frames": 8,
                    "persons": 2,
                }
                | settings
            )
        )
        recordings = synthetic_recordings(config, load_layout(layout))
        write_store(path, recordings.clips, recordings.description)
        with pytest.raises(UserError) as caught:
            import_checkpoint(
                saved,
                "hpi_gcn_rp",
                Said(layout=asked),
                outputs=Outputs(scoring=Scoring(tmp_path / "s.parquet", path, "xsub")),
            )
        return str(caught.value)

    assert (
        "--store: must be of clips with 12 classes, as the checkpoint's network is, got 3"
        in refusal(classes=3)
    )
    assert "--store: must be of clips with 2 persons" in refusal(persons=1)
    assert "layout must have the checkpoint's 25 joints, got ucla20 with 20" in refusal(
        layout="ucla20"
    )
    assert "--layout: must be the store's layout ucla20 or left out, got ntu25" in refusal(
        layout="ucla20", asked="ntu25"
    )
    assert not list(tmp_path.iterdir())
