"""Our backbones keep the laws of every backbone. A new one enters with one line of CASES."""

from __future__ import annotations

import pytest

from trainables.contract.backbones import BACKBONES
from trainables.laws.backbone import CARD_LAWS, LAWS
from trainables.laws.law import Law

CASES: dict[str, dict] = {  # name of the case -> options of the model
    "hpi_gcn_baseline": {"backbone": "hpi_gcn_baseline"},
    "hpi_gcn_baseline as released": {"backbone": "hpi_gcn_baseline", "normalised": False},
    "hpi_gcn_rp": {"backbone": "hpi_gcn_rp"},
    "hpi_gcn_rp K7": {
        "backbone": "hpi_gcn_rp",
        "kernel_size": 7,
        "branches": ("pointwise", 7, "average"),
    },
    "hpi_gcn_rp single convolution": {"backbone": "hpi_gcn_rp", "temporal": "conv"},
    "hpi_gcn_op": {"backbone": "hpi_gcn_op"},
    "hpi_gcn_op K9": {"backbone": "hpi_gcn_op", "kernel_size": 9},
    "st_gcn": {"backbone": "st_gcn"},
    "st_gcn RP-K5": {"backbone": "st_gcn", "temporal": "rep_tcn"},
    "st_gcn scaled graph": {"backbone": "st_gcn", "adjacency": "scaled"},
    "aa_gcn": {"backbone": "aa_gcn"},
    "aa_gcn with attention": {"backbone": "aa_gcn", "attention": True},
    "ctr_gcn": {"backbone": "ctr_gcn"},
    "ctr_gcn of PYSKL": {"backbone": "ctr_gcn", "convention": "pyskl"},
    "ctr_gcn RP-K5": {"backbone": "ctr_gcn", "temporal": "rep_tcn"},
    "dg_stgcn": {"backbone": "dg_stgcn"},
    "dg_stgcn 3 subsets": {"backbone": "dg_stgcn", "subsets": 3, "temporal": "ms_tcn6"},
    "st_gcn_pp": {"backbone": "st_gcn_pp"},
    "st_gcn_k5": {"backbone": "st_gcn_k5"},
    "st_gcn_k5 RP-K5": {"backbone": "st_gcn_k5", "temporal": "rep_tcn"},
    "info_gcn": {"backbone": "info_gcn"},
    "hd_gcn": {"backbone": "hd_gcn"},
    "hd_gcn centre 2": {"backbone": "hd_gcn", "centre": 2},
}
SLOW = {
    "compiles without a break": ("st_gcn",),
    "exports for any batch": ("info_gcn",),
    "learns sixteen clips by heart": ("hpi_gcn_rp",),
}
"""Cases that keep the slow laws in every run; the others keep them in `make test-full`."""
TOGETHER = 4
"""Of so many settings of a law a backbone meets one in every run: every backbone meets every law,
and every setting is met by a quarter of them. Backbones with options keep the laws in
`make test-full`.
"""


def in_every_run(case: int, law: Law, setting: int) -> bool:
    name = list(CASES)[case]
    if name not in BACKBONES.own:
        return False
    if law.says in SLOW:
        return name in SLOW[law.says]
    return len(law.settings) < TOGETHER or (case + setting) % TOGETHER == 0


MEETINGS = [
    pytest.param(
        options,
        law,
        setting,
        id=f"{name}-{law.says} {' '.join(map(str, setting.values()))}".strip(),
        marks=[] if in_every_run(number, law, place) else pytest.mark.full,
    )
    for number, (name, options) in enumerate(CASES.items())
    for law in LAWS
    for place, setting in enumerate(law.settings)
]


def test_every_backbone_has_a_case():
    assert {options["backbone"] for options in CASES.values()} == set(BACKBONES.own)


@pytest.mark.parametrize("law", CARD_LAWS, ids=lambda law: law.says)
@pytest.mark.parametrize("name", BACKBONES.own)
def test_our_cards_keep_their_laws(name, law):
    law.hold({"backbone": name})


def test_every_backbone_meets_every_law_that_is_not_slow_in_every_run():
    met = {(id(one.values[0]), one.values[1].says) for one in MEETINGS if not one.marks}
    quick = [law.says for law in LAWS if law.says not in SLOW]
    assert {(id(CASES[name]), law) for name in BACKBONES.own for law in quick} <= met
    assert {law.says for law in LAWS} == {law for _, law in met}


@pytest.mark.parametrize(("options", "law", "setting"), MEETINGS)
def test_our_backbones_keep_the_laws(options, law, setting):
    law.hold(options, **setting)
