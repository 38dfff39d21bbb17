"""The card of a shipped model: what it is, how good it is and on which clips, what it costs, what
it was trained on, how it is run. Made from the results alone.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator import __version__
from orchestrator.ensembling.evaluate import Accuracy
from orchestrator.ensembling.find_model import FoundModel
from orchestrator.ensembling.results import TIMED, FinalEvaluation, Row
from orchestrator.ensembling.statistics.intervals import interval
from trainables.contract.artifacts import TrialDir, TrialResult
from trainables.contract.config import TrialConfig
from trainables.contract.disk import digest_of
from trainables.data.readers.licences import licence_of
from trainables.data.store.description import Description, layout_of

if TYPE_CHECKING:
    from orchestrator.ensembling.bundle import Bundle

FILE = "README.md"
UNITS = {
    "xyz": "x, y, z in metres",
    "xyc": "x, y in pixels and the detector's confidence",
    "xy": "x, y in pixels",
}


@dataclass(frozen=True, slots=True)
class ShippedNetwork:
    """One network of the model."""

    trial: str
    config: TrialConfig
    result: TrialResult
    deploy_sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a card says, as values."""

    name: str
    sweep: str | None
    description: Description
    networks: tuple[ShippedNetwork, ...]
    recipe: Mapping[str, Any]  # as a bundle's
    row: Row | None  # None: there was no final evaluation
    evaluation: FinalEvaluation | None

    @property
    def is_ensemble(self) -> bool:
        return len(self.networks) > 1


def card_of(found: FoundModel, bundle: Bundle) -> ModelCard:
    """The card of a trial or an ensemble that lies in its sweep, or of a trial alone. UserError
    where a file is missing.
    """
    run = found.run
    networks = []
    for trial, file in bundle.files.items():
        folder = TrialDir(found.path if run is None and found.path else _folder(run, trial))
        networks.append(
            ShippedNetwork(
                trial, folder.load_config(), folder.load(), digest_of(file), file.stat().st_size
            )
        )
    evaluation = FinalEvaluation.load(run) if run is not None and found.row is not None else None
    return ModelCard(
        found.name,
        None if run is None else run.absolute().name,
        bundle.description,
        tuple(networks),
        bundle.recipe,
        found.row,
        evaluation,
    )


def _folder(run: Path | None, trial: str) -> Path:
    assert run is not None
    return run / "trials" / trial


def as_markdown(card: ModelCard, usage: Sequence[str]) -> str:
    """The card with the metadata that model hubs read. usage: lines that show how it is run."""
    parts = [
        *_metadata(card),
        f"# {text_of(card.name)}",
        "",
        _summary(card),
        "",
        *_section("How good it is", _accuracy(card)),
        *_section("What it takes", _inputs(card)),
        *_section("What it costs", _costs(card)),
        *_section("Its networks", _networks(card)),
        *_section("What it was trained on", _data(card)),
        *_section("How to run it", usage),
        *_section("What to keep in mind", _limits(card)),
    ]
    return "\n".join(parts) + "\n"


def text_of(name: object) -> str:
    """A foreign name as Markdown that shows it: nothing in it is a mark or an element of a page."""
    return re.sub(r"([\\`*\[\]|])", r"\\\1", html.escape(str(name), quote=False))


def _section(title: str, lines: Sequence[str] | Iterator[str]) -> list[str]:
    return [f"## {title}", "", *lines, ""]


def _metadata(card: ModelCard) -> Iterator[str]:
    """The YAML that hubs read: tags, metrics and the results of the test clips."""
    import yaml

    backbones = dict.fromkeys(network.config.model.backbone for network in card.networks)
    sparse = any(network.result.level > 0 for network in card.networks)
    tags = ["skeleton-based-action-recognition", *backbones, *(["sparse"] if sparse else [])]
    content: dict[str, Any] = {
        "license": "unknown",
        "library_name": "pytorch",
        "tags": [*tags, *(["ensemble"] if card.is_ensemble else [])],
        "datasets": [card.description.name],
        "metrics": ["accuracy"],
    }
    if card.row is not None:
        division = card.row.division
        metrics = [{"type": "accuracy", "name": "top-1", "value": card.row.test.top1}]
        metrics.append({"type": "accuracy", "name": "top-5", "value": card.row.test.top5})
        result = {
            "task": {
                "type": "skeleton-action-recognition",
                "name": "Skeleton-based action recognition",
            },
            "dataset": {
                "type": card.description.name,
                "name": card.description.name,
                "config": division.protocol,
                "split": "test",
            },
            "metrics": metrics,
        }
        content["model-index"] = [{"name": card.name, "results": [result]}]
    yield "---"
    yield yaml.safe_dump(content, sort_keys=False, allow_unicode=True).rstrip()
    yield "---"
    yield ""


def _summary(card: ModelCard) -> str:
    count = len(card.networks)
    what = f"An ensemble of {count} networks" if card.is_ensemble else "A network"
    source = f", made by the sweep {text_of(card.sweep)}" if card.sweep else ""
    classes = len(card.description.classes)
    return (
        f"{what} that tell{'' if card.is_ensemble else 's'} {classes} classes of action apart from"
        f" the joints of a body{source}. The data set is {text_of(card.description.name)}."
    )


def _accuracy(card: ModelCard) -> Iterator[str]:
    row = card.row
    yield "| clips | number | top-1 % | 95 % interval | top-5 % | mean of classes % |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: |"
    if row is None:
        result = card.networks[0].result
        if result.selection_top1 is not None:
            top5 = "" if result.selection_top5 is None else f"{100 * result.selection_top5:.1f}"
            yield (
                f"| selection split | {result.selection_clips} | {100 * result.selection_top1:.1f}"
                f" | | {top5} | |"
            )
        yield ""
        yield "It has not been evaluated on test clips."
        return
    sealed = row.division.held_out  # on clips that it was chosen on an interval would say too much
    yield _row(f"test clips of protocol {text_of(row.division.protocol)}", row.test, sure=sealed)
    if row.clean is not None:
        clean = "test clips without a copy among training or selection clips"
        yield _row(clean, row.clean, sure=sealed)
    if row.selection is not None:
        yield _row("selection split, on which it was chosen", row.selection, sure=False)
    yield ""
    if row.division.held_out:
        yield (
            "Networks, epochs and weights were chosen on the selection split; the labels of the"
            " test clips are read by evaluations and choose nothing. The interval is Wilson's, of"
            " top-1."
        )
    else:
        yield (
            "Nothing was held out of training to choose on (paper protocol), so whatever was chosen"
            " was chosen on the test clips: these figures lean upwards."
        )
    if row.calibration is not None:
        yield (
            f"Its probabilities are off by {100 * row.calibration.ece:.1f} points on average"
            " (expected calibration error)."
        )


def _row(what: str, found: Accuracy, *, sure: bool) -> str:
    low, high = found.interval or interval(found.right, found.clips)
    between = f"{100 * low:.1f} to {100 * high:.1f}" if sure else ""
    return (
        f"| {what} | {found.clips:,} | {100 * found.top1:.1f} | {between} | {100 * found.top5:.1f}"
        f" | {100 * found.mean_class:.1f} |"
    )


def _inputs(card: ModelCard) -> Iterator[str]:
    about = card.description
    layout = layout_of(about.layout)
    yield (
        "Raw clips (N, C, T, V, M): N clips, C coordinates, any number T of frames, V joints, up to"
        f" {about.persons} person{'s' * (about.persons > 1)} M; persons who are not there are zero"
        " and come last."
    )
    yield ""
    yield f"- coordinates: {UNITS[about.channels]}"
    joints = ", ".join(map(text_of, layout.joints))
    yield f"- joints of layout {text_of(layout.name)}, in this order: {joints}"
    named = "; ".join(f"{k} {text_of(name)}" for k, name in enumerate(about.classes))
    yield f"- classes: {named}"


def _costs(card: ModelCard) -> Iterator[str]:
    costs = [network.result.cost for network in card.networks]
    size = card.row.size if card.row is not None else None
    yield "| | |"
    yield "| --- | ---: |"
    yield f"| parameters shipped | {sum(cost.deploy_params for cost in costs):,} |"
    yield f"| of these not zero | {sum(cost.deploy_nonzero_params for cost in costs):,} |"
    yield f"| bytes of the deploy forms | {sum(one.bytes for one in card.networks):,} |"
    yield f"| 1e9 multiply-accumulates of a clip | {sum(cost.deploy_gmacs for cost in costs):.4g} |"
    latencies = [cost.deploy_latency_ms for cost in costs]
    known = [each for each in latencies if each is not None]
    if len(known) == len(latencies):
        total = size.latency_ms if size and size.latency_ms is not None else sum(known)
        yield f"| milliseconds for one clip | {total:.2f} |"
        batch = [cost.deploy_batch64_latency_ms for cost in costs]
        if all(each is not None for each in batch):
            yield f"| milliseconds for 64 clips | {sum(each or 0.0 for each in batch):.1f} |"
        devices = dict.fromkeys(
            f"{cost.latency_device}, {cost.latency_threads} thread(s),"
            f" {TIMED.get(cost.latency_measured or '', 'measured in each trial')}"
            for cost in costs
        )
        yield ""
        yield f"Times: {'; '.join(devices)}; the networks run one after the other."


def _networks(card: ModelCard) -> Iterator[str]:
    yield "| trial | backbone | stream | frames | level | epochs | SHA-256 of the deploy form |"
    yield "| --- | --- | --- | ---: | ---: | ---: | --- |"
    for one in card.networks:
        yield (
            f"| {one.trial} | {text_of(one.config.model.backbone)}"
            f" | {text_of(one.config.data.stream_name)} | {one.config.data.frames}"
            f" | {one.result.level:.3g} | {one.result.epochs} | `{one.deploy_sha256}` |"
        )
    yield ""
    yield "The level is the share of its maskable weights that a network does without."
    if card.row is not None and card.is_ensemble:
        weights = ", ".join(
            f"{text_of(name)} {weight:g}" for name, weight in card.row.weights.items()
        )
        how = f" by the method {text_of(card.row.method)}" if card.row.method else ""
        yield f"Their {card.row.combine or 'logits'} are combined{how}, with weights: {weights}."


def _data(card: ModelCard) -> Iterator[str]:
    about, first = card.description, card.networks[0]
    data = first.config.data
    yield f"- data set: {text_of(about.name)}, protocol {text_of(data.protocol)}"
    selection = data.selection
    yield (
        "- selection split: none, everything that is not tested on was trained on"
        if selection.kind == "none"
        else f"- selection split: by {selection.kind}, fraction {selection.fraction:g}, seed"
        f" {selection.seed}"
    )
    yield f"- terms of the data: {text_of(licence_of(about.provenance))}"
    if citation := about.provenance.get("citation"):
        yield f"- cite: {text_of(citation)}"
    for name, digest in sorted(first.result.store_checksums.items()):
        yield f"- SHA-256 of the store's {name}: `{digest}`"
    if card.evaluation is not None:
        for store, digest in sorted(card.evaluation.stores.items()):
            name = text_of(Path(store).name)
            yield f"- digest of the store that was tested on ({name}): `{digest}`"


def _limits(card: ModelCard) -> Iterator[str]:
    yield (
        f"- It knows the {len(card.description.classes)} classes above and no others: of a clip of"
        " anything else it names one of them all the same."
    )
    yield (
        "- Its accuracy holds for bodies recorded and tracked as those it was tested on; other"
        " cameras, other trackers and other people may lower it."
    )
    terms = text_of(licence_of(card.description.provenance))
    yield f"- Weights are made from the data; its terms ({terms}) may bind who uses them."
    yield f"- This card was made with orchestrate {__version__}{_torch()}."


def _torch() -> str:
    try:
        return f" and torch {version('torch')}"
    except PackageNotFoundError:
        return ""
