"""Everything that can be known to be wrong with a sweep before a trial starts: the file, its
trials, its data. Starts nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from orchestrator.planning.stopping import check_stopping
from orchestrator.record.warm_start import check_warm_start
from orchestrator.sweep import FaultySweep, Sweep, load_sweep
from orchestrator.sweep.document import Path as Place
from orchestrator.sweep.document import show
from orchestrator.sweep.problems import nearest, one_of
from orchestrator.sweep.searches import SEARCHES
from orchestrator.sweep.secrets import expanded
from orchestrator.trials.space import all_trials, check_space
from trainables.contract.addresses import check_storage, is_address
from trainables.contract.artifacts import TrialDir
from trainables.contract.config import TrialConfig
from trainables.contract.errors import TrialFailed, UserError
from trainables.contract.secrets import redacted
from trainables.contract.sparsity import FROM_THE_SWEEP, run_of

if TYPE_CHECKING:
    from trainables.data.store.reading import Store
    from trainables.layouts import Layout


def checked_sweep(path: Path | str, overrides: Sequence[str] = (), *, data: bool = True) -> Sweep:
    """The sweep of a file, its trials and, with `data`, its store found good; UserError lists every
    problem: of the file and of the store and protocol that it names, or, where there is none, of
    how its trials, data and folders fit together.
    """
    try:
        sweep = load_sweep(path, overrides)
    except FaultySweep as error:
        if not data or error.store is None:
            raise
        raise error.beside(_of_named_data(error.store, error.protocol)) from error
    check_sweep(sweep, data=data)
    return sweep


def check_sweep(sweep: Sweep, *, data: bool = True) -> None:
    """UserError lists everything that is wrong with the sweep, see `checked_sweep`."""
    if unusable := _check_storage(sweep):  # what the sweep's folder says cannot be asked
        raise UserError.of(unusable)
    problems = check_space(sweep) + _check_dense(sweep) + _check_tracking(sweep)
    problems += _check_dense_of_asked(sweep) + check_warm_start(sweep)
    problems += check_early(sweep)
    problems += check_data(sweep) + check_folders(sweep) if data else _check_graphs(sweep, None)
    if problems:
        raise UserError.of(dict.fromkeys(problems))


def check_early(sweep: Sweep) -> list[str]:
    """Comparisons of trials that the sweep's early stopping could not make."""
    if sweep.early_terminate.type == "none":
        return []
    try:
        trials = all_trials(sweep)
    except UserError:
        return []  # reported as a problem of the space
    return check_stopping(sweep, trials)


def _check_tracking(sweep: Sweep) -> list[str]:
    """Variables of `tracking.uri` that are not set, or an address at which MLflow has no store."""
    place = sweep.problem(("tracking", "uri"), "").removesuffix(": ")
    try:
        address = expanded(sweep.tracking.uri, place)
    except UserError as error:
        return list(error.problems)
    problem = store_problem(address)
    return [] if problem is None else [sweep.problem(("tracking", "uri"), problem)]


STORES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")
"""Schemes of addresses at which MLflow has stores."""
DATABRICKS = ("databricks", "databricks-uc", "uc")


def store_problem(address: str) -> str | None:
    """Why MLflow has no store at such an address, None where it may have one: a scheme that neither
    it nor an installed plugin of it knows, a folder, a server without a host.
    """
    scheme, colon, rest = address.partition(":")
    kind, shown = scheme.partition("+")[0] if colon else "file", redacted(address)
    others = {entry.name for entry in entry_points(group="mlflow.tracking_store")} | {*DATABRICKS}
    if os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in ("true", "1"):
        others.add("file")  # which MLflow refuses else
    if kind not in {*STORES, *others} and scheme not in {"none", *others}:
        return (
            "must be none, https://HOST of an MLflow server, sqlite:///FILE, or a database's"
            f" postgresql://, mysql:// or mssql://, got '{shown}'{nearest(kind, STORES)}"
        )
    if kind in ("http", "https") and urlsplit(address).hostname is None:
        return f"must name a host, got '{shown}'"
    if kind == "sqlite" and not rest.startswith("///"):
        return f"must have three slashes before the path of its file, got '{shown}'"
    return None


def _check_storage(sweep: Sweep) -> list[str]:
    """An address for `storage` that cannot be one."""
    problem = check_storage(sweep.storage) if is_address(sweep.storage) else None
    return [] if problem is None else [sweep.problem(("storage",), problem)]


def check_data(sweep: Sweep) -> list[str]:
    """What is wrong with the sweep's data: the store, the protocol, the layout, the split.

    Empty if trials can start.
    """
    from trainables.data.store.cache import open_outline

    try:
        store = open_outline(sweep.data.store)
    except UserError as error:
        return [_problem(sweep, "data.store", text) for text in error.problems]
    problems = (
        _check_layout(sweep, store)
        + _check_graphs(sweep, store.layout)
        + _check_settings(sweep, store)
    )
    unknown = _unknown_protocol(store, sweep.data.store, sweep.data.protocol)
    if unknown is not None:
        return [*problems, _problem(sweep, "data.protocol", unknown)]
    try:
        store.split(sweep.data.protocol, sweep.data.selection)
    except UserError as error:
        problems += [_problem(sweep, "data.selection", text) for text in error.problems]
    return problems or _check_mask_files(sweep, store)


def _of_named_data(name: str, protocol: str | None) -> dict[str, Sequence[str]]:
    """What is wrong with the store and the protocol of a sweep file that has other problems."""
    from trainables.data.store.cache import open_outline

    try:
        store = open_outline(name)
    except UserError as error:
        return {"data.store": error.problems}
    unknown = None if protocol is None else _unknown_protocol(store, name, protocol)
    return {} if unknown is None else {"data.protocol": [unknown]}


def _unknown_protocol(store: Store, name: str, protocol: str) -> str | None:
    """The rule that a protocol breaks which the store of that name does not have."""
    known = list(store.info.protocols)
    if protocol in known:
        return None
    return f"{one_of(known)} in {name}, got '{protocol}'{nearest(protocol, known)}"


def _check_mask_files(sweep: Sweep, store: Store) -> list[str]:
    """Files of masks that do not fit the networks they are for: each network is built once, which
    takes a second. Only for such files.
    """
    configs = [
        config
        for config in _configs(sweep)
        if config.sparsity.card.from_file and not config.sparsity.dense
    ]
    if not configs:
        return []
    from trainables.network import check_mask_file

    problems: list[str] = []
    for config in {
        config.model_copy(update={"seed": 0}).digest(): config for config in configs
    }.values():
        try:
            check_mask_file(config, store, Path())
        except (UserError, TrialFailed) as error:
            problems += str(error).splitlines()
    return [
        _problem(sweep, "sparsity.mask", text.removeprefix("sparsity.mask: "))
        for text in dict.fromkeys(problems)
    ]


def check_folders(sweep: Sweep) -> list[str]:
    """Folders in `sparsity.from` that hold no finished trial.

    MLflow runs are looked up by `orchestrator.tracking.mlflow`.
    """
    return [
        _problem(
            sweep,
            "sparsity.from",
            f"must be the folder of a finished trial, mlflow:RUN or dense, got '{source}',"
            f" {reason}",
        )
        for source in sources_of(sweep)
        if source != FROM_THE_SWEEP
        and run_of(source) is None
        and (reason := _unfinished(Path(source)))
    ]


def sources_of(sweep: Sweep) -> list[str]:
    """What the sweep's trials say in `sparsity.from`, each once."""
    if sweep.sparsity.source is None and "sparsity.from" not in sweep.parameters:
        return []
    return list(
        dict.fromkeys(
            config.sparsity.source
            for config in _configs(sweep)
            if config.sparsity.source is not None
        )
    )


def runs_of(sweep: Sweep) -> list[str]:
    """Those that name MLflow runs."""
    return [source for source in sources_of(sweep) if run_of(source) is not None]


def _unfinished(folder: Path) -> str:
    """Why the folder cannot be that of a finished trial; empty if it can."""
    if not folder.is_dir():
        return "which is not there"
    trial = TrialDir(folder)
    if not trial.is_complete():
        return "which holds no readable result.json"
    if not trial.config_file.is_file() or trial.kept_file.is_file():
        return ""
    return f"whose weights are gone: {trial.kept_file.relative_to(folder)} is not there"


def _check_dense(sweep: Sweep) -> list[str]:
    """Trials that start from the dense trial of the sweep where there is none, each rule once."""
    if FROM_THE_SWEEP not in sources_of(sweep):
        return []
    everything = all_trials(sweep)
    if not any(trial.config.sparsity.dense for trial in everything):
        rule = (
            f"'{FROM_THE_SWEEP}' needs a trial of level 0 to start from: add 0 to the values of"
            " sparsity.level"
        )
        return [_problem(sweep, "sparsity.from", rule)]
    first_seed = (trial for trial in everything if trial.config.seed == sweep.seed)
    lonely = [
        trial.proposal
        for trial in first_seed
        if trial.config.sparsity.source == FROM_THE_SWEEP and not trial.proposal.after
    ]
    if not lonely:
        return []
    given = ", ".join(
        f"{name}={show(value)}"
        for name, value in lonely[0].assignment.items()
        if not name.startswith("sparsity.")
    )
    rule = (
        f"'{FROM_THE_SWEEP}' needs a trial of level 0 of the same model and data, and there is none"
        f" for {len(lonely)} assignments"
    )
    return [
        _problem(
            sweep,
            "sparsity.from",
            f"{rule}, such as {given or lonely[0].trial} (cell {lonely[0].cell})",
        )
    ]


def _check_dense_of_asked(sweep: Sweep) -> list[str]:
    """Trials that are made one by one and start from a dense one of which nobody knows whether it
    will be made.
    """
    if not SEARCHES.find(sweep.method.name).asked or FROM_THE_SWEEP not in sources_of(sweep):
        return []
    within = [name for name in sweep.searched if name.startswith(("model.", "data."))]
    if "sparsity.level" in sweep.searched:
        within.append("sparsity.level")
    rule = (
        f"must be a cell axis (axis: cell) where sparsity.from is {FROM_THE_SWEEP} and method"
        f" {sweep.method.name} makes trials one by one: no dense trial need have its value"
    )
    return [_problem(sweep, name, rule) for name in within]


def _check_layout(sweep: Sweep, store: Store) -> list[str]:
    parameter = sweep.parameters.get("model.layout")
    asked = [str(value) for value in parameter.values] if parameter else [sweep.model.layout]
    stored = store.layout.name
    wrong = [name for name in asked if name not in ("auto", stored)]
    return [
        _problem(
            sweep,
            "model.layout",
            f"must be auto or {stored}, the layout of {sweep.data.store}, got '{name}'",
        )
        for name in wrong
    ]


def _check_graphs(sweep: Sweep, layout: Layout | None) -> list[str]:
    """Joints that a model names and the skeleton lacks, each once; without the store's layout, of
    the built-in one a model names.
    """
    if sweep.model.centre == "root" and "model.centre" not in sweep.parameters:
        return []
    from trainables.graphs import graph_parents
    from trainables.layouts import LAYOUTS

    rules: list[str] = []
    for config in _configs(sweep):
        skeleton = layout or LAYOUTS.get(config.model.layout)
        try:
            if skeleton is not None:
                graph_parents(config.model, skeleton)
        except UserError as error:
            rules += [text.removeprefix("model.centre ") for text in error.problems]
    return [_problem(sweep, "model.centre", rule) for rule in dict.fromkeys(rules)]


def _configs(sweep: Sweep) -> list[TrialConfig]:
    """Of all trials; none where they cannot be built, which is
    reported as a problem of the space.
    """
    try:
        return [trial.config for trial in all_trials(sweep)]
    except UserError:
        return []


def _check_settings(sweep: Sweep, store: Store) -> list[str]:
    """Leaves of `data` that could not act on the store, each value once."""
    from trainables.data.batches.settings import PIPELINE_LEAVES, in_vain

    searched = not sweep.parameters.keys().isdisjoint(f"data.{name}" for name in PIPELINE_LEAVES)
    configs = [config.data for config in _configs(sweep)] if searched else [sweep.data]
    problems = [problem for data in configs for problem in in_vain(data, store.info, store.layout)]
    return [_problem(sweep, leaf, rule) for leaf, rule in dict.fromkeys(problems)]


def _problem(sweep: Sweep, leaf: str, rule: str) -> str:
    place: Place = sweep.place_of_leaf(leaf)
    return sweep.problem(place, rule)
