"""A card says what the results say, on which clips, and nothing that is not known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from orchestrator import __version__
from orchestrator.ensembling.bundle import open_bundle
from orchestrator.ensembling.bundling import write_bundle
from orchestrator.ensembling.find_model import find_model
from orchestrator.ensembling.model_card import FILE, as_markdown, card_of
from tests.orchestrator.ensembling.shipped import evaluated_storage
from trainables.contract.disk import digest_of
from trainables.data.readers.licences import LICENCES, UNKNOWN, licence_of


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    place = tmp_path_factory.mktemp("runs")
    _, evaluation = evaluated_storage(place)
    return place, evaluation


def card(storage, text):
    found = find_model(text, str(storage[0]))
    return as_markdown(card_of(found, open_bundle(found)), ["run it so"])


def test_the_metadata_are_what_hubs_read(storage):
    text = card(storage, "run")
    head = text.split("---\n")
    assert head[0] == ""
    metadata = yaml.safe_load(head[1])
    row = storage[1].headline
    (model,) = metadata["model-index"]
    (result,) = model["results"]
    assert result["task"]["type"] == "skeleton-action-recognition"
    assert result["dataset"] == {
        "type": "pairs",
        "name": "pairs",
        "config": "xsub",
        "split": "test",
    }
    assert [metric["value"] for metric in result["metrics"]] == [row.test.top1, row.test.top5]
    assert {metric["type"] for metric in result["metrics"]} == set(metadata["metrics"])
    assert "skeleton-based-action-recognition" in metadata["tags"]
    assert "ensemble" in metadata["tags"]


def test_it_says_what_was_found_on_which_clips(storage):
    text, row = card(storage, "run"), storage[1].headline
    low, high = row.test.interval
    assert (
        f"| test clips of protocol xsub | 30 | {100 * row.test.top1:.1f} | {100 * low:.1f} to"
        f" {100 * high:.1f} | {100 * row.test.top5:.1f} |"
    ) in text
    selection = next(line for line in text.splitlines() if line.startswith("| selection split"))
    assert selection.split(" | ")[3] == ""  # no interval where it was chosen
    for trial in row.trials:
        file = storage[0] / "run" / "trials" / trial / "deploy.pt"
        assert f"| {trial} | " in text
        assert digest_of(file) in text
    assert "0 sit; 1 stand; 2 wave" in text
    assert "hip, head" in text
    assert f"terms of the data: {UNKNOWN}" in text
    assert "run it so" in text
    assert "| parameters shipped | 1,000 |" in text
    assert "a cpu, 1 thread(s)" in text
    assert "read once" not in text
    assert "combined by the method mean, with weights: " in text
    assert f"This card was made with orchestrate {__version__}" in text


def test_names_are_text_whatever_they_hold(storage):
    found = find_model("run", str(storage[0]))
    made = card_of(found, open_bundle(found))
    names = {"name": "a|b", "classes": ("<img src=x>", "[x](y)", "`z`")}
    changed = replace(made, description=made.description.model_copy(update=names), name="<b>")
    body = as_markdown(changed, []).split("---\n", 2)[2]
    assert "# &lt;b&gt;" in body
    assert r"classes: 0 &lt;img src=x&gt;; 1 \[x\](y); 2 \`z\`" in body
    assert r"The data set is a\|b." in body
    assert "<img" not in body


def test_a_trial_without_an_evaluation_has_a_card_that_says_so(storage, tmp_path):
    place, evaluation = storage
    found = find_model(f"run/{evaluation.headline.trials[0]}", str(place))
    text = as_markdown(card_of(replace(found, row=None), open_bundle(found)), [])
    assert "It has not been evaluated on test clips." in text
    assert "model-index" not in text
    assert "| selection split | 12 | " in text


def test_what_a_sweep_ships_has_its_card(storage):
    place, evaluation = storage
    folder = write_bundle(place / "run", evaluation)
    text = (folder / FILE).read_text()
    assert text.startswith("---\nlicense: unknown\n")
    assert f"orchestrate predict {folder.name}/ CLIPS..." in text


def test_terms_are_those_of_the_store_or_of_its_kind():
    assert licence_of({"licence": "mine", "kind": "ntu"}) == "mine"
    assert licence_of({"kind": "ntu"}) == LICENCES["ntu"]
    assert licence_of({"kind": "arrays"}) == UNKNOWN
