"""Weight for weight: the released networks, filled through the importer, give the logits of the
released code.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests import naive_networks
from trainables.deploy.form import deploy
from trainables.foreign.checkpoint import Imported, import_tensors
from trainables.layouts import load_layout

NETWORKS: dict[str, dict] = {  # file of vectors -> backbone, and options its tensors do not show
    "hpi_gcn_rp_pa5_k5_joint": {"backbone": "hpi_gcn_rp"},
    "hpi_gcn_rp_pa5_k5_bone": {"backbone": "hpi_gcn_rp"},
    "hpi_gcn_op_g8_k5_joint": {"backbone": "hpi_gcn_op"},
    "hpi_gcn_op_g8_k9_joint": {"backbone": "hpi_gcn_op"},
    "st_gcn_pyskl": {"backbone": "st_gcn", "adjacency": "scaled"},
    "st_gcn_random_init": {"backbone": "st_gcn"},
    "st_gcn_pp": {"backbone": "st_gcn_pp"},
    "aa_gcn_attention_on": {"backbone": "aa_gcn"},
    "aa_gcn_attention_off": {"backbone": "aa_gcn"},
    "dg_stgcn_k8": {"backbone": "dg_stgcn"},
    "ctr_gcn_official": {"backbone": "ctr_gcn"},
    "ctr_baseline_st_gcn_k5": {"backbone": "st_gcn_k5"},
    "ctr_gcn_pyskl": {"backbone": "ctr_gcn"},
    "info_gcn_k_1": {"backbone": "info_gcn"},
    "hd_gcn_com21": {"backbone": "hd_gcn", "centre": 21},
}
HOPS = {"info_gcn_k_1": 1}
"""The released code makes the k-hop representation inside its
network; here the data stream does.
"""
TOLERANCE = 1e-9  # of the largest logit; the vectors are printed to 12 digits


def imported(name: str, **options) -> Imported:
    asked = {**NETWORKS[name], **options}
    return import_tensors(
        naive_networks.checkpoint(name), asked.pop("backbone"), load_layout("ntu25"), options=asked
    )


def clips_for(name: str) -> Tensor:
    hops = torch.from_numpy(load_layout("ntu25").hop_matrix(HOPS.get(name, 0), "child_parent"))
    return torch.einsum("uv,nctvm->nctum", hops, naive_networks.clips(name))


def assert_same(logits, expected):
    assert (logits - expected).abs().max() <= TOLERANCE * expected.abs().max()


def test_every_released_network_is_compared():
    assert sorted(NETWORKS) == naive_networks.NAMES


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_logits_of_the_released_code(name):
    network, clips = imported(name).network.eval(), clips_for(name)
    with torch.no_grad():
        assert_same(network(clips), naive_networks.logits(name))
        assert_same(deploy(network, frames=clips.shape[2])(clips), naive_networks.logits(name))


@pytest.mark.parametrize(
    "name",
    [name for name in sorted(NETWORKS) if "logits_train_mode" in naive_networks.vectors(name)],
)
def test_logits_of_the_released_code_in_training_mode(name):
    network = imported(name, dropout=0.0).network.train()
    with torch.no_grad():
        assert_same(network(clips_for(name)), naive_networks.logits(name, "logits_train_mode"))
