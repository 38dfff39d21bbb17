"""A trial's network and its masks before training: whether anything gets through it, and what a
person should know. Trains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from trainables.contract.config import TrialConfig
from trainables.contract.errors import TrialFailed
from trainables.contract.sparsity import SparsityConfig
from trainables.data.store.reading import Store
from trainables.models.backbones.hpi_gcn import GraphConv
from trainables.models.build import Backbone, build_backbone
from trainables.models.build_levels import build_multi_level
from trainables.models.multilevel import MultiLevel, multi_level_spec
from trainables.module_copies import module_copy
from trainables.reparam.kept import train_by_kept_weights
from trainables.reparam.merged import NormalisedRepTCN
from trainables.seeding import derive
from trainables.sparse.rows import compiled, without_numba
from trainables.sparsity.build import Subject, attach_sparsity
from trainables.sparsity.connected import first_disconnected_block
from trainables.sparsity.generator import SparseGenerator
from trainables.sparsity.levels import attach_levels
from trainables.sparsity.masks import kept_weights
from trainables.sparsity.sharing import kept_in_fused
from trainables.training.schedule import Schedule

MOST_DRAWS = 100
"""How often masks are drawn in search of some that let a clip through: where one draw in twenty
does, 199 of 200 trials find one.
"""


def build_network(config: TrialConfig, store: Store) -> Backbone | MultiLevel:
    """The training form, without masks."""
    seed, sizes = (
        derive(config.seed, "weights"),
        {"classes": len(store.info.classes), "persons": store.info.persons},
    )
    if config.sparsity.network == "single":
        return build_backbone(
            config.model, store.layout, stream=config.data.stream_config, seed=seed, **sizes
        )
    spec = multi_level_spec(
        config.model, config.sparsity, store.layout, stream=config.data.stream_config, **sizes
    )
    return build_multi_level(spec, seed=seed, sparsity=config.sparsity)


def one_clip(config: TrialConfig, store: Store) -> Tensor:
    """(1, 3, T, V, M): a clip of the size that the network sees, in which everyone is there."""
    return torch.ones(1, 3, config.data.frames, store.layout.size, store.info.persons)


def train_merged(network: nn.Module) -> None:
    """From now on modules that can compute what they train in fewer operations do, where that costs
    less; in evaluation nothing changes.
    """
    for module in network.modules():
        if isinstance(module, NormalisedRepTCN | GraphConv):
            module.merged = True


def with_masks(
    plain: Backbone | MultiLevel, config: TrialConfig, steps: int, root: Path, clip: Tensor
) -> tuple[Backbone | MultiLevel, Schedule | None]:
    """The network with its masks, `plain` itself or a copy of it, and what changes them; steps: of
    an epoch; root: where a relative file of masks starts; clip: see `one_clip`.

    Random masks that disconnect the network, or one of its levels, are drawn again: of those
    that leave a way from the clip to the classifier each is equally likely. TrialFailed where masks
    that stay as they are leave none at any level.
    """
    drawn = config.sparsity.card.drawn and not config.sparsity.dense
    for draw in range(MOST_DRAWS):
        network = module_copy(plain) if drawn else plain
        masks = _attach(network, config, steps, root, clip, draw)
        # others change while they train: a way can come back
        stay = isinstance(network, MultiLevel) or isinstance(masks, SparseGenerator)
        dead = disconnected_blocks(network, clip) if stay or (masks is not None and drawn) else {}
        if not (dead and drawn):
            break
    if stay:
        _refuse_cut(
            network, config.sparsity, dead, f" in any of {MOST_DRAWS} draws" if drawn else ""
        )
    return network, masks


def _refuse_cut(
    network: Backbone | MultiLevel, sparsity: SparsityConfig, dead: Mapping[str, str], tried: str
) -> None:
    """TrialFailed where nothing gets through at any level; dead: see `disconnected_blocks`."""
    if len(dead) == len(_levels(network)):
        advice = _less_sparse(sparsity)
        raise TrialFailed(
            "masks must leave a way from the clip to the classifier, but at sparsity.level"
            f" {sparsity.described} nothing gets through "
            f"{', '.join(dict.fromkeys(dead.values()))}{tried}{f': use {advice}' if advice else ''}"
        )


def _less_sparse(sparsity: SparsityConfig) -> str:
    """What to change where masks disconnect a network; nothing for masks of a file."""
    if sparsity.card.from_file:
        return ""
    if sparsity.network != "single":
        return "lower sparsity.levels"
    if sparsity.level == "learned":
        return "a lower sparsity.price" if sparsity.target is None else "a lower sparsity.target"
    return (
        "a lower level, or sparsity.scope tensor with distribution erk, which spares small tensors"
    )


def check_mask_file(config: TrialConfig, store: Store, root: Path) -> None:
    """Generator predefined: UserError where the file does not fit the network, TrialFailed where
    its masks disconnect it; as in training.
    """
    with_masks(build_network(config, store), config, 1, root, one_clip(config, store))


def mask_warnings(network: Backbone | MultiLevel, config: TrialConfig, clip: Tensor) -> list[str]:
    """What a person should know of the masks as they are now: disconnected levels, layers
    without weights; nothing of a dense network.
    """
    if config.sparsity.dense:
        return []
    dead, warnings = disconnected_blocks(network, clip), []
    for name, single in _levels(network).items():
        level = f"level {name or config.sparsity.described}"
        if name in dead:
            warnings.append(
                f"{level} leaves no way from the clip to the classifier: nothing gets through"
                f" {dead[name]}"
            )
        bare = [
            each.name
            for each in (*kept_weights(single, list(single.blocks)), *kept_in_fused(single))
            if each.kept == 0
        ]
        if bare:
            warnings.append(f"{level} leaves no weight in {', '.join(bare)}")
    return warnings


def train_sparse(
    network: Backbone | MultiLevel, config: TrialConfig, device: torch.device
) -> list[str]:
    """From now on steps under masks compute with kept weights alone, as far as
    `train.sparse_kernels` and the device let them; returns what a person should know of it.
    """
    if device.type != "cpu" or not config.trains_kept_weights:
        return []
    if not compiled():
        return [without_numba("are trained dense on a CPU")]
    train_by_kept_weights(network)
    return []


def disconnected_blocks(network: Backbone | MultiLevel, clip: Tensor) -> dict[str, str]:
    """Where masks disconnect the network: by the name of the level ('' of a single network), the
    first block that nothing gets through.
    """
    blocks = {
        name: first_disconnected_block(single, list(single.blocks), clip)
        for name, single in _levels(network).items()
    }
    return {name: f"blocks.{block}" for name, block in blocks.items() if block is not None}


def _levels(network: Backbone | MultiLevel) -> dict[str, Backbone]:
    return (
        dict(zip(network.level_names, network.backbones, strict=True))
        if isinstance(network, MultiLevel)
        else {"": network}
    )


def _attach(
    network: Backbone | MultiLevel,
    config: TrialConfig,
    steps: int,
    root: Path,
    clip: Tensor,
    draw: int,
) -> Schedule | None:
    """Masks, and what changes them; draw: number of the attempt."""
    seed = derive(config.seed, "masks", draw) if draw else derive(config.seed, "masks")
    if isinstance(network, MultiLevel):
        return attach_levels(network, config.sparsity, config.warmup_epochs, seed, clip)
    sparsity = config.sparsity
    subject = Subject(
        network,
        list(network.blocks),
        network.head,
        config.train.epochs,
        steps,
        seed,
        clip,
        root,
        when_fixed=lambda: _refuse_cut(network, sparsity, disconnected_blocks(network, clip), ""),
    )
    return attach_sparsity(subject, config.sparsity)
