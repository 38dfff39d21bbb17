"""Which network or ensemble of a sweep is which one of a paper's table, and in what it is not.

The rules: a network is the published one by its backbone and the settings that make its name; other
settings that differ from the published ones are said. An ensemble is the published one where its
networks are one of each stream and level that the paper combines, and of one kind. Networks of
several levels, levels the papers do not have, and ensembles over seeds match nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.ensembling.results import FinalEvaluation, Row, TestSplit
from orchestrator.report.papers.published import TEST_CLIPS, Data, Entry, Figure
from orchestrator.sweep.leaves import label
from trainables.contract.artifacts import TrialResult
from trainables.contract.config import STREAM_PRESETS, SparsityConfig, TrialConfig
from trainables.contract.model import ModelConfig

LEVELS = ("0.6", "0.8", "0.95", "0.99")
DENSE, ASSEMBLED = "dense", "assemble"
FIXED = ("mean", "weights")  # methods that choose no weights


@dataclass(frozen=True, slots=True)
class Method:
    """A network of a paper: what makes it this one, and where published settings are not ours."""

    backbone: str
    own: Mapping[str, Any] = field(default_factory=dict)
    usual: Mapping[str, Any] = field(default_factory=dict)

    def is_built(self, model: ModelConfig) -> bool:
        return model.backbone == self.backbone and all(
            getattr(model, name) == value for name, value in self.own.items()
        )

    def differences(self, model: ModelConfig) -> tuple[str, ...]:
        """Settings of a network of this kind that are not the published ones."""
        published = ModelConfig.model_validate(
            {"backbone": self.backbone, **self.own, **self.usual}
        )
        names = (*model.card.settings, *(["branches"] if model.temporal == "rep_tcn" else []))
        return _differences(model, published, names)


_REP = {"temporal": "rep_tcn", "kernel_size": 5}
METHODS: dict[str, dict[str, Method]] = {
    "HPI-GCN": {
        "baseline": Method("hpi_gcn_baseline", {"kernel_size": 5}),
        "HPI-GCN-RP": Method("hpi_gcn_rp", {**_REP, "adjacencies": 5}),
        **{
            f"HPI-GCN-RP-PA{number}": Method("hpi_gcn_rp", {**_REP, "adjacencies": number})
            for number in (1, 3, 5)
        },
        "HPI-GCN-OP": Method("hpi_gcn_op", _REP),
        "HPI-GCN-OP-K9": Method("hpi_gcn_op", {**_REP, "kernel_size": 9}),
        "CTR-GCN": Method("ctr_gcn", {"temporal": "ms_tcn"}),
        "CTR-GCN-K5": Method("ctr_gcn", {"temporal": "conv", "kernel_size": 5}),
        "CTR-GCN-RP-K5": Method("ctr_gcn", _REP),
        "ST-GCN-K5": Method("st_gcn_k5", {"temporal": "conv", "kernel_size": 5}),
        "ST-GCN-RP-K5": Method("st_gcn_k5", _REP),
        "ST-GCN++": Method("st_gcn_pp", {"temporal": "ms_tcn6"}),
        "InfoGCN": Method("info_gcn", {"temporal": "ms_tcn"}),
        "HD-GCN": Method("hd_gcn", {"temporal": "ms_tcn"}),
    },
    "Sparse ST-GCN": {
        "ST-GCN": Method("st_gcn", {"temporal": "conv", "kernel_size": 9}),
        "ST-GCN++": Method("st_gcn_pp", {"temporal": "ms_tcn6"}),
        "AA-GCN": Method("aa_gcn", {"temporal": "conv", "kernel_size": 9}),
        "CTR-GCN": Method("ctr_gcn", {"temporal": "ms_tcn"}, {"convention": "pyskl"}),
        "DG-STGCN": Method("dg_stgcn", {"temporal": "dg_ms_tcn"}),
    },
}
"""Paper -> name of a network in its tables -> what it is here. ST-GCN of the papers' surveys, the
network of 2018, is none of ours.
"""

_JOINT, _BOTH = frozenset({"joint"}), frozenset({"joint", "bone"})
_PYSKL = {"joint": _JOINT, "2-stream": _BOTH, "4-stream": frozenset(STREAM_PRESETS["pyskl"])}
_HPI = STREAM_PRESETS["hpi_code"]
_INFO = STREAM_PRESETS["infogcn"]
_FAMILIES: dict[str, dict[str, frozenset[str]]] = {
    "HPI-GCN": {
        "joint": _JOINT,
        **{f"{count}-stream": frozenset(_HPI[:count]) for count in (2, 4, 6)},
    },
    "InfoGCN": {
        "joint": _JOINT,
        "2-stream": frozenset({"joint", "infogcn_hop1"}),
        "4-stream": frozenset(_INFO[:4]),
        "6-stream": frozenset(_INFO),
    },
    # its four and six streams are joint and bone with other centres of the body
    "HD-GCN": {"joint": _JOINT, "2-stream": _BOTH},
}


def streams_of(method: str, streams: Iterable[str]) -> str | None:
    """What a table calls these streams of a method; None where it combines others."""
    family = next((own for name, own in _FAMILIES.items() if method.startswith(name)), _PYSKL)
    found = frozenset(streams)
    return next((name for name, own in family.items() if own == found), None)


def data_of(split: TestSplit) -> Data:
    """The data set and protocol as the papers call them where they use them, else as they are."""
    name, protocol = split.dataset.lower(), split.division.protocol
    found = re.fullmatch(r"ntu(60|120)(_3danno)?", name)  # PYSKL's 2-D poses are other data
    words = {"xsub": "X-sub", "xview": "X-view", "xset": "X-set"}
    if found and protocol in words and split.classes == int(found[1]):
        data = Data(f"NTU RGB+D {found[1]}", words[protocol])
        if data in TEST_CLIPS:
            return data
    if re.match(r"k400|kinetics", name) and split.classes == 400:
        return Data("Kinetics-400", "val")
    if re.match(r"gym_|finegym", name) and split.classes == 99:
        return Data("FineGYM", "val")
    return Data(split.dataset, protocol)


def entries_of(
    paper: str,
    evaluation: FinalEvaluation,
    configs: Mapping[str, TrialConfig],
    results: Mapping[str, TrialResult],
) -> list[Entry]:
    """The rows of an evaluation that are networks of a paper; under each name that it has for one.

    configs, results: of the trials that the rows name.
    """
    splits = {split.division: split for split in evaluation.splits}
    known = [
        _Networks(
            row,
            splits[row.division],
            tuple(configs[trial] for trial in row.trials),
            tuple(results[trial] for trial in row.trials),
        )
        for row in evaluation.rows
        if all(trial in configs and trial in results for trial in row.trials)
    ]
    return [
        entry
        for each in known
        for name in METHODS[paper]
        if (entry := _entry(paper, name, each)) is not None
    ]


@dataclass(frozen=True, slots=True)
class _Networks:
    """A row with what is known of its networks."""

    row: Row
    split: TestSplit
    configs: tuple[TrialConfig, ...]
    results: tuple[TrialResult, ...]


def _entry(paper: str, name: str, found: _Networks) -> Entry | None:
    """The row as the paper's network of that name; None where it is not that one."""
    row, split, configs, method = found.row, found.split, found.configs, METHODS[paper][name]
    level = _level(configs)
    streams = streams_of(name, (config.data.stream_name for config in configs))
    if (
        not all(method.is_built(config.model) for config in configs)
        or level is None
        or streams is None
        or (paper == "HPI-GCN" and level != DENSE)
    ):
        return None
    data = data_of(split)
    clips = TEST_CLIPS.get(data, split.test_clips)
    fewer = (f"{split.test_clips:,} of {clips:,} test clips",) if split.test_clips != clips else ()
    network = (text for config in configs for text in method.differences(config.model))
    masks = (text for config in configs for text in mask_differences(config.sparsity))
    chosen = (f"weights by {row.method}",) if (row.method or "mean") not in FIXED else ()
    return Entry(
        method=name,
        streams=streams,
        level=level,
        data=data,
        figures=_figures(paper, level, found),
        whose="ours",
        row=row.name,
        network=tuple(dict.fromkeys((*fewer, *network))),
        masks=tuple(dict.fromkeys((*masks, *chosen))),
        trained=frozenset((config.data.frames, config.train.epochs) for config in configs),
    )


def _level(configs: Sequence[TrialConfig]) -> str | None:
    """dense, a level of the papers, or assemble for all four of them; None for anything else, and
    where streams and levels are not each there once.
    """
    if any(config.sparsity.network != "single" for config in configs):
        return None
    names = [DENSE if config.sparsity.dense else label(config.sparsity.level) for config in configs]
    pairs = {(config.data.stream_name, name) for config, name in zip(configs, names, strict=True)}
    streams, levels = {stream for stream, _ in pairs}, set(names)
    if len(pairs) != len(configs) or len(pairs) != len(streams) * len(levels):
        return None
    if levels == set(LEVELS):
        return ASSEMBLED
    found = names[0] if len(levels) == 1 else None
    return found if found in (DENSE, *LEVELS) else None


def mask_differences(sparsity: SparsityConfig) -> tuple[str, ...]:
    """In what masks, or how they come about, are not those of the sparse ST-GCN paper."""
    if sparsity.dense:
        return ()
    published = SparsityConfig.model_validate({"level": sparsity.level})
    names = [name for name in SparsityConfig.model_fields if name not in ("level", "mask")]
    return _differences(sparsity, published, names)


def _differences(found: Any, published: Any, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(
        f"{name} {_said(getattr(found, name))} instead of {_said(getattr(published, name))}"
        for name in names
        if getattr(found, name) != getattr(published, name)
    )


def _said(value: Any) -> str:
    return "none" if value is None else label(value)


def _figures(paper: str, level: str, found: _Networks) -> dict[str, Figure]:
    """Accuracy, and sizes as the paper counts them: HPI-GCN's of the released inference form
    without adjacency matrices; the sparse study's of a dense training form, and of several levels
    the maskable weights that are left over those of one network.
    """
    size, test = found.row.size, found.row.test
    figures = {"top1": Figure(100 * test.top1, 100 * test.top1_error)}
    if size.batch64_latency_ms is not None:
        figures["latency_ms"] = Figure(size.batch64_latency_ms)
    costs = [result.cost for result in found.results]
    if paper == "HPI-GCN":
        figures["gmacs"] = Figure(sum(cost.released_leaf_gmacs for cost in costs))
        figures["params_m"] = Figure(sum(cost.released_leaf_params for cost in costs) / 1e6)
    elif level == DENSE:
        figures["params_m"] = Figure(sum(cost.params for cost in costs) / 1e6)
    elif level == ASSEMBLED:
        figures["kept"] = Figure(
            sum(1 - cost.removed_params / cost.maskable_params for cost in costs)
        )
    return figures
