"""Lines and tables of `plan` and `status` that say where trials ended."""

from types import SimpleNamespace

from orchestrator.cli.printing.costs import print_early
from orchestrator.cli.printing.status import print_statuses
from orchestrator.planning.stopping import EarlyStopping, Survivors
from orchestrator.record.status import CellStatus, Status


def test_a_figure_belongs_to_every_comparison_and_one_to_the_end(capsys):
    kind = Survivors(2, 7, 4, (1, 2), ((2, 6), (1, 5), (3, 3)), (10, 12))
    early = EarlyStopping("asha", (kind,), 0, 20, 24, 56)
    print_early(SimpleNamespace(expected_hours=(0.1, 0.2)), early)
    assert capsys.readouterr().out.splitlines()[0] == (
        "stopping   asha in 2 cells of 7 trials, after 1 and 2 of 4 epochs: 2 to 6, then 1 to 5 go"
        " on, 3 to the last"
    )


def test_sweeps_are_listed_with_those_that_were_stopped_early(capsys):
    cells = (CellStatus("a", total=7, done=6, pruned=1), CellStatus("b", total=7, done=7))
    print_statuses([Status("s", "finished", cells)], "runs")
    out = capsys.readouterr().out
    assert "pruned" in out
    assert ["s", "13/14", "1", "finished"] in [line.split() for line in out.splitlines()]
