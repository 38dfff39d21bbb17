"""Every way to name a model, and what is said where there is none."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from orchestrator.ensembling.collect import collect
from orchestrator.ensembling.final import finalize
from orchestrator.ensembling.find_model import find_model
from tests.orchestrator.fake_run import Trial, make_run, make_sweep
from trainables.contract.disk import write_json
from trainables.contract.errors import UserError

TRIALS = [
    Trial("joint", 0.0, wrong_selection=(0, 1)),
    Trial("bone", 0.0),
    Trial("bone", 0.5, state="unfinished"),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A storage folder with the sweep `run`, an ensemble of two networks and an open trial in it,
    and `plain`, whose evaluation has not been made.
    """
    storage = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.ensembling.whole_choice.MOST_ENSEMBLE_DRAWS", 2)
        run = make_run(storage, TRIALS)
        shutil.copytree(run, storage / "plain")
        sweep = make_sweep({"name": "final", "over": "data.stream"})
        finalize(run, sweep, collect(run, sweep), {})
    model = run / "ensembles" / "final" / "model"
    model.mkdir()
    write_json(model / "bundle.json", {})
    return storage


@pytest.mark.parametrize(
    ("text", "kind", "place"),
    [
        ("run", "ensemble", "run/ensembles/final"),
        ("run/final", "ensemble", "run/ensembles/final"),
        ("run/ensembles/final", "ensemble", "run/ensembles/final"),
        ("run/{joint}", "trial", "run/trials/{joint}"),
        ("run/{joint}/", "trial", "run/trials/{joint}"),
        ("run/trials/{joint}", "trial", "run/trials/{joint}"),
        ("plain/{joint}", "trial", "plain/trials/{joint}"),
        ("run/ensembles/final/model", "bundle", "run/ensembles/final/model"),
    ],
)
@pytest.mark.parametrize("by_path", [False, True])
def test_a_model_is_found_by_name_and_by_path(runs, text, kind, place, by_path, tmp_path):
    text, place = (each.format(joint=TRIALS[0].name) for each in (text, place))
    found = find_model(str(runs / text), str(tmp_path)) if by_path else find_model(text, str(runs))
    assert (found.kind, found.path) == (kind, runs / place)
    assert found.run == runs / text.split("/")[0]
    assert found.name == ("final" if "final" in place else TRIALS[0].name)
    evaluated = text.startswith("run")
    assert (found.row is not None) == evaluated
    if found.row is not None:
        assert len(found.row.trials) == (1 if kind == "trial" else 2)


def test_a_name_is_that_of_a_sweep_in_the_storage_before_a_folder_here(runs, monkeypatch, tmp_path):
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_model("run", str(runs)).kind == "ensemble"


def test_a_bundle_is_one_wherever_it_lies(tmp_path):
    write_json(tmp_path / "mine" / "bundle.json", {})
    found = find_model(str(tmp_path / "mine"))
    assert (found.kind, found.name, found.run) == ("bundle", "mine", None)


@pytest.mark.parametrize("ending", ["pt2", "onnx", "xml", "ONNX"])
def test_an_exported_file_is_known_by_its_ending(tmp_path, ending):
    file = tmp_path / f"net.{ending}"
    file.write_bytes(b"")
    assert (find_model(str(file)).kind, find_model(str(file)).path) == ("exported", file)


def test_a_published_folder_is_known_by_its_configuration(tmp_path):
    write_json(tmp_path / "net" / "config.json", {"orchestrate_model": 1})
    found = find_model(str(tmp_path / "net"))
    assert (found.kind, found.name, found.place) == ("published", "net", str(tmp_path / "net"))


@pytest.mark.parametrize("text", ["models:/net@champion", "models:/net/3", "models:/a b/latest"])
def test_a_registered_model_is_named_and_not_looked_for(text):
    found = find_model(text, "nowhere")
    assert (found.kind, found.name, found.place) == ("registered", text, text)
    assert (found.path, found.run) == (None, None)


@pytest.mark.parametrize("text", ["models:/", "models:/net", "models:/net@", "models:/@champion"])
def test_half_a_registered_name_is_refused(text):
    with pytest.raises(UserError, match=re.escape(f"{text}: must be models:/NAME@ALIAS or")):
        find_model(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unheard", "unheard: must be a model, a sweep, .* the sweeps in .*/ are plain, run$"),
        ("", "^: must be a model, "),
        ("run/unheard", "run/unheard: must be an ensemble or a finished trial of .*, there are"),
        ("run/", None),
        ("plain", r"plain: must have a final evaluation to say what it ships.*joint-0-"),
        ("run/trials", "must be an ensemble or a finished trial"),
        ("run/{open}", r"must be an ensemble or a finished trial of .*, it has not finished; "),
        ("{runs}/run/trials/{open}", "is a trial that has not finished"),
        ("{runs}/store", "store is a folder of something else"),
        ("{runs}/run/trials/{joint}/deploy.pt", "a deploy form alone does not, name the trial's"),
        ("{runs}/run/resolved.json", r"resolved.json: must be an exported file \(.pt2, .onnx"),
    ],
)
def test_what_is_no_model_is_refused_with_what_there_is(runs, text, message):
    text = text.format(runs=runs, joint=TRIALS[0].name, open=TRIALS[2].name)
    if message is None:
        assert find_model(text, str(runs)).kind == "ensemble"
        return
    with pytest.raises(UserError, match=message) as caught:
        find_model(text, str(runs))
    assert len(caught.value.problems) == 1


def test_many_trials_are_listed_in_part(tmp_path):
    for number in range(30):
        write_json(tmp_path / "many" / "trials" / f"t{number:02d}" / "result.json", {})
    write_json(tmp_path / "many" / "resolved.json", {"sweep": {}})
    with pytest.raises(UserError, match=r"trials t00, .* t11 and 18 more$"):
        find_model("many/none", str(tmp_path))


def test_the_storage_may_be_missing(tmp_path):
    with pytest.raises(UserError, match=r"the sweeps in .*nowhere/ are \(none\)"):
        find_model("unheard", str(Path(tmp_path) / "nowhere"))


@pytest.mark.parametrize("name", ["joint-0", "bone-0"])
def test_a_network_is_found_by_the_name_that_reports_print(runs, name):
    found = find_model(f"run/{name}", str(runs))
    assert (found.kind, found.row.name) == ("trial", name)
    assert found.path == runs / "run" / "trials" / found.row.trials[0]


def test_the_folder_one_stands_in_has_its_name_and_its_row(runs, monkeypatch):
    monkeypatch.chdir(runs / "run" / "trials" / TRIALS[0].name)
    found = find_model(".")
    assert (found.name, found.row.trials) == (TRIALS[0].name, (TRIALS[0].name,))
    monkeypatch.chdir(runs / "run" / "ensembles" / "final" / "model")
    assert find_model(".").name == "final"
