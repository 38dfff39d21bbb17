"""The card of HD-GCN, and its parameters and MACs by arithmetic. Imports no torch."""

from __future__ import annotations

from trainables.contract.backbones import BLOCKS, BackboneCard, Skeleton, tree_of_graphs
from trainables.contract.errors import UserError
from trainables.contract.model import ModelConfig
from trainables.cost.counting.tally import COORDINATES, Network, Tally
from trainables.cost.counting.temporal import count_temporal
from trainables.graphs import centre_joint, hierarchy

SUBSETS = 3
NEAREST_JOINTS = 5
NEAREST_LAYERS = 3


def count_hd_gcn(network: Network, tally: Tally) -> None:
    """Input normalisation, blocks, classifier; the first block has neither attention nor a
    residual.
    """
    model, frames = network.model, network.frames
    layers = len(hierarchy(network.parents, centre_joint(model.centre, network.parents))) - 1
    tally.norm(network.persons * network.joints * COORDINATES)
    for number, (inside, outside, stride) in enumerate(model.block_plan):
        tally.begin_block()
        before, frames = frames, (frames - 1) // stride + 1
        _graph_conv(tally, layers, inside, outside, before, attention=number > 0)
        count_temporal(model, tally, outside, before, frames)
        if number and (inside != outside or stride != 1):
            tally.conv_bn(inside, outside, frames, bias=True)
    tally.linear(model.width, network.classes)


def _graph_conv(
    tally: Tally, layers: int, inside: int, outside: int, frames: int, *, attention: bool
) -> None:
    width = outside // (SUBSETS + 1)
    embedded = layers * SUBSETS * width
    tally.conv_bn(inside, layers * width, frames, bias=True)
    tally.adjacency(layers * SUBSETS)
    tally.joint_mixing(embedded, frames)
    _embedding(tally, layers, width, embedded, frames)
    _edge_conv(tally, width, layers, tally.joints, NEAREST_JOINTS)
    if attention:
        _attention(tally, layers, outside)
    tally.norm(outside)  # deployed: its scale and shift are kept
    if inside != outside:
        tally.conv_bn(inside, outside, frames, bias=True)


def _embedding(tally: Tally, layers: int, width: int, embedded: int, frames: int) -> None:
    """The 1x1 convolutions of all subsets with their BatchNorms.

    Batched products in ours; deployed: the shift is kept.
    """
    tally.leaf_params += embedded
    if tally.form != "deploy":
        tally.norm(embedded)
    work = tally.leaf_macs
    tally.conv(layers * width, embedded, frames, bias=False, groups=layers)
    if tally.form != "released":
        work = tally.leaf_macs - work
        tally.leaf_macs -= work
        tally.mixing_macs += work


def _edge_conv(tally: Tally, width: int, groups: int, points: int, neighbours: int) -> None:
    """Released: every pair of neighbours goes through the convolution, and distances are products;
    in ours every point goes twice.
    """
    pairs = min(neighbours, points) if tally.form == "released" else 1
    tally.conv(
        2 * groups * width,
        groups * width,
        pairs,
        bias=tally.form == "deploy",
        groups=groups,
        joints=points,
    )
    tally.fuse("difference")
    if tally.form != "deploy":
        tally.norm(groups * width)
    if tally.form == "released":
        tally.mixing_macs += groups * width * points**2 * tally.persons


def _attention(tally: Tally, layers: int, outside: int) -> None:
    width = outside // (SUBSETS + 1)
    tally.conv_bn(outside, width, layers, bias=True)
    _edge_conv(tally, width, 1, layers, NEAREST_LAYERS)
    # over layers alone, no 2-D convolution: not maskable
    tally.leaf_params += (width + 1) * outside
    tally.leaf_macs += width * outside * layers * tally.persons


def _tree(model: ModelConfig, skeleton: Skeleton) -> tuple[int, ...]:
    if model.centre != "root" and model.centre > skeleton.size:
        raise UserError(
            f"model.centre must be root or a joint of layout {skeleton.name}, 1 to"
            f" {skeleton.size}, got {model.centre}"
        )
    return tree_of_graphs(model, skeleton)


CARD = BackboneCard(
    name="hd_gcn",
    module="trainables.models.backbones.hd_gcn:HDGCN",
    about="HD-GCN (Lee et al. 2023): graphs between the levels of a hierarchy of joints.",
    counter=count_hd_gcn,
    persons_apart=True,
    continuous=False,
    settings=(*BLOCKS, "centre"),
    defaults={"temporal": "ms_tcn"},
    tree=_tree,
    fuses_graph_convolutions=True,
)
