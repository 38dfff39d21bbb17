"""The story of one import: a foreign checkpoint becomes weights, a deploy form and scores of ours.

Knows no particular code base.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from torch import Tensor

from trainables.contract.config import DataConfig, SelectionConfig, TrialConfig
from trainables.contract.errors import UserError, in_words
from trainables.contract.model import option_used
from trainables.contract.scores import Scores
from trainables.cost.measured import parameter_count
from trainables.data.readers.layout_file import find_layout
from trainables.data.store.cache import open_store
from trainables.data.store.reading import Store
from trainables.deploy.form import DeployForm, deploy, folded, save_deploy
from trainables.deploy.predict import score_store
from trainables.deploy.weights import save_weights
from trainables.foreign.checkpoint import Imported, import_tensors
from trainables.foreign.family import Said
from trainables.foreign.state_file import read_tensors
from trainables.layouts import Layout
from trainables.models.backbone import NetworkSpec
from trainables.models.build import Backbone

Part = Literal["test", "train"]


@dataclass(frozen=True)
class Scoring:
    """Which clips an imported network is scored on, and how they are seen."""

    file: Path  # of the score table
    store: str  # folder or URI
    protocol: str
    part: Part = "test"  # train: everything that is not tested on
    stream: str = "joint"


@dataclass(frozen=True)
class Outputs:
    """Files to write; none is written unless all can be made."""

    weights: Path | None = None  # training form
    deploy: Path | None = None
    scoring: Scoring | None = None
    frames: int | None = None  # T of the clips to come; 64 for scores
    force: bool = False  # replace files that are there already

    @property
    def files(self) -> dict[str, Path]:
        """Files by what they hold."""
        asked = {
            "weights": self.weights,
            "deploy form": self.deploy,
            "scores": self.scoring.file if self.scoring else None,
        }
        return {name: path for name, path in asked.items() if path is not None}


@dataclass(frozen=True)
class Report:
    """What was found in a checkpoint and what became of it."""

    checkpoint: str
    source: str  # the code it comes from
    form: Literal["training form", "deploy form"]
    backbone: str
    model: dict[str, Any]  # options that the network has
    layout: str
    classes: int
    persons: int
    tensors: int
    matched: int
    unused: dict[str, str]  # their tensors -> why they are not needed
    constructed: tuple[str, ...]  # our tensors that such a checkpoint does not hold
    assumed: tuple[str, ...]  # what changes results and was neither in the file nor said
    params: int | None  # training form; None where the checkpoint is a deploy form
    deploy_params: int
    folded: str  # what the deploy form folds and keeps; empty where the checkpoint is a deploy form
    scored_clips: int | None
    written: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """The report as plain JSON."""
        return asdict(self)


def import_checkpoint(
    checkpoint: Path,
    backbone: str,
    said: Said | None = None,
    *,
    outputs: Outputs | None = None,
    note: Callable[[str], None] = lambda _text: None,
) -> Report:
    """Read, match and fill; then write what `outputs` asks for, in float32.

    said: what the tensors do not show. Every UserError names the file.
    """
    said, outputs = said or Said(), outputs or Outputs()
    _check_targets(outputs, checkpoint)
    store = open_store(outputs.scoring.store) if outputs.scoring else None
    if store is not None and said.layout is not None and find_layout(said.layout) != store.layout:
        raise UserError(
            f"--layout: must be the store's layout {store.layout.name} or left out, got"
            f" {said.layout}"
        )
    skeleton = store.layout if store is not None else find_layout(said.layout or "ntu25")
    theirs = read_tensors(checkpoint)
    imported = _imported(checkpoint, theirs, backbone, skeleton, _beside(said, store))
    network = imported.network.float()
    if said.persons is not None and network.spec.persons != said.persons:
        raise UserError(
            f"--persons: {checkpoint} is of networks for {network.spec.persons}, got {said.persons}"
        )
    form = _deploy_form(network, outputs.frames)
    if outputs.weights is not None and isinstance(network, DeployForm):
        raise UserError(
            f"--out: {checkpoint} is a deploy form already, which has no training form; use"
            " --deploy"
        )
    scores = (
        _scores(form, store, outputs.scoring, outputs.frames or 64, note)
        if store is not None and outputs.scoring is not None
        else None
    )
    _write(outputs, network, form.cpu(), scores)
    return _report(_Source(checkpoint, len(theirs), skeleton.name), imported, form, scores, outputs)


def _beside(said: Said, store: Store | None) -> Said:
    """With the store's number of persons, where none is said."""
    if store is None or said.persons is not None:
        return said
    return replace(said, persons=store.info.persons)


def _imported(
    checkpoint: Path, theirs: dict[str, Tensor], backbone: str, layout: Layout, said: Said
) -> Imported:
    """The filled network; UserError names the file in every line."""
    try:
        return import_tensors(
            theirs,
            backbone,
            layout,
            persons=said.persons,
            options=dict(said.options),
            level=said.level,
        )
    except UserError as error:
        raise UserError.of(f"{checkpoint}: {problem}" for problem in error.problems) from error


def _check_targets(outputs: Outputs, checkpoint: Path) -> None:
    """UserError where a file may not be written; cheap, so that it is known before anything is
    read.
    """
    paths = list(outputs.files.values())
    problems = [
        f"{path}: must not be the checkpoint itself" for path in paths if _same(path, checkpoint)
    ]
    problems += [
        f"{path}: there is a file already; --force replaces it"
        for path in paths
        if path.is_file() and not outputs.force and not _same(path, checkpoint)
    ]
    problems += [f"{path}: must be a file, but it is a folder" for path in paths if path.is_dir()]
    problems += [f"{path}: its folder does not exist" for path in paths if not path.parent.is_dir()]
    if len({path.absolute() for path in paths}) < len(paths):
        problems.append(f"{', '.join(map(str, paths))}: must be different files")
    if problems:
        raise UserError.of(problems)


def _same(path: Path, other: Path) -> bool:
    """Whether writing one would replace the other, links followed."""
    return path.resolve() == other.resolve() or (
        path.exists() and other.exists() and path.samefile(other)
    )


def _deploy_form(network: Backbone | DeployForm, frames: int | None) -> DeployForm:
    if isinstance(network, Backbone):
        return deploy(network, frames=frames)
    if frames is not None:
        network.expect(frames)
    return network


def _scores(
    form: DeployForm, store: Store, scoring: Scoring, frames: int, note: Callable[[str], None]
) -> Scores:
    """Of the part of the protocol, through the batches that trials are scored with; UserError where
    network and store do not fit.
    """
    data = _data(form.spec, store, scoring, frames)
    for name, own, theirs in (
        ("persons", form.spec.persons, store.info.persons),
        ("classes", form.spec.classes, len(store.info.classes)),
    ):
        if own != theirs:
            raise UserError(
                f"--store: must be of clips with {own} {name}, as the checkpoint's network is, got"
                f" {theirs} in {store.path}"
            )
    split = store.split(data.protocol, data.selection)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clips = split.test if scoring.part == "test" else split.train
    note(f"scoring   {len(clips)} clips on {device.type}")
    return score_store(form, store, clips, data, device)


def _data(spec: NetworkSpec, store: Store, scoring: Scoring, frames: int) -> DataConfig:
    """What a trial of this network would say of its data; UserError where it could not."""
    if scoring.protocol not in store.info.protocols:
        raise UserError(
            f"--protocol: must be one of {', '.join(store.info.protocols)} in {store.path}, got"
            f" '{scoring.protocol}'"
        )
    data = {
        "store": str(store.path),
        "protocol": scoring.protocol,
        "selection": SelectionConfig(kind="none"),
        "stream": scoring.stream,
    }
    try:
        return TrialConfig.model_validate(
            {"data": {**data, "frames": frames}, "model": spec.model}
        ).data
    except ValidationError as error:
        raise UserError.of(
            _problem(str(item["loc"][-1]) if item["loc"] else "", item["msg"])
            for item in error.errors()
        ) from error


def _problem(field: str, message: str) -> str:
    rule = in_words(message)
    return f"--{field}: {rule}" if field in ("stream", "frames") else rule


def _write(
    outputs: Outputs, network: Backbone | DeployForm, form: DeployForm, scores: Scores | None
) -> None:
    """All files or, if one cannot be written, none of those that were not there before."""
    steps: list[tuple[Path, Callable[[Path], object]]] = []
    if outputs.weights is not None and isinstance(network, Backbone):
        training = network
        steps.append((outputs.weights, lambda path: save_weights(training, path)))
    if outputs.deploy is not None:
        steps.append((outputs.deploy, lambda path: save_deploy(form, path)))
    if outputs.scoring is not None and scores is not None:
        steps.append((outputs.scoring.file, scores.save))
    made: list[Path] = []
    try:
        for path, write in steps:
            made += [] if path.exists() else [path]
            write(path)
    except OSError as error:
        for path in made:
            path.unlink(missing_ok=True)
        raise UserError(f"{error.filename or path}: cannot be written: {error.strerror}") from error


@dataclass(frozen=True, slots=True)
class _Source:
    """What was imported: a file, how many tensors it holds, and the skeleton they are for."""

    checkpoint: Path
    tensors: int
    layout: str


def _report(
    source: _Source,
    imported: Imported,
    form: DeployForm,
    scores: Scores | None,
    outputs: Outputs,
) -> Report:
    spec, training = imported.network.spec, isinstance(imported.network, Backbone)
    name, temporal = spec.model.backbone, spec.model.temporal
    used = {
        option: value
        for option, value in spec.model.model_dump(mode="json").items()
        if option_used(option, name, temporal)
    }
    return Report(
        checkpoint=str(source.checkpoint),
        source=imported.source,
        form="training form" if training else "deploy form",
        backbone=name,
        model=used,
        layout=source.layout,
        classes=spec.classes,
        persons=spec.persons,
        tensors=source.tensors,
        matched=imported.matched,
        unused=imported.unused,
        constructed=imported.constructed,
        assumed=imported.assumed,
        params=parameter_count(imported.network) if training else None,
        deploy_params=parameter_count(form),
        folded=folded(imported.network, form) if isinstance(imported.network, Backbone) else "",
        scored_clips=None if scores is None else len(scores.ids),
        written={name: str(path) for name, path in outputs.files.items()},
    )
