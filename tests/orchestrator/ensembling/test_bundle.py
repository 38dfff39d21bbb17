import json
import shutil

import numpy as np
import pytest

from orchestrator.ensembling.bundle import FILE, Bundle, _recipe, combined, open_bundle
from orchestrator.ensembling.bundling import write_bundle
from orchestrator.ensembling.collect import collect
from orchestrator.ensembling.exporting import source_of
from orchestrator.ensembling.final import finalize
from orchestrator.ensembling.find_model import FoundModel, find_model
from tests.orchestrator.ensembling.shipped import FINAL, shipped
from tests.orchestrator.fake_run import Trial, make_run, make_sweep
from trainables.contract.artifacts import TrialDir
from trainables.contract.disk import write_json
from trainables.contract.errors import UserError
from trainables.contract.scores import Scores
from trainables.data.store.reading import Store

pytestmark = pytest.mark.usefixtures("quick_end")


def softmax(rows):
    shifted = np.exp(rows - rows.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def test_an_ensemble_of_ensembles_is_combined_level_by_level():
    rng = np.random.default_rng(0)
    logits = {name: rng.normal(size=(5, 3)).astype(np.float32) for name in "abc"}
    inner = {"combine": "probabilities", "sources": [[1.0, {"trial": "a"}], [3.0, {"trial": "b"}]]}
    outer = {"combine": "probabilities", "sources": [[0.5, inner], [0.5, {"trial": "c"}]]}
    mean = (softmax(logits["a"]) + 3 * softmax(logits["b"])) / 4
    expected = (mean + softmax(logits["c"])) / 2
    assert np.allclose(softmax(combined(outer, logits)), expected, atol=1e-6)  # float32 scores
    summed = {"combine": "logits", "sources": [[1.1, {"trial": "a"}], [0.9, {"trial": "c"}]]}
    assert np.allclose(combined(summed, logits), 1.1 * logits["a"] + 0.9 * logits["c"], atol=1e-6)
    warm = {"combine": "logits", "sources": [[1.0, {"trial": "a"}, 2.0], [1.0, {"trial": "c"}]]}
    assert np.allclose(combined(warm, logits), logits["a"] / 2 + logits["c"], atol=1e-6)


@pytest.mark.parametrize(
    "recipe",
    [
        {"method": "temperature"},
        {"method": "greedy", "options": {"temperature": True}},
        {"method": "simplex", "combine": "logits", "options": {"temperature": True, "pull": 1.0}},
    ],
)
def test_a_bundle_says_what_the_stored_scores_say_temperatures_and_all(tmp_path, recipe):
    run = make_run(tmp_path, [Trial("joint", 0.0, wrong_selection=(0, 1)), Trial("bone", 0.0)])
    sweep = make_sweep({"name": "final", "over": "data.stream", **recipe})
    members = collect(run, sweep)
    evaluation = finalize(run, sweep, members, {})
    folder = run / "ensembles" / "final"
    weights = json.loads((folder / "weights.json").read_text())
    assert weights["temperatures"].keys() <= weights["weights"].keys()
    assert recipe.get("options", {}).items() <= weights["options"].items()
    assert weights["method"] != "greedy" or weights["options"]["seed"] == 0
    logits = {each.trial: each.test.logits for each in members}
    np.testing.assert_allclose(
        combined(_recipe(evaluation, "final"), logits),
        Scores.load(folder / "scores.parquet").logits,
        rtol=1e-5,
        atol=1e-5,
    )


def test_a_folder_without_a_bundle_is_named(tmp_path):
    with pytest.raises(UserError, match=r"must be a bundle with a readable bundle\.json"):
        Bundle.load(tmp_path)


@pytest.mark.parametrize("content", ["", "[1]", "{}", "[" * 100_000, "1" * 5000])
def test_a_damaged_bundle_may_be_named_in_text_and_is_refused_in_words(tmp_path, content):
    (tmp_path / "bundle.json").write_text(content)
    with pytest.raises(UserError, match="must be a bundle with a readable bundle") as caught:
        Bundle.load(str(tmp_path))
    assert "unsupported operand" not in str(caught.value)
    assert "set_int_max" not in str(caught.value)


def test_the_network_of_another_trial_is_not_bundled(tmp_path):
    trials = [Trial("joint", 0.0), Trial("bone", 0.0)]
    run = make_run(tmp_path, trials)
    sweep = make_sweep({"name": "final", "over": "data.stream"})
    evaluation = finalize(run, sweep, collect(run, sweep), {})
    mine, others = (run / "trials" / trial.name / "deploy.pt" for trial in trials)
    others.write_bytes(b"another network")
    shutil.copyfile(others, mine)
    with pytest.raises(UserError, match=rf"{trials[0].name}/deploy\.pt: must be the file"):
        write_bundle(run, evaluation)


CLIPS = [np.ones((5, 2, 3), np.float32), np.ones((1, 4, 2, 3), np.float32)]


@pytest.mark.parametrize("ensembles", [(), (FINAL,)])
def test_a_bundle_predicts_and_reads_its_networks_once(tmp_path, monkeypatch, ensembles):
    run, evaluation = shipped(tmp_path, *ensembles)
    row = evaluation.headline
    assert (row.kind, row.name) == (("ensemble", "final") if ensembles else ("member", "bone-0"))
    folder = write_bundle(run, evaluation)
    assert sorted(path.stem for path in folder.glob("*.pt")) == sorted(row.trials)
    bundle = Bundle.load(folder)
    first = bundle.predict(CLIPS)
    np.testing.assert_allclose(first.sum(axis=1), 1.0)
    assert first.shape == (2, 3)
    monkeypatch.setattr("trainables.deploy.form.load_deploy", None)
    np.testing.assert_array_equal(bundle.predict(CLIPS), first)


def test_a_file_that_is_not_the_bundles_own_is_named(tmp_path):
    run, evaluation = shipped(tmp_path, FINAL)
    folder = write_bundle(run, evaluation)
    first, second = sorted(folder.glob("*.pt"))
    first.write_bytes(first.read_bytes() + b"x")
    second.unlink()
    with pytest.raises(UserError) as caught:
        Bundle.load(folder)
    assert sorted(caught.value.problems) == [
        f"{first}: must be the file that bundle.json names, but it was changed",
        f"{second}: is missing, bundle.json names it",
    ]
    write_bundle(run, evaluation)
    Bundle.load(folder)


def test_a_bundle_is_written_again_without_its_store_and_is_whole_or_not_there(tmp_path):
    run, evaluation = shipped(tmp_path, FINAL)
    folder = write_bundle(run, evaluation)
    content = (folder / FILE).read_bytes()
    (tmp_path / "store").rename(tmp_path / "away")
    assert (write_bundle(run, evaluation) / FILE).read_bytes() == content
    row = evaluation.headline
    TrialDir(run / "trials" / row.trials[0]).deploy_file.unlink()
    with pytest.raises(UserError, match=r"deploy\.pt: No such file"):
        write_bundle(run, evaluation)
    assert (folder / FILE).read_bytes() == content
    assert [path.name for path in folder.parent.iterdir() if "partial" in path.name] == []


def test_a_sweep_without_a_finished_trial_has_no_bundle(tmp_path):
    run, evaluation = shipped(tmp_path)
    assert write_bundle(run, evaluation.model_copy(update={"rows": ()})) is None


def test_trials_and_ensembles_predict_where_they_lie_as_their_bundle_does(tmp_path):
    run, evaluation = shipped(tmp_path, FINAL)
    evaluation.save(run)
    before = open_bundle(find_model("run", str(tmp_path))).predict(CLIPS)
    folder = write_bundle(run, evaluation)
    np.testing.assert_array_equal(open_bundle(find_model(str(folder))).predict(CLIPS), before)
    trials = evaluation.headline.trials
    each = [open_bundle(find_model(f"run/{trial}", str(tmp_path))) for trial in trials]
    np.testing.assert_allclose(sum(one.predict(CLIPS) for one in each) / 2, before, rtol=1e-6)
    (tmp_path / "store").rename(tmp_path / "away")  # the bundle says what its clips look like
    again = open_bundle(find_model(f"run/{trials[0]}", str(tmp_path)))
    np.testing.assert_array_equal(again.predict(CLIPS), each[0].predict(CLIPS))
    shutil.rmtree(folder)
    with pytest.raises(UserError, match=r"store: the store must be there to say what the classes"):
        open_bundle(find_model(f"run/{trials[0]}", str(tmp_path)))


def test_a_network_of_other_classes_is_refused(tmp_path):
    run, evaluation = shipped(tmp_path)
    folder = write_bundle(run, evaluation)
    content = json.loads((folder / FILE).read_text())
    content["description"]["classes"].append("jump")
    write_json(folder / FILE, content)
    with pytest.raises(UserError, match=r"for 2 joints and 4 classes, as pairs has, got 2 and 3"):
        Bundle.load(folder).predict(CLIPS)


@pytest.mark.parametrize("kind", ["exported", "published", "registered"])
def test_other_models_are_no_bundles(kind, tmp_path):
    with pytest.raises(UserError, match=f"must be a trial, an ensemble or .* got an? {kind} model"):
        open_bundle(FoundModel(kind, "net", tmp_path))


def renamed(store):
    """The store says another thing of itself than when the networks were trained on it."""
    content = json.loads((store / "dataset.json").read_text())
    write_json(store / "dataset.json", content | {"classes": content["classes"][::-1]})


def noted(run, store, **changes):
    """As trials write it: what the store was."""
    info = Store.open(store).info
    note = {"store_checksums": info.checksums, "store_meaning": info.meaning} | changes
    for file in run.glob("trials/*/result.json"):
        write_json(file, json.loads(file.read_text()) | note)


def models_of(run, evaluation):
    return [str(run), *(str(run / "trials" / trial) for trial in evaluation.headline.trials)]


def test_names_of_classes_are_those_of_the_training_whatever_the_store_says_now(tmp_path):
    run, evaluation = shipped(tmp_path, FINAL)
    evaluation.save(run)
    classes = Store.open(tmp_path / "store").info.classes
    folder = write_bundle(run, evaluation)
    renamed(tmp_path / "store")
    for model in models_of(run, evaluation):
        assert open_bundle(find_model(model)).description.classes == classes
    write_bundle(run, evaluation)
    assert Bundle.load(folder).description.classes == classes
    assert f"classes: 0 {classes[0]}; 1 {classes[1]}" in (folder / "README.md").read_text()
    for model in models_of(run, evaluation):  # an exported file takes clips of the store, too
        with pytest.raises(UserError, match=r"must be the store that the evaluation of .* knows"):
            source_of(find_model(model))


def test_another_store_at_the_same_path_gives_no_names(tmp_path):
    run, evaluation = shipped(tmp_path, FINAL)
    noted(run, tmp_path / "store")
    models = models_of(run, evaluation)[1:]
    before = [open_bundle(find_model(model)).description for model in models]
    assert len(before) == 2
    evaluation.save(run)
    renamed(tmp_path / "store")
    for model in models:
        with pytest.raises(UserError, match=r"must be the store that trial .* knows"):
            open_bundle(find_model(model))
    with pytest.raises(UserError, match=r"must be the store that trial .* knows"):
        write_bundle(run, evaluation)
    noted(run, tmp_path / "store", store_checksums={"clips.parquet": "0" * 64})
    with pytest.raises(UserError, match=r"must be the store that trial .* knows"):
        open_bundle(find_model(models[0]))


def test_a_bundle_of_networks_of_another_store_says_nothing_of_these(tmp_path):
    run, evaluation = shipped(tmp_path)
    (shipped_trial,) = evaluation.headline.trials
    write_bundle(run, evaluation)
    renamed(tmp_path / "store")
    noted(run, tmp_path / "store")
    other = next(path for path in (run / "trials").iterdir() if path.name != shipped_trial)
    found = open_bundle(find_model(str(other)))
    assert found.description.classes == tuple(Store.open(tmp_path / "store").info.classes)


def without_members(content):
    content.update(members={}, digests={})


def outside(content):
    trial = next(iter(content["members"]))
    content["members"]["../../x"] = content["members"].pop(trial)
    content["digests"]["../../x"] = content["digests"].pop(trial)


def weight_of_text(content):
    content["recipe"]["sources"][0][0] = "x"


def deep(content):
    for _ in range(30):
        content["recipe"] = {"combine": "logits", "sources": [[1.0, content["recipe"]]]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(recipe={"trial": "none"}), "recipe: trial must be one of"),
        (lambda content: content.update(recipe=[]), "recipe: "),
        (lambda content: content["recipe"].update(combine="nonsense"), "combine is wrong"),
        (lambda content: content["recipe"].update(sources=[]), "sources is wrong"),
        (lambda content: content["recipe"]["sources"][0].append(0.0), "sources"),
        (lambda content: content.update(digests={"other": "0"}), "must be of all members"),
        (lambda content: content["digests"].popitem(), "must be of all members"),
        (without_members, "recipe: .*trial must be one of the members"),
        (outside, "recipe: .*trial must be one of the members"),
        (weight_of_text, r"sources\.0"),
        (deep, "must be nested at most 20 times"),
    ],
)
def test_a_bundle_that_was_tampered_with_is_refused_in_one_line(tmp_path, made, change, message):
    content = json.loads((made / FILE).read_text())
    change(content)
    folder = shutil.copytree(made, tmp_path / "copy")
    write_json(folder / FILE, content)
    with pytest.raises(UserError, match=message):
        Bundle.load(folder)


def test_a_member_from_outside_the_folder_is_refused(tmp_path, made):
    content = json.loads((made / FILE).read_text())
    outside(content)
    content["recipe"] = {"trial": "../../x"}
    folder = shutil.copytree(made, tmp_path / "copy")
    write_json(folder / FILE, content)
    with pytest.raises(UserError, match=r"members: a name must not hold '/'"):
        Bundle.load(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A sound bundle of two networks, not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("orchestrator.ensembling.whole_choice.MOST_ENSEMBLE_DRAWS", 2)
        return write_bundle(*shipped(tmp_path_factory.mktemp("made"), FINAL))
