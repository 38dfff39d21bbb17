"""The command `orchestrate`: a few lines per command, imports inside, so that --help loads nothing
heavy.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator import __version__
from orchestrator.cli.commands.cleaning import clean
from orchestrator.cli.commands.data import data_app
from orchestrator.cli.commands.ensembles import ensemble, show_evaluation, what_if
from orchestrator.cli.commands.examining import doctor
from orchestrator.cli.commands.launching import launch_app
from orchestrator.cli.commands.networks import COMMANDS
from orchestrator.cli.commands.options import Json, PlainGroup, Storage
from orchestrator.cli.commands.parts import check_app
from orchestrator.cli.commands.plotting import plot
from orchestrator.cli.commands.predicting import COMMANDS as PREDICTING
from orchestrator.cli.commands.reporting import report
from orchestrator.cli.commands.simulation import curves, simulate
from orchestrator.cli.commands.status import status
from orchestrator.cli.printing.output import standard_output
from trainables.contract.errors import OrchestrateError, UserError
from trainables.contract.names import printable

if TYPE_CHECKING:
    from orchestrator.conduct import Outcome, Start
    from orchestrator.sweep import Sweep

app = typer.Typer(
    cls=PlainGroup,
    help="Sweeps of skeleton-action networks: from one YAML file to final ensemble scores.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(data_app, name="data")
app.add_typer(check_app, name="check")
app.add_typer(launch_app, name="launch")

File = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="Take this sweep file, or the shipped search space of this name (quickstart).",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=V", help="Override a value of the file; may be repeated."),
]
SweepName = Annotated[
    str | None, typer.Option("--name", help="Give the sweep another name than the file does.")
]


def _show_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Sweeps of skeleton-action networks: from one YAML file to final ensemble scores."""


@app.command()
def validate(
    file: File,
    overrides: Overrides = None,
    no_data: Annotated[
        bool,
        typer.Option(
            "--no-data", help="Check the file and its trials only, and leave the store alone."
        ),
    ] = False,
) -> None:
    """Check a sweep file, its trials and its data: every problem at once, with file and line."""
    from orchestrator.planning.check import checked_sweep, runs_of
    from orchestrator.trials.space import all_trials

    sweep = checked_sweep(file, overrides or (), data=not no_data)
    if not no_data:
        if runs := runs_of(sweep):
            from orchestrator.tracking.find import find_sources

            find_sources(sweep, runs)
        from orchestrator.planning.plan import plan as plan_sweep

        for text in plan_sweep(sweep).notes:
            print(f"note: {text}", file=sys.stderr)
    trials = all_trials(sweep)
    cells = len({trial.proposal.cell for trial in trials})
    print(
        f"{file}: valid, {cells} cell{'s' * (cells != 1)}, {len(trials)}"
        f" trial{'s' * (len(trials) != 1)}, digest {sweep.digest()}"
    )


def _checked(file: str, overrides: list[str] | None, name: str | None) -> Sweep:
    """The sweep of a file, found good; `name` is what --name gives it, always text."""
    from orchestrator.planning.check import checked_sweep

    if name is None:
        return checked_sweep(file, overrides or ())
    named = f"name={json.dumps(name, ensure_ascii=False)}"
    try:
        return checked_sweep(file, [*(overrides or ()), named])
    except UserError as error:
        problems = (
            f"--name:{text.removeprefix('--set name:')}" if text.startswith("--set name:") else text
            for text in error.problems
        )
        raise UserError.of(problems) from error


@app.command()
def plan(
    file: File,
    overrides: Overrides = None,
    name: SweepName = None,
    as_json: Json = False,
) -> None:
    """Say what a sweep will cost before it runs: cells, trials, sizes, time, memory, disk.

    Exits with 2 when the file's budget is too small, or a trial does not fit into memory.
    """
    from orchestrator.planning.plan import check_fit
    from orchestrator.planning.plan import plan as plan_sweep

    sweep = _as_extended(_checked(file, overrides, name))
    planned = plan_sweep(sweep)
    if as_json:
        print(json.dumps(planned.to_json(), indent=2))
    else:
        from orchestrator.cli.printing.costs import print_plan

        print_plan(planned)
    check_fit(sweep, planned)


@app.command()
def schema() -> None:
    """Print the JSON schema of the sweep file, for editors."""
    from orchestrator.sweep.json_schema import sweep_schema

    print(json.dumps(sweep_schema(), indent=2))


Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Name a sweep in the storage folder, or its folder.")
]
Address = Annotated[
    str | None,
    typer.Option("--address", help="Run on the Ray cluster at HOST:PORT instead of this machine."),
]


Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=V", help="Change a setting; may be repeated."),
]


@app.command()
def sweep(
    file: File,
    overrides: Overrides = None,
    address: Address = None,
    name: SweepName = None,
    as_json: Json = False,
) -> None:
    """Run it all: trials, ensembles, report.

    The same file again continues; Ctrl-C once to stop with checkpoints, twice to end at once.
    """
    from orchestrator.planning.plan import check_fit
    from orchestrator.planning.plan import plan as plan_sweep

    checked = _as_extended(_checked(file, overrides, name))
    planned = plan_sweep(checked)
    check_fit(checked, planned, address)
    from orchestrator.conduct import conduct

    _show(conduct(checked, address, _note, planned=planned), as_json)


@app.command()
def resume(
    name: Name,
    overrides: Changes = None,
    address: Address = None,
    storage: Storage = "runs",
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try trials that failed again.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Go on with a sweep after a crash or Ctrl-C, as it was when it last ran.

    What decides which trials there are stays as it is; budget, resources, tracking, ensembles and
    the place of the store may change.
    """
    from orchestrator.conduct import conduct
    from orchestrator.planning.check import check_data, check_early, check_folders
    from orchestrator.record.folder import check_goes_on, find_folder, load_folder, moved_store

    run = find_folder(name, storage)
    sweep = load_folder(run, overrides or ())
    problems = check_data(sweep) + check_folders(sweep) + check_early(sweep)
    if problems:
        raise UserError.of([*problems, *moved_store(sweep.data.store, run)])
    check_goes_on(sweep, run)
    start: Start = "retry failed" if retry_failed else "plain"
    _show(conduct(sweep, address, _note, run=run, start=start), as_json)


@app.command()
def extend(
    name: Name,
    trials: Annotated[
        int | None,
        typer.Option("--trials", min=1, help="Add so many trials to each cell."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="A.B=V",
            help="Give a parameter more values or a wider range, or change a setting as with"
            " resume; may be repeated.",
        ),
    ] = None,
    address: Address = None,
    storage: Storage = "runs",
    as_json: Json = False,
) -> None:
    """Go on with a sweep, finished or not, with more trials than it was to have.

    Its trials keep their names and results, and none that has ended is run again. Ensembles and
    report are made anew.
    """
    from orchestrator.conduct import conduct
    from orchestrator.planning.check import check_sweep
    from orchestrator.planning.plan import check_fit
    from orchestrator.planning.plan import plan as plan_sweep
    from orchestrator.record.extending import extended
    from orchestrator.record.folder import find_folder, held

    run = find_folder(name, storage)
    with held(run):  # a running sweep says so first
        sweep = extended(run, trials, overrides or ())
    check_sweep(sweep)
    planned = plan_sweep(sweep, run)
    check_fit(sweep, planned, address)
    _show(conduct(sweep, address, _note, run=run, start="extend", planned=planned), as_json)


def _as_extended(sweep: Sweep) -> Sweep:
    """The sweep of a file, as it was extended since it was started from that file."""
    from orchestrator.record.extending import as_extended

    sweep, grew = as_extended(sweep)
    for text in grew:
        _note(f"note: {sweep.name} was extended since: {text}")
    return sweep


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _show(outcome: Outcome, as_json: bool) -> None:
    if outcome.evaluation is not None and outcome.report is not None:
        show_evaluation(outcome.evaluation, outcome.report, outcome.run, as_json)
    for text in outcome.messages:
        print(text, file=sys.stderr)
    raise typer.Exit(outcome.exit_code)


app.command()(status)
app.command()(clean)
app.command()(curves)
app.command()(simulate)
app.command()(doctor)
app.command()(plot)


@app.command()
def stop(name: Name, storage: Storage = "runs") -> None:
    """Start no new trials; the running ones finish."""
    _request_stop(name, storage, cancel=False)


@app.command()
def cancel(name: Name, storage: Storage = "runs") -> None:
    """Let the running trials write a checkpoint and end now."""
    _request_stop(name, storage, cancel=True)


def _request_stop(name: str, storage: str, *, cancel: bool) -> None:
    from orchestrator.record.copies import place_of, send
    from orchestrator.record.folder import find_folder, is_running
    from orchestrator.record.stop_requests import Stop, StopRequests

    run = find_folder(name, storage)
    if not is_running(run):
        raise UserError(f"{place_of(run)}: is not running, so there is nothing to stop")
    requests = StopRequests(run)
    if cancel:
        requests.cancel(Stop("person", "by orchestrate cancel"))
        send(requests.cancel_file)
        print(f"{run.name}: running trials write a checkpoint and end")
    else:
        requests.drain(Stop("person", "by orchestrate stop"))
        send(requests.drain_file)
        print(f"{run.name}: no new trials start, the running ones finish")


app.command()(ensemble)
app.command("what-if")(what_if)
app.command()(report)


@app.command()
def ui(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Show the tracking store of this sweep.")
    ] = None,
    uri: Annotated[
        str | None,
        typer.Option(
            "--uri",
            help="Show this tracking store.  [default: the sweep's, else sqlite:///mlflow.db]",
        ),
    ] = None,
    host: Annotated[
        str,
        typer.Option(
            "--host", help="Serve on this address; 0.0.0.0 is for everyone on the network."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=1, max=65535, help="Serve on this port.")
    ] = 5000,
    storage: Storage = "runs",
) -> None:
    """Serve MLflow's pages on the sweep's own store, until Ctrl-C."""
    import socket

    from orchestrator.cli.commands.serving import serve
    from orchestrator.tracking.client import lacks, missing, ui_command
    from orchestrator.tracking.pages import shown_by
    from orchestrator.tracking.registered import USUAL
    from trainables.contract.secrets import redacted

    page, store, usual = "", "--uri", USUAL
    if name is not None:
        from orchestrator.record.folder import find_folder, load_folder
        from orchestrator.record.journal import read_journal

        run = find_folder(name, storage)
        usual = load_folder(run).tracking.uri
        store = store if uri is not None else f"tracking.uri of {run.name}"
        page = next(
            (
                event["mlflow"]
                for event in reversed(read_journal(run / "journal.jsonl"))
                if event.get("mlflow")
            ),
            "",
        )
    uri = usual if uri is None else uri
    if not uri.strip():
        raise UserError(f"{store}: must be a tracking store, got '{uri}'")
    command, environment = ui_command(uri, host, port)
    try:
        socket.getaddrinfo(host, port)
    except (socket.gaierror, UnicodeError) as error:
        raise UserError(f"--host: must be an address of this machine, got '{host}'") from error
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        raise UserError(f"--port: must be free on {host}, got {port}: {error.strerror}") from error
    go = "go to the folder in which the sweep was started, or name the store with --uri"
    if (place := missing(uri)) is not None:  # asked, MLflow would make one
        raise UserError(
            f"{store}: the MLflow store {redacted(uri)} is not there: {place} does not exist; {go}"
        )
    if (shown := shown_by(page)) and lacks(uri, shown):
        raise UserError(f"{store}: the MLflow store {redacted(uri)} has no run of {name}; {go}")
    print(f"http://{host}:{port}/{page}\nready in a moment; Ctrl-C to end", file=sys.stderr)
    raise typer.Exit(serve(command, environment))


for _name, _command in (COMMANDS | PREDICTING).items():
    app.command(_name)(_command)


def main() -> None:
    """Run the command; an error of ours is one clean message and its exit code, anything else a
    traceback and exit code 1.
    """
    try:
        with standard_output():
            app()
    except OrchestrateError as error:
        from trainables.contract.secrets import redacted

        print(printable(redacted(str(error))), file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        # what the machine refuses is said by the file's name; other errors of the system are bugs
        if error.filename is None:
            raise
        print(printable(f"{error.filename}: {error.strerror}"), file=sys.stderr)
        sys.exit(UserError.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except SystemExit as end:
        # Typer ends at Ctrl-C without a word
        if isinstance(getattr(end.__context__, "__cause__", None), KeyboardInterrupt):
            print("interrupted", file=sys.stderr)
        raise
