"""Laws that every backbone keeps: what it computes, learns, ships, and how it is counted.

A subject is settings of `model`, `backbone` among them.
"""

from __future__ import annotations

import copy
import pickle
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from trainables.contract.backbones import BACKBONES
from trainables.contract.config import ModelConfig, StreamConfig
from trainables.deploy.form import Execution, deploy, load_deploy, nonzero_params, save_deploy
from trainables.laws.counted import SIZES, is_counted_as_it_is_built
from trainables.laws.law import (
    Law,
    PartSettings,
    card_is_light,
    check_about,
    require,
    require_same,
)
from trainables.laws.narrow import (
    NARROW,
    build_narrow,
    clips_for,
    narrow_backbone,
    random_clips,
    randomise_batch_norm,
)
from trainables.layouts import load_layout
from trainables.models.build import Backbone, build_backbone
from trainables.reparam.fusible import FULL, RELEASED
from trainables.sparsity.masks import attach

STEPS = 150
"""Updates within which a network must have learned 16 clips by heart."""


def narrow(model: PartSettings, **changes: Any) -> Backbone:
    """The narrow network of these settings."""
    options = {**model, **changes}
    return narrow_backbone(options.pop("backbone"), **options)


def card_fits_model(model: PartSettings) -> None:
    """Its settings are settings of `model`, its defaults make a valid one, and its module holds a
    backbone.
    """
    card = BACKBONES.find(model["backbone"])
    known = ModelConfig.model_fields.keys() - {"backbone", "layout", "branches", "options"}
    strange = [name for name in (*card.settings, *card.defaults) if name not in known]
    require(not strange, f"there is no setting {', '.join(strange)} of model")
    idle = [name for name in card.defaults if name not in card.settings]
    require(not idle, f"a default of a setting it does not use: {', '.join(idle)}")
    check_about(card)
    ModelConfig.model_validate({"backbone": model["backbone"]})
    network = card.load()
    require(
        isinstance(network, type) and issubclass(network, Backbone),
        f"{card.module} must be a subclass of trainables.models.backbone.Backbone, got {network!r}",
    )


def deploys_to_the_same_logits(
    model: PartSettings, *, layout: str = "ntu25", persons: int = 2, frames: int = 8
) -> None:
    """Up to 1e-9 in double and 1e-4 in single precision, folded in full and as released."""
    network = narrow(model, layout=layout, persons=persons).eval()
    clips = clips_for(network, frames=frames)
    with torch.no_grad():
        expected = network(clips)
        require_same(deploy(network, FULL, frames=frames)(clips), expected, 1e-9, "folded in full")
        require_same(deploy(network, RELEASED)(clips), expected, 1e-9, "folded as released")
        single = network.float()
        form = deploy(single, FULL, frames=frames)
        require_same(form(clips.float()), single(clips.float()), 1e-4, "in single precision")


def skips_absent_persons(model: PartSettings) -> None:
    """A person of zeros changes nothing, and the deploy form does not compute it."""
    network = narrow(model, persons=2).eval()
    clips = clips_for(network, count=4)
    clips[0, ..., 1] = 0
    clips[2, ..., 0] = 0
    clips[3] = 0
    form = deploy(network, FULL, frames=8)
    with torch.no_grad():
        expected = network(clips)
        require_same(form(clips), expected, 1e-9, "clips with absent persons")
        require_same(form(clips[3:]), expected[3:], 1e-9, "a clip without persons")
        other = deploy(network, FULL, frames=5)
        require_same(other(clips), expected, 1e-9, "clips of another length")
        rows: list[int] = []
        hook = next(form.blocks.children()).register_forward_pre_hook(
            lambda _module, args: rows.append(len(args[0]))
        )
        form(clips)
        hook.remove()
    require(sum(rows) == 4, f"the first block must see 4 of the 8 persons once, but saw {rows}")


def runs_absent_persons_once(model: PartSettings) -> None:
    """In training, where its card says that persons are apart: loss, every gradient and all
    statistics are those of a step that runs everyone.
    """
    if not BACKBONES.find(model["backbone"]).persons_apart:
        return
    everyone = narrow(model, persons=3, dropout=0.0).train()
    _tell_joints_apart(everyone)
    once = copy.deepcopy(everyone)
    clips, persons = clips_for(everyone, count=5), torch.tensor([1, 2, 1, 3, 1])
    for clip, there in zip(clips, persons.tolist(), strict=True):
        clip[..., there:] = 0
    rows: list[int] = []
    next(once.blocks.children()).register_forward_pre_hook(
        lambda _module, args: rows.append(len(args[0]))
    )
    losses = []
    with torch.random.fork_rng(devices=[]):
        for network, told in ((everyone, None), (once, persons)):
            torch.manual_seed(0)  # of noise behind the blocks
            loss, _ = network.objective(clips, torch.arange(5), told)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
    require(rows == [10], f"the first block must see 8 persons and 2 absent ones, but saw {rows}")
    require_same(losses[1], losses[0], 1e-12, "loss")
    expected, found = _gradients(everyone), _gradients(once)
    require(expected.keys() == found.keys(), "the same parameters must have gradients")
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name, gradient in expected.items():
        # a bias before a BatchNorm has a gradient of nothing but rounding
        idle = float(gradient.abs().max()) < 1e-10 * largest
        tolerance = 1e-10 if idle else 1e-12
        require_same(found[name] / largest, gradient / largest, tolerance, f"gradient of {name}")
    for name, buffer in everyone.named_buffers():
        require_same(once.get_buffer(name).double(), buffer.double(), 1e-12, name)


@torch.no_grad()
def _tell_joints_apart(network: nn.Module) -> None:
    """No two joints of an absent person are equally near to a third: rounding would choose."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        parameter.add_(noise, alpha=0.1)


def _gradients(network: nn.Module) -> dict[str, Tensor]:
    return {
        name: parameter.grad
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }


def every_parameter_learns(model: PartSettings) -> None:
    """Each has a gradient. A bias or shift right before a BatchNorm in training mode has no effect;
    parameters that the network holds without using them are named in `Backbone.never_learns`.
    """
    network = narrow(model, persons=2, classes=4, dropout=0.0).train()
    # a negative scale can silence a channel
    randomise_batch_norm(network, torch.Generator().manual_seed(2), smallest=0.5)
    logits = network(clips_for(network))
    require(logits.shape == (2, 4), f"logits must be (2, 4), got {tuple(logits.shape)}")
    loss = nn.functional.cross_entropy(logits, torch.tensor([0, 3]))
    loss.backward()  # type: ignore[no-untyped-call]
    still = [
        name
        for name, parameter in network.named_parameters()
        if (parameter.grad is None or not parameter.grad.any())
        and not name.endswith("bias")
        and not any(part in name for part in network.never_learns)
    ]
    require(not still, f"no gradient reaches {', '.join(still)}")


def trains_and_runs_in_bfloat16(model: PartSettings) -> None:
    """Under autocast, as GPUs train; the deploy form with an absent person, in every way to run."""
    # the second block has an identity residual
    network = narrow(model, persons=2, classes=4, stages=(2, 1)).float().train()
    clips = clips_for(network, count=4).float()
    clips[1, ..., 1] = 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, logits = network.objective(clips, torch.arange(4))
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [each.grad for each in network.parameters() if each.grad is not None]
    for what, tensors in (("loss", [loss]), ("logits", [logits]), ("gradients", gradients)):
        require(all(bool(each.isfinite().all()) for each in tensors), f"{what} must be finite")
    form = deploy(network, frames=8)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for rows in (False, True):
            form.arrange(Execution(rows=rows, at_once=3))
            require(bool(form(clips).isfinite().all()), f"deployed logits must be finite, {rows=}")


def clips_do_not_influence_each_other(model: PartSettings) -> None:
    """Any batch gives a clip the same logits."""
    network = narrow(model, persons=2).eval()
    clips = clips_for(network, count=3, frames=6)
    with torch.no_grad():
        together, alone = network(clips), torch.cat([network(clip[None]) for clip in clips])
    require_same(together, alone, 1e-10, "three clips at once and one by one")


def weights_depend_on_the_seed_alone(model: PartSettings) -> None:
    """Not on torch's global generator, which is left as it is."""
    config = ModelConfig.model_validate(NARROW | {"groups": 2} | dict(model))

    def state(seed: int) -> dict[str, Tensor]:
        network = build_backbone(
            config, load_layout("ntu25"), classes=3, persons=1, stream=StreamConfig(), seed=seed
        )
        return network.state_dict()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(123)
        before = torch.random.get_rng_state()
        first = state(5)
        require(
            torch.equal(torch.random.get_rng_state(), before), "building must not draw globally"
        )
        torch.rand(3)
        second, other = state(5), state(6)
    require(
        all(torch.equal(first[key], second[key]) for key in first),
        "the same seed must give the same weights",
    )
    require(
        any(not torch.equal(first[key], other[key]) for key in first if key.startswith("head.")),
        "another seed must give the head other weights",
    )


def ships_kernels_of_its_own(model: PartSettings) -> None:
    """The deploy form is frozen, in evaluation mode, and shares no memory with the network."""
    network = narrow(model).train()
    before = copy.deepcopy(network.state_dict())
    form = deploy(network, FULL, frames=8)
    require(not form.training, "the deploy form must be in evaluation mode")
    require(not any(p.requires_grad for p in form.parameters()), "the deploy form must be frozen")
    with torch.no_grad():
        for tensor in form.state_dict().values():
            tensor.fill_(7)
    require(network.training, "the network must stay in training mode")
    shared = [
        name
        for name, tensor in network.state_dict().items()
        if not torch.equal(tensor, before[name])
    ]
    require(not shared, f"the deploy form shares memory with {', '.join(shared)}")


def ships_with_its_masks(model: PartSettings) -> None:
    """Masks on the blocks' convolutions are in the deploy form's weights and stay on the network's.

    Every convolution of a block can be masked.
    """
    network = narrow(model).eval()
    dense = nonzero_params(deploy(network, FULL))
    generator = torch.Generator().manual_seed(8)
    convs = [module for module in network.blocks.modules() if isinstance(module, nn.Conv2d)]
    require(bool(convs), "the blocks must hold convolutions (nn.Conv2d), or masks touch nothing")
    for conv in convs:
        mask = (torch.rand(conv.weight.shape, generator=generator) > 0.8).float()
        attach(conv, mask).active = True
    clips = clips_for(network)
    form = deploy(network, frames=8)
    with torch.no_grad():
        require_same(form(clips), network(clips), 1e-9, "masked")
    masked = [name for name in form.state_dict() if "parametrizations" in name]
    require(not masked, f"the deploy form must hold plain weights, got {', '.join(masked)}")
    require(all(map(parametrize.is_parametrized, convs)), "masks must stay on the network")
    left = nonzero_params(form)
    require(left < dense, f"masks must leave fewer than {dense} parameters that are not 0: {left}")


def comes_back_from_its_file(model: PartSettings) -> None:
    """Bit for bit, with its specification."""
    form = deploy(narrow(model, persons=2), frames=8)
    clips = clips_for(form)
    clips[0, ..., 1] = 0
    with TemporaryDirectory() as folder:
        path = Path(folder, "deploy.pt")
        save_deploy(form, path)
        loaded = load_deploy(path)
        files = [each.name for each in Path(folder).iterdir()]
    require(files == ["deploy.pt"], f"saving must leave one file, got {files}")
    require(not loaded.training, "a loaded form must be in evaluation mode")
    same = (loaded.spec, loaded.folding, loaded.frames) == (form.spec, form.folding, 8)
    require(same, f"the specification must come back, got {loaded.spec}")
    with torch.no_grad():
        require(torch.equal(loaded(clips), form(clips)), "a loaded form must give the same logits")


def pickles_and_copies(model: PartSettings) -> None:
    """Network and deploy form, bit for bit."""
    network = narrow(model).eval()
    clips = clips_for(network)
    with torch.no_grad():
        for what, module in (("network", network), ("deploy form", deploy(network, frames=8))):
            expected = module(clips)
            again = pickle.loads(pickle.dumps(module))
            require(torch.equal(again(clips), expected), f"a pickled {what} gives other logits")
            again = copy.deepcopy(module)
            require(torch.equal(again(clips), expected), f"a copied {what} gives other logits")


def compiles_without_a_break(model: PartSettings) -> None:
    """Whole-graph capture is what a compiler needs of us; the code it then generates is its own
    business.
    """
    torch._dynamo.reset()
    network = narrow(model, persons=2).eval()
    clips = clips_for(network)
    with torch.no_grad():
        for what, module in (("network", network), ("deploy form", deploy(network, frames=8))):
            compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
            require_same(compiled(clips), module(clips), 1e-12, f"compiled {what}")


def exports_for_any_batch(model: PartSettings) -> None:
    """`torch.export` with a batch of 1 to 64 clips."""
    network = narrow(model, persons=2).eval()
    clips = clips_for(network, count=5)
    clips[1, ..., 1] = 0
    for what, module in (("network", network), ("deploy form", deploy(network, frames=8))):
        program = torch.export.export(
            module,
            (clips_for(network, count=3),),
            dynamic_shapes=({0: torch.export.Dim("N", min=1, max=64)},),
        )
        with torch.no_grad():
            require_same(program.module()(clips), module(clips), 1e-9, f"exported {what}")


def learns_sixteen_clips_by_heart(model: PartSettings) -> None:
    """All of them right within 150 updates."""
    network = build_narrow({**model, "dropout": 0.0}, classes=4)
    clips = random_clips(16, 3, 8, 20, 1).float()
    labels = torch.arange(16) % 4
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9, nesterov=True)
    right = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network.train()
        for _ in range(STEPS):
            loss, logits = network.objective(clips, labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            right = max(right, int((logits.argmax(dim=1) == labels).sum()))
            if right == 16:
                return
    require(False, f"at most {right} of 16 clips were right after {STEPS} updates")


CARD_LAWS: tuple[Law, ...] = (
    Law(
        "has a card that imports neither torch nor ray",
        lambda model: card_is_light(BACKBONES.path(model["backbone"])),
    ),
    Law("has a card that names what there is", card_fits_model),
)
"""Of the card alone, whatever the settings."""

LAWS: tuple[Law, ...] = (
    Law(
        "deploys to the same logits",
        deploys_to_the_same_logits,
        tuple(
            {"layout": layout, "persons": persons, "frames": frames}
            for frames, layout, persons in product((7, 8), ("ntu25", "ucla20", "coco17"), (1, 2))
        ),
    ),
    Law("is counted as it is built", is_counted_as_it_is_built, SIZES),
    Law("skips absent persons", skips_absent_persons),
    Law("runs absent persons once in training", runs_absent_persons_once),
    Law("has a gradient for every parameter", every_parameter_learns),
    Law("trains and runs in bfloat16", trains_and_runs_in_bfloat16),
    Law("gives a clip the same logits in any batch", clips_do_not_influence_each_other),
    Law("has weights that depend on the seed alone", weights_depend_on_the_seed_alone),
    Law("ships frozen kernels of its own", ships_kernels_of_its_own),
    Law("ships with its masks", ships_with_its_masks),
    Law("comes back from its file bit for bit", comes_back_from_its_file),
    Law("pickles and copies", pickles_and_copies),
    Law("compiles without a break", compiles_without_a_break),
    Law("exports for any batch", exports_for_any_batch),
    Law("learns sixteen clips by heart", learns_sixteen_clips_by_heart),
)
