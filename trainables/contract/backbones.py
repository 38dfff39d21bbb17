"""What is known of a backbone without its network: its card, and the table of the cards there are.

A card stands beside the network it describes, in a module that does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel

from trainables.contract.cards import Card, CardTable

if TYPE_CHECKING:
    from trainables.contract.model import ModelConfig

Counter = Callable[[Any, Any], None]
"""(cost.counting.tally.Network, Tally) -> None: adds up one form of the network, block by block."""

BLOCKS = ("channels", "stages", "strides", "temporal", "kernel_size", "dropout")
"""The settings of a backbone made of stages of blocks with a temporal module each."""


class Skeleton(Protocol):
    """What a card may know of a layout (see `trainables.layouts.Layout`)."""

    @property
    def name(self) -> str: ...
    @property
    def parents(self) -> tuple[int, ...]: ...
    @property
    def graph_parents(self) -> tuple[int, ...] | None: ...
    @property
    def size(self) -> int: ...


def tree_of_graphs(model: ModelConfig, skeleton: Skeleton) -> tuple[int, ...]:
    """The layout's tree for graphs, where it has one of its own; else its bones."""
    return skeleton.graph_parents or skeleton.parents


def long_single_convolution(before: Mapping[str, Any]) -> int | None:
    """`kernel_size` of ST-GCN and AA-GCN: 9 where one convolution is the temporal module."""
    return 9 if before.get("temporal") == "conv" else None


@dataclass(frozen=True, kw_only=True)
class BackboneCard(Card):
    """A backbone; its `module` is a `trainables.models.backbone.Backbone`, made from a
    `NetworkSpec`.
    """

    counter: Counter
    # of `model`: those that change the network, besides backbone and layout, which every one has
    settings: tuple[str, ...] = BLOCKS
    # setting -> default where it differs from the usual one; a function looks at the settings that
    # stand before it in `ModelConfig` and returns None where the usual one is right
    defaults: Mapping[str, Any] = field(default_factory=dict)
    # settings of its own, under `model.options`; checked and completed by this model
    options: type[BaseModel] | None = None
    # ValueError (setting, rule, values) where settings do not fit together
    check: Callable[[ModelConfig], None] = lambda model: None
    # parents of the tree its graphs are made of; UserError where the layout does not fit
    tree: Callable[[ModelConfig, Skeleton], tuple[int, ...]] = tree_of_graphs
    # an input block brings the coordinates to full width; else the first block does
    stem: bool = False
    # in training a person's features depend on other persons through the statistics of
    # `reparam.counts.BatchNorm2d` alone, and blocks draw nothing: equal persons may be run once
    persons_apart: bool = False
    # nothing in it is chosen by comparing numbers, so that rounding changes no choice
    continuous: bool = True
    # the deploy form makes one kernel of a graph convolution's two, whatever the temporal module
    fuses_graph_convolutions: bool = False
    # training computes those two as one where that costs less
    trains_graph_convolutions_as_one: bool = False

    @property
    def own_settings(self) -> tuple[str, ...]:
        """Those that not every backbone of blocks has."""
        return tuple(name for name in self.settings if name not in BLOCKS)

    def default(self, setting: str, before: Mapping[str, Any]) -> Any:
        """The default of a setting beside those before it; None where the usual one is right."""
        value = self.defaults.get(setting)
        return value(before) if callable(value) else value


_HERE = "trainables.models.backbones"

BACKBONES = CardTable(
    "backbone",
    "orchestrate.backbones",
    BackboneCard,
    {
        "hpi_gcn_baseline": f"{_HERE}.hpi_gcn_card:BASELINE",
        "hpi_gcn_rp": f"{_HERE}.hpi_gcn_card:RP",
        "hpi_gcn_op": f"{_HERE}.hpi_gcn_card:OP",
        "st_gcn": f"{_HERE}.st_gcn_card:ST_GCN",
        "aa_gcn": f"{_HERE}.aa_gcn_card:CARD",
        "ctr_gcn": f"{_HERE}.ctr_gcn_card:CARD",
        "dg_stgcn": f"{_HERE}.dg_stgcn_card:CARD",
        "st_gcn_pp": f"{_HERE}.st_gcn_card:ST_GCN_PP",
        "st_gcn_k5": f"{_HERE}.st_gcn_k5_card:CARD",
        "info_gcn": f"{_HERE}.info_gcn_card:CARD",
        "hd_gcn": f"{_HERE}.hd_gcn_card:CARD",
    },
)
