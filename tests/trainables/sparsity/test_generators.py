"""Laws of every generator: exact numbers, exact zeros, exact continuation, and nothing at all at
level 0.
"""

import copy
import hashlib

import pytest
import torch

from tests.trainables.models.test_conformance import CASES
from tests.trainables.sparsity.small import (
    Clips,
    Interrupted,
    attached,
    fit_of,
    network,
    outside,
    subject_of,
)
from trainables.contract.backbones import BACKBONES
from trainables.contract.config import STREAMS, ModelConfig, SparsityConfig
from trainables.contract.generators import GENERATORS
from trainables.cost.counting.count import count
from trainables.laws.backbone import narrow
from trainables.laws.generator import CARD_LAWS, LAWS, removes_what_the_level_says
from trainables.layouts import load_layout
from trainables.sparsity.build import attach_sparsity
from trainables.sparsity.generator import choose_masks
from trainables.sparsity.mask_file import masks_of, save_masks
from trainables.sparsity.masks import kept_weights, maskable, removed_count, write_masks

CASES_OF_GENERATORS = {
    "fixed_random": {},
    "magnitude_at_init": {"scope": "global"},
    "predefined": {"mask": "masks.npz"},
    "score_trainable": {"penalty": "detached", "scope": "global"},
    "supermask": {"train_head": True},
    "rewinding": {"rounds": 2, "rewind_epoch": 1, "scope": "tensor", "distribution": "erk"},
    "rewinding from the start": {"generator": "rewinding", "rounds": 1},
    "rigl": {"update_every": 2, "scope": "global"},
    "set": {"update_every": 2, "update_share": 0.6},
}
SETTINGS = {name: {"generator": name, **options} for name, options in CASES_OF_GENERATORS.items()}
FINAL = [name for name in SETTINGS if name not in ("score_trainable", "supermask")]
"""Those that keep removed weights at zero; the others do not move them out of the way until they
are written.
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    twin = network()
    attached(twin).activate(True)
    save_masks(masks_of([twin[0], twin[4]]), folder / "masks.npz")
    return folder


def test_every_generator_has_a_case():
    assert {options["generator"] for options in SETTINGS.values()} == set(GENERATORS.own)


@pytest.mark.parametrize("name", SETTINGS)
def test_interrupted_and_continued_equals_uninterrupted(tmp_path, root, name):
    whole = network()
    run = fit_of(whole, root, **SETTINGS[name])
    reference = run.run(Clips(), Clips(2), outside(tmp_path / "whole"))
    same = name in ("magnitude_at_init", "predefined")  # as fixed_random from the first step on
    for stop_after in (7,) if same else (0, 4, 5, 8, 3 * run.course.epochs - 2):
        folder = tmp_path / str(stop_after)
        with pytest.raises(Interrupted):
            fit_of(network(), root, **SETTINGS[name]).run(
                Clips(), Clips(2), outside(folder, stop_after)
            )
        fresh = network()
        progress = fit_of(fresh, root, **SETTINGS[name]).run(Clips(), Clips(2), outside(folder))
        for (key, a), (other, b) in zip(
            whole.state_dict().items(), fresh.state_dict().items(), strict=True
        ):
            assert key == other
            assert torch.equal(a, b), (key, stop_after)
        assert progress.best_epoch == reference.best_epoch
        assert progress.history[-1]["penalty"] == reference.history[-1]["penalty"]


@pytest.mark.parametrize("name", SETTINGS)
def test_the_asked_number_of_weights_is_gone_in_the_end(tmp_path, root, name):
    model = network()
    run = fit_of(model, root, **SETTINGS[name])
    run.run(Clips(), None, outside(tmp_path))
    masks = [masked.mask.clone() for block in run.schedule._masked for masked in block]
    if name in FINAL:
        for weight, mask in zip(run.schedule.weights, masks, strict=True):
            assert not weight[mask == 0].any()
            assert not weight.grad[mask == 0].any()
            assert not run.optimizer.state[weight]["momentum_buffer"][mask == 0].any()
    elif name == "score_trainable":
        # they drift
        assert all(
            weight[mask == 0].any()
            for weight, mask in zip(run.schedule.weights, masks, strict=True)
        )
    model.eval()
    x = Clips().x[0]
    expected = model(x)
    gone = [int((mask == 0).sum()) for mask in masks]
    assert sum(each.removed for each in kept_weights(model, [model])) == sum(gone)
    write_masks(model)
    assert torch.equal(model(x), expected)
    assert all(
        not layer.weight[mask == 0].any()
        for layer, mask in zip((model[0], model[4]), masks, strict=True)
    )
    assert not any("parametrizations" in key for key in model.state_dict())
    if "scope" in SETTINGS[name]:
        assert sum(gone) == removed_count(54, 0.5)
    else:
        assert gone == [removed_count(18, 0.5), removed_count(36, 0.5)]


@pytest.mark.parametrize("name", SETTINGS)
def test_level_zero_leaves_the_network_alone(root, name):
    model = network()
    before = copy.deepcopy(model.state_dict())
    assert (
        attach_sparsity(
            subject_of(model, root=root),
            SparsityConfig.model_validate({**SETTINGS[name], "level": 0.0, "mask": None}),
        )
        is None
    )
    assert list(before) == list(model.state_dict())
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", SETTINGS)
def test_masks_travel_by_copy_file_precision_and_device(root, name):
    model = network()
    attached(model, root=root, **SETTINGS[name]).activate(True)
    model.eval()
    x = Clips().x[0]
    expected = model(x)
    assert torch.equal(copy.deepcopy(model)(x), expected)
    other = network()
    attached(
        other, root=root, **{**SETTINGS[name], **({"generator": "set"} if name == "rigl" else {})}
    ).activate(True)
    for parameter in other.parameters():
        parameter.data.add_(1)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval()(x), expected)
    exact = copy.deepcopy(model).double()
    assert torch.allclose(exact(x.double()), expected.double(), atol=1e-5)  # float32 rounding
    assert {
        tensor.dtype for tensor in exact.state_dict().values() if tensor.is_floating_point()
    } == {torch.float64}
    assert all(tensor.is_meta for tensor in model.to("meta").state_dict().values())


@pytest.mark.parametrize("case", CASES)
def test_numbers_on_every_backbone(case):
    options = {"channels": 8, "stages": (1, 1), "groups": 4, "adjacencies": 3} | CASES[case]
    layers = maskable(list(narrow(CASES[case]).blocks))
    counted = count(
        ModelConfig(**options),
        load_layout("ntu25"),
        classes=5,
        persons=1,
        frames=8,
        stream=STREAMS["joint"],
    )
    shapes = [sorted(tuple(layer.weight.shape) for layer in block) for block in layers]
    assert [sorted(block) for block in counted.kernels] == shapes
    wanted = [
        {"level": level, "scope": scope}
        for scope in ("block", "tensor", "global")
        for level in (0.6, 0.8, 0.95, 0.99)
    ]
    wanted += [
        {"level": 0.9, "scope": "tensor", "distribution": "erk"},
        {"level": 0.6, "structure": "channel"},
    ]
    wanted += [{"level": 0.5, "structure": "2:4"}, {"level": 0.5, "structure": "2x1"}]
    for sparsity in wanted:
        config = SparsityConfig.model_validate(sparsity)
        masks = choose_masks(layers, config, seed=1)
        removed = sum(int((mask == 0).sum()) for block in masks for mask in block)
        # odd edges: as many as on average
        tolerance = sum(map(len, layers)) if config.structure == "2x1" else 0
        assert (
            abs(removed - (counted.training.params - counted.nonzero_params(config))) <= tolerance
        ), sparsity


@pytest.mark.parametrize("generator", ["score_trainable", "supermask", "rewinding", "rigl"])
@pytest.mark.parametrize("backbone", BACKBONES.own)
def test_every_backbone_trains_and_ships(backbone, generator):
    """Three steps of one epoch, then exact zeros and a deploy form with the same logits."""
    removes_what_the_level_says({"generator": generator}, level=0.75, backbone=backbone)


@pytest.mark.parametrize("law", [*CARD_LAWS, *LAWS], ids=lambda law: law.says)
@pytest.mark.parametrize("generator", [name for name in GENERATORS.own if name != "predefined"])
def test_our_generators_keep_the_laws(generator, law):
    for setting in law.settings:
        law.hold({"generator": generator}, **setting)


def test_draws_are_the_same_in_every_process():
    """The masks of a seed, as they were when this was written."""
    digest = hashlib.sha256()
    model = network()
    for masked in (masked for block in attached(model)._masked for masked in block):
        digest.update(masked.mask.to(torch.uint8).numpy().tobytes())
    assert digest.hexdigest()[:16] == "fcc2b68199eb0400"
