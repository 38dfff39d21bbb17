"""Which model a text names: a trial, an ensemble, what a sweep ships, a folder or file made of one
of them, or a registered model. Looks at names and small records only, never at weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orchestrator.ensembling.results import FinalEvaluation, Row
from orchestrator.record.commands import command
from orchestrator.record.copies import local_storage, place_of, refresh
from orchestrator.record.folder import list_names
from orchestrator.record.resolved import FILE as SWEEP
from trainables.contract.addresses import is_address
from trainables.contract.artifacts import TrialDir
from trainables.contract.disk import read_json
from trainables.contract.errors import UserError
from trainables.contract.names import printable

BUNDLE = "bundle.json"
"""Names the content of a folder that a sweep ships, `model/` in a trial's or ensemble's folder."""
CONFIG = "config.json"
PUBLISHED = "orchestrate_model"
"""In the config.json of a published folder: the number of its form."""
EXPORTED = (".pt2", ".onnx", ".xml")
REGISTERED = "models:/"
MOST_LISTED = 12

Kind = Literal["trial", "ensemble", "bundle", "exported", "published", "registered"]


@dataclass(frozen=True, slots=True)
class FoundModel:
    """One model and where it lies.

    trial: `path` is its folder; ensemble: its folder in the sweep `run`, `row` says which networks
    it combines and how; bundle: a folder with a bundle.json; exported: a file; published: a folder;
    registered: an MLflow URI in `name`, nothing of it is here yet.
    """

    kind: Kind
    name: str
    path: Path | None = None
    run: Path | None = None  # the sweep's folder that it lies in
    row: Row | None = None  # what the final evaluation says of it; None: it is not evaluated

    @property
    def place(self) -> str:
        """How messages name it."""
        return self.name if self.path is None else str(self.path)


def find_model(text: str, storage: str = "runs") -> FoundModel:
    """The model that `text` names: `SWEEP/TRIAL`, `SWEEP/ENSEMBLE`, the name of a sweep in
    `storage` (what its final evaluation ships), the path of any of these, of a bundle, of a
    published folder or of an exported file, or `models:/NAME@ALIAS` or `models:/NAME/VERSION`.

    UserError says what there is instead.
    """
    if text.startswith(REGISTERED):
        if not _is_registered(text):
            raise UserError(f"{text}: must be models:/NAME@ALIAS or models:/NAME/VERSION")
        return FoundModel("registered", text)
    if is_address(storage):
        storage = str(_brought(storage, text))
    for path in (Path(storage) / text, Path(text)):
        if path.is_dir() and text:
            found = _of_folder(path)
            if found is not None:
                return found
    if Path(text).is_file():
        return _of_file(Path(text))
    sweep, _, part = text.rstrip("/").rpartition("/")
    for run in (Path(storage) / sweep, Path(sweep)):
        if sweep and (run / SWEEP).is_file():
            return _part_of_sweep(run, part, text)
    raise UserError(f"{text}: must be a model, {_what_there_is(storage)}{_why_not(Path(text))}")


def _brought(storage: str, text: str) -> Path:
    """The folder of copies in which the sweep of an address is that the text begins with."""
    folder = local_storage(storage)
    refresh(folder / text.partition("/")[0])
    return folder


def _is_registered(text: str) -> bool:
    name = text.removeprefix(REGISTERED)
    model, mark, version = name.partition("@") if "@" in name else name.partition("/")
    return bool(model.strip("/") and mark and version)


def _of_folder(path: Path) -> FoundModel | None:
    """What the folder is by the files in it; None where it is no model."""
    if (path / SWEEP).is_file():
        return _shipped(path)
    if (path / BUNDLE).is_file():
        # SWEEP/trials/TRIAL/model or SWEEP/ensembles/ENSEMBLE/model, or a copy of it anywhere
        around = path.absolute().parent
        run = _sweep_around(around)
        return FoundModel(
            "bundle",
            around.name if run else path.absolute().name,
            path,
            run,
            _row(run, around.name),
        )
    trial = TrialDir(path)
    if trial.result_file.is_file() and trial.config_file.is_file():
        run, name = _sweep_around(path.absolute()), path.absolute().name
        return FoundModel("trial", name, path, run, _row(run, name))
    if (path / "members.json").is_file() and (path / "weights.json").is_file():
        run = _sweep_around(path.absolute())
        if run is not None:
            return _part_of_sweep(run, path.absolute().name, str(path))
    if (path / CONFIG).is_file():
        config = read_json(path / CONFIG)
        if isinstance(config, dict) and PUBLISHED in config:
            return FoundModel("published", path.absolute().name, path)
    return None


def _of_file(path: Path) -> FoundModel:
    if path.suffix.lower() in EXPORTED:
        return FoundModel("exported", path.stem, path)
    if path.suffix == ".pt":
        raise UserError(
            f"{path}: must be a model that says what its classes and joints are; a deploy form"
            " alone does not, name the trial's folder"
        )
    raise UserError(f"{path}: must be an exported file ({', '.join(EXPORTED)}), or a folder")


def _sweep_around(path: Path) -> Path | None:
    """The sweep's folder that a trial's or ensemble's folder lies in, where it does."""
    run = path.parent.parent
    inside = path.parent.name in ("trials", "ensembles") and (run / SWEEP).is_file()
    return run if inside else None


def _row(run: Path | None, name: str) -> Row | None:
    evaluation = None if run is None else FinalEvaluation.load(run)
    return None if evaluation is None else _row_of(evaluation, name)


def _row_of(evaluation: FinalEvaluation, name: str) -> Row | None:
    """The row of the ensemble of that name, else of the network of the trial of that name, else of
    the network that reports call so.
    """
    ensembles = {row.name: row for row in evaluation.rows if row.kind == "ensemble"}
    networks = {row.trials[0]: row for row in evaluation.rows if row.kind == "member"}
    named = {row.name: row for row in evaluation.rows}
    return ensembles.get(name) or networks.get(name) or named.get(name)


def _shipped(run: Path) -> FoundModel:
    """What the sweep's shipping rule chose."""
    evaluation = FinalEvaluation.load(run)
    row = None if evaluation is None else evaluation.headline
    if row is None:
        raise UserError(
            f"{place_of(run)}: must have a final evaluation to say what it ships, which"
            f" {command('ensemble', run, '--partial')} makes; or name one of its trials,"
            f" {_listed(_finished(run))}"
        )
    return found_row(run, row)


def found_row(run: Path, row: Row) -> FoundModel:
    """A member or ensemble of the final evaluation of a sweep."""
    if row.kind == "ensemble":
        return FoundModel("ensemble", row.name, run / "ensembles" / row.name, run, row)
    trial = row.trials[0]
    return FoundModel("trial", trial, run / "trials" / trial, run, row)


def _part_of_sweep(run: Path, name: str, text: str) -> FoundModel:
    """The ensemble or trial of that name."""
    evaluation = FinalEvaluation.load(run)
    row = None if evaluation is None else _row_of(evaluation, name)
    if row is not None:
        return found_row(run, row)
    trial = run / "trials" / name
    if TrialDir(trial).result_file.is_file():
        return FoundModel("trial", name, trial, run)
    ensembles = [
        row.name for row in (evaluation.rows if evaluation else ()) if row.kind == "ensemble"
    ]
    state = "it has not finished; " if trial.is_dir() and name else ""
    raise UserError(
        f"{text}: must be an ensemble or a finished trial of {place_of(run)}, {state}there are"
        f" ensembles {_listed(ensembles)} and trials {_listed(_finished(run))}"
    )


def _finished(run: Path) -> list[str]:
    """Names of the trials that have a result."""
    return sorted(path.parent.name for path in (run / "trials").glob("*/result.json"))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return printable(", ".join(names[:MOST_LISTED]) + more) if names else "(none)"


def _what_there_is(storage: str) -> str:
    return (
        "a sweep, SWEEP/TRIAL, SWEEP/ENSEMBLE, a trial's, an ensemble's or a published folder, a"
        f" file ({', '.join(EXPORTED)}) or {REGISTERED}NAME@ALIAS; the sweeps in {storage}/ are"
        f" {_listed(list_names(storage))}"
    )


def _why_not(path: Path) -> str:
    if not path.is_dir():
        return ""
    if TrialDir(path).config_file.is_file():
        return f"; {path} is a trial that has not finished"
    return f"; {path} is a folder of something else"
