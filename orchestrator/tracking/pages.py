"""What MLflow's pages show of a sweep: a view with few charts and columns, descriptions with links.

Knows how MLflow's interface keeps such things, as tags of experiments and runs; imports no MLflow.
A version that knows no such tag shows its usual page.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from orchestrator.ensembling.results import FinalEvaluation, Row
from orchestrator.report.sections.words import with_error

PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
"""Tag of an experiment or a run whose text is shown as its description."""
WRITTEN = "described"
"""Tag of a run or a registered model: the digest of the description that we wrote."""
KIND = ("mlflow.experimentKind", "custom_model_development")
"""Tag of an experiment of trained models, and not of language models' traces."""
VIEW = "mlflow.sharedViewState."
"""Begins the tags of an experiment that keep views which are opened by an address."""
TRAINING = "workflowType=machine_learning"

SORTED_BY = "best/selection_top1"
COLUMNS = (
    "metrics.`best/selection_top1`",
    "metrics.`test_top1`",
    "metrics.`deploy_nonzero_params`",
    "metrics.`deploy_latency_ms`",
    "tags.`stream`",
    "tags.`sparsity`",
    "tags.`backbone`",
)
BEST, CURVES = "Which is best", "Learning curves"
CLOSED = ("best", "details", "level", "Model metrics", "System metrics")
"""Sections that MLflow makes itself, by what its names of metrics begin with."""


def view(parent: str) -> tuple[str, str]:
    """The tag of an experiment, and its value, that keeps the view of the sweep whose run is
    `parent`: its trials and ensembles, the best first, few columns, few charts; all others in
    closed sections.
    """
    charts = [
        _chart(BEST, "BAR", metricKey="test_top1"),
        _chart(BEST, "BAR", metricKey=SORTED_BY),
        _chart(BEST, "SCATTER", **_plane(_param("sparsity.level"), _metric("test_top1"))),
        _chart(BEST, "SCATTER", **_plane(_metric("deploy_nonzero_params"), _metric("test_top1"))),
        _chart(BEST, "SCATTER", **_plane(_metric("deploy_latency_ms"), _metric("test_top1"))),
        *(
            _chart(CURVES, "LINE", metricKey=key, selectedMetricKeys=[key], **LINES)
            for key in ("selection_top1", "train_loss")
        ),
    ]
    sections = [_section(name, shown=True) for name in (BEST, CURVES)]
    state = {
        "searchFilter": f"tags.`{PARENT}` = '{parent}'",
        "orderByKey": f"metrics.`{SORTED_BY}`",
        "orderByAsc": False,
        "selectedColumns": COLUMNS,
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunCharts": charts,
        "compareRunSections": [*sections, *(_section(name, shown=False) for name in CLOSED)],
        "isAccordionReordered": True,  # ours stand first
    }
    return f"{VIEW}{parent}", json.dumps(state, separators=(",", ":"))


LINES = {"lineSmoothness": 0, "scaleType": "linear", "xAxisKey": "step"}


def _chart(section: str, kind: str, **content: Any) -> dict[str, Any]:
    axes = [content.get(axis, {}).get("key", "") for axis in ("xaxis", "yaxis")]
    return {
        "uuid": "-".join([kind, str(content.get("metricKey", "")), *axes]),
        "type": kind,
        "metricSectionId": section,
        "deleted": False,
        "isGenerated": False,
        "runsCountToCompare": 50,
        **content,
    }


def _plane(x: Mapping[str, str], y: Mapping[str, str]) -> dict[str, Any]:
    return {"xaxis": x, "yaxis": y}


def _metric(key: str) -> dict[str, str]:
    return {"key": key, "type": "METRIC"}


def _param(key: str) -> dict[str, str]:
    return {"key": key, "type": "PARAM"}


def _section(name: str, *, shown: bool) -> dict[str, Any]:
    return {"uuid": name, "name": name, "display": shown, "isReordered": False, "deleted": False}


def view_page(experiment: str, parent: str, mode: str = "CHART") -> str:
    """Address of the view of a sweep, relative to the server's; mode: CHART or TABLE."""
    return (
        f"#/experiments/{experiment}/runs?viewStateShareKey={parent}&compareRunsMode={mode}"
        f"&{TRAINING}"
    )


def shown_by(page: str) -> str:
    """The run of the sweep whose view that is; empty where it is none, as of older versions."""
    found = re.search(r"viewStateShareKey=([0-9a-f]+)&", page)
    return found[1] if found else ""


def run_page(experiment: str, run: str, artifact: str = "") -> str:
    """Address of a run or of one of its artifacts, relative to the server's."""
    inside = f"/artifacts/{quote(artifact)}" if artifact else ""
    return f"#/experiments/{experiment}/runs/{run}{inside}?{TRAINING}"


def model_page(name: str) -> str:
    """Address of a registered model, relative to the server's."""
    return f"#/models/{quote(name)}?{TRAINING}"


def is_ours(note: str, tags: Mapping[str, str]) -> bool:
    """Whether nobody has written or changed a description since we did; tags: of what it is of."""
    return not note or tags.get(WRITTEN) == digest_of_note(note)


def digest_of_note(note: str) -> str:
    return hashlib.sha256(note.encode()).hexdigest()[:16]


EXPERIMENT_NOTE = (
    "Sweeps of `orchestrate`: the run of a sweep (tag `kind` = `sweep`) has the trials and"
    " ensembles under it, and links to its charts, its table and what it ships in its description."
)


def sweep_note(name: str, experiment: str, parent: str) -> str:
    """Description of a sweep's run in Markdown: where its trials are compared."""
    return _note(name, _comparisons(experiment, parent))


def ended_note(name: str, row: Row, model: str, experiment: str, parent: str) -> str:
    """The same of a sweep that has ended, with what it ships and where to look at that."""
    pages = {
        **_comparisons(experiment, parent),
        "registered model": model_page(model),
        "confusion matrix": run_page(experiment, parent, "report/figures/confusion.png"),
        "report": run_page(experiment, parent, "report/report.md"),
    }
    return f"{_note(name, pages)}\n\nIt ships {_code(row.name)}: {_scores(row)}."


def _comparisons(experiment: str, parent: str) -> dict[str, str]:
    return {
        "charts": view_page(experiment, parent),
        "table": view_page(experiment, parent, "TABLE"),
    }


def _note(name: str, pages: Mapping[str, str]) -> str:
    """All links in the first line: MLflow folds what is longer than a few."""
    links = " · ".join(f"[{title}]({address})" for title, address in pages.items())
    return f"**Sweep {_text(name)}**: {links}"


def _text(name: str) -> str:
    """A name in Markdown, nothing in which is a mark."""
    return re.sub(r"([\\`*_\[\]<>])", r"\\\1", name)


def _code(name: str) -> str:
    """A name as code in Markdown, between more backticks than it has itself."""
    if "`" not in name:
        return f"`{name}`"
    fence = "`" * (1 + max(map(len, re.findall("`+", name))))
    return f"{fence} {name} {fence}"


def model_note(row: Row, evaluation: FinalEvaluation, model: str) -> str:
    """Description of a registered model in Markdown."""
    split = next(split for split in evaluation.splits if split.division == row.division)
    networks = f"an ensemble of {len(row.trials)} networks" if len(row.trials) > 1 else "a network"
    size, timed = row.size, row.size.latency_ms
    address = json.dumps(f"models:/{model}@champion", ensure_ascii=False)
    latency = f" One clip takes {timed:.3g} ms ({size.timing})." if timed is not None else ""
    return (
        f"{_code(row.name)} is {networks} for {split.classes} classes of {_text(split.dataset)}"
        f" ({_text(split.division.protocol)}): {_scores(row)} of {split.test_clips:,} test clips."
        f" {size.deploy_nonzero_params:,} non-zero parameters ship.{latency}\n\n"
        "```python\n"
        f"model = mlflow.pyfunc.load_model({address})\n"
        "probabilities = model.predict(clips)  # (N, persons, T, joints, coordinates), float32\n"
        "```\n"
        "Clips are in the units and coordinates in which the data set was imported. They may be of"
        " any length; those of one call are equally long."
    )


def _scores(row: Row) -> str:
    interval = row.test.interval
    sure = f", 95 % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f}" if interval else ""
    return f"{with_error(row.test)} % right{sure}"
