"""Evaluations of data sets that are not here: rows with the configurations of their networks."""

from __future__ import annotations

import math

import numpy as np

from orchestrator.ensembling.classes import Predictions
from orchestrator.ensembling.evaluate import Accuracy
from orchestrator.ensembling.members import Division
from orchestrator.ensembling.results import FinalEvaluation, Row, Size, TestSplit
from orchestrator.report.papers.published import TEST_CLIPS, Data
from tests.orchestrator import fake_run
from trainables.contract.config import SelectionConfig, TrialConfig

CLIPS = {"ntu60": ("NTU RGB+D 60", 60), "ntu120": ("NTU RGB+D 120", 120)}
WORDS = {"xsub": "X-sub", "xview": "X-view", "xset": "X-set"}


class MadeUp:
    """A sweep on one data set and protocol, one row after the other."""

    def __init__(self, dataset="ntu60", protocol="xsub", clips=None, classes=None):
        name, number = CLIPS.get(dataset, (dataset, 10))
        self.division = Division(
            store=f"data/{dataset}", protocol=protocol, selection=SelectionConfig()
        )
        self.clips = clips or TEST_CLIPS.get(Data(name, WORDS.get(protocol, "")), 464)
        self.dataset, self.classes = dataset, classes or number
        self.configs, self.results, self.rows, self.firsts = {}, {}, [], {}

    def network(self, backbone, top1, stream="joint", level=0.0, epochs=110, frames=64, **settings):
        """A member; returns its name. settings: of the model, or of the sparsity (sparsity=...)."""
        sparsity = {"level": level, **settings.pop("sparsity", {})}
        config = TrialConfig.model_validate(
            {
                "data": {
                    "store": self.division.store,
                    "protocol": self.division.protocol,
                    "stream": stream,
                    "frames": frames,
                },
                "model": {"backbone": backbone, **settings},
                "sparsity": sparsity,
                "train": {"epochs": epochs},
                "seed": len(self.configs),
            }
        )
        name = f"{backbone}-{stream}-{level:g}-{len(self.configs)}"
        self.configs[name] = config
        trial = fake_run.Trial(stream, level)
        trial.name = name
        self.results[name] = fake_run.result_of(trial)
        self._row(name, "member", (name,), top1, dense=config.sparsity.dense)
        return name

    def ensemble(self, name, members, top1, method="weights"):
        weights = dict.fromkeys(members, 1.0)
        self._row(name, "ensemble", tuple(members), top1, weights=weights, method=method)
        return name

    def _row(self, name, kind, trials, top1, *, dense=False, weights=None, method=None):
        right = round(top1 * self.clips)
        share = right / self.clips
        found = Accuracy(
            clips=self.clips,
            right=right,
            top1=share,
            top1_error=math.sqrt(share * (1 - share) / self.clips),
            top5=1.0,
            mean_class=share,
            cross_entropy=None,
        )
        size = Size(
            params=1000,
            nonzero_params=1000,
            deploy_params=500,
            deploy_nonzero_params=500,
            deploy_gmacs=1.0,
            latency_ms=1.0,
            batch64_latency_ms=20.0 * len(trials),
            latency_device="a cpu",
            latency_threads=1,
        )
        self.rows.append(
            Row(
                name=name,
                kind=kind,
                axes={},
                division=self.division,
                trials=trials,
                dense=dense,
                weights=weights or {},
                method=method,
                combine="probabilities" if weights else None,
                selection=found,
                test=found,
                clean=None,
                size=size,
                share_of_dense=1.0,
            )
        )
        self.firsts[name] = (np.arange(self.clips) >= right).astype(np.int64)

    @property
    def evaluation(self):
        split = TestSplit(
            division=self.division,
            dataset=self.dataset,
            classes=self.classes,
            selection_clips=100,
            test_clips=self.clips,
            clean_clips=self.clips,
        )
        return FinalEvaluation(
            inputs="",
            splits=(split,),
            rows=tuple(self.rows),
            comparisons=(),
            missing={},
            skipped={},
        )

    @property
    def predictions(self):
        """The first clips of every row are right, as many as its accuracy says; class 0."""
        ids = tuple(f"clip{number:06d}" for number in range(self.clips))
        labels = np.zeros(self.clips, dtype=np.int64)
        classes = tuple(map(str, range(self.classes)))
        return {self.division: Predictions(ids, labels, classes, self.firsts)}
