"""The different networks of a sweep: how often each is trained, how large it is at each level."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.planning.sizes import Sizes
from orchestrator.sweep.leaves import leaves_of, unused
from orchestrator.trials.space import Trial
from trainables.contract.config import SparsityConfig, TrialConfig
from trainables.contract.fast import fast_paths
from trainables.contract.sparsity import level_name
from trainables.sparsity.amounts import emptied


@dataclass(frozen=True)
class Variant:
    """A network: model and input, at one or several sparsity levels."""

    # leaves of the model: the backbone and those in which the variants differ
    settings: dict[str, Any]
    streams: tuple[str, ...]  # with the same input block, so of the same size
    trials: int
    params: int
    deploy_params: int
    # of the training form, by sparsity level (and scope, structure and sharing, where there are
    # several)
    nonzero_params: dict[str, int]
    # of those levels, the ones that a price decides in training: no more than all parameters stay
    at_most: tuple[str, ...]
    deploy_nonzero_params: dict[str, int]  # of the deploy form
    # levels at which the deploy form's figure is an expected value: masks meet there in one kernel
    # by chance
    expected: tuple[str, ...]
    gmacs: float  # training form, 1e9 multiply-accumulates per clip
    deploy_gmacs: float
    seconds_per_trial: float  # mean over the variant's trials
    fast: tuple[str, ...]  # what of its training is computed in a fast way


def variants_of(
    everything: Sequence[Trial],
    sizes: Sizes,
    seconds: Mapping[str, float],
    *,
    evaluated: int,
    device: str,
) -> tuple[Variant, ...]:
    """Trials grouped by what decides a network's size; seconds: of whole trials; evaluated: clips
    of the selection split; device: cpu or cuda.
    """
    joints, persons = sizes.store.layout.size, sizes.store.info.persons

    def paths(config: TrialConfig) -> tuple[str, ...]:
        return fast_paths(
            config, joints=joints, persons=persons, evaluated=evaluated, device=device
        )

    groups: dict[object, list[Trial]] = {}
    for trial in everything:
        groups.setdefault(sizes.key(trial.config), []).append(trial)
    firsts = [group[0].config for group in groups.values()]
    models = [config.model.model_dump(mode="json") for config in firsts]
    differing = [
        name
        for name in models[0]
        if name == "backbone" or len({str(model[name]) for model in models}) > 1
    ]
    return tuple(
        _variant(group, _settings(group[0].config, differing), sizes, seconds, paths)
        for group in groups.values()
    )


def _settings(config: TrialConfig, differing: Sequence[str]) -> dict[str, Any]:
    """The leaves of the model in which the sweep's networks differ, without those that have no
    effect, and how levels make one network.
    """
    idle, model = unused(leaves_of(config)), config.model.model_dump(mode="json")
    own = {f"model.{name}": model[name] for name in differing if f"model.{name}" not in idle}
    network = config.sparsity.network
    return own if network == "single" else {**own, "sparsity.network": network}


def _variant(
    group: Sequence[Trial],
    settings: dict[str, Any],
    sizes: Sizes,
    seconds: Mapping[str, float],
    paths: Callable[[TrialConfig], tuple[str, ...]],
) -> Variant:
    cost, levels = sizes.count(group[0].config), _levels(group)
    deployed = {name: cost.deploy_nonzero_params(sparsity) for name, sparsity in levels.items()}
    return Variant(
        settings=settings,
        streams=tuple(dict.fromkeys(trial.config.data.stream_name for trial in group)),
        trials=len(group),
        params=cost.training.params,
        deploy_params=cost.deploy.params,
        nonzero_params={name: cost.nonzero_params(sparsity) for name, sparsity in levels.items()},
        at_most=tuple(name for name, sparsity in levels.items() if sparsity.price is not None),
        deploy_nonzero_params={name: number for name, (number, _) in deployed.items()},
        expected=tuple(name for name, (_, exact) in deployed.items() if not exact),
        gmacs=cost.training.gmacs,
        deploy_gmacs=cost.deploy.gmacs,
        seconds_per_trial=sum(seconds[trial.proposal.trial] for trial in group) / len(group),
        fast=tuple(dict.fromkeys(path for trial in group for path in paths(trial.config))),
    )


def _levels(group: Sequence[Trial]) -> dict[str, SparsityConfig]:
    """What the group removes, by level, and by scope, structure and sharing where it has several of
    them.
    """
    settings = ("scope", "structure", "sharing")
    configs = sorted(
        {trial.config.sparsity for trial in group},
        key=lambda each: (each.expected_level, *(getattr(each, s) for s in settings)),
    )
    several = [
        name
        for name in settings
        if len({getattr(config, name) for config in configs if _chooses(config)}) > 1
    ]
    return {
        " ".join(
            [
                config.described,
                *(str(getattr(config, name)) for name in several if _chooses(config)),
            ]
        ): config
        for config in configs
    }


def _chooses(config: SparsityConfig) -> bool:
    """Whether settings beside the level say how many weights go; a learned level is one of all
    tensors together.
    """
    return not config.dense and config.level != "learned"


def bare_layers(everything: Sequence[Trial], sizes: Sizes) -> tuple[str, ...]:
    """Layers that a level leaves without any weight, as far as that is known before masks are
    drawn; each network once.
    """
    different = {
        (sizes.key(trial.config), trial.config.sparsity): trial.config for trial in everything
    }
    found = []
    for config in different.values():
        for single in config.sparsity.singles if config.sparsity.sharing == "none" else ():
            bare = emptied(sizes.count(config).kernels, single)
            words = {
                f"{'x'.join(map(str, shape))} in block {block}": chance
                for block, shape, chance in bare
            }
            if words:
                verb = "leaves" if all(chance == 1 for *_, chance in bare) else "may leave"
                text = ", ".join(
                    layer if chance == 1 else f"{layer} ({100 * chance:.0f} %)"
                    for layer, chance in words.items()
                )
                found.append(
                    f"sparsity.level {level_name(single.expected_level)} {verb} no weight in"
                    f" {config.model.backbone}'s {text}"
                )
    return tuple(dict.fromkeys(found))
