"""Cross-fitting: what a clip is scored with was chosen without it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from orchestrator.ensembling.combine import combine_rows
from orchestrator.ensembling.cross_fitting import cross_fitted, folds_by_clip, folds_of, part_of
from orchestrator.ensembling.strategies.greedy import Options, choose
from orchestrator.ensembling.strategies.sources import Choice
from tests.orchestrator.ensembling.strategies.made_sources import made, of
from trainables.contract.errors import UserError


def test_every_fold_is_scored_with_what_was_chosen_on_the_others():
    sources, seen = made(4, 101), []

    def watched(part):
        seen.append(part)
        return choose(part, Options(rounds=10))

    found = cross_fitted(sources, watched, 3, seed=5)
    assert len(seen) == 3
    for number, part in enumerate(seen):
        own = np.flatnonzero(found.fold == number)
        assert not set(part.ids) & {sources.ids[i] for i in own}
        assert len(part.ids) + len(own) == 101
        weights = found.choices[number].weights
        rows = [sources.values[sources.members.index(name)][own] for name in weights]
        twin = combine_rows(rows, list(weights.values()), "probabilities")
        np.testing.assert_array_equal(found.rows[own], twin)


def test_pure_luck_is_not_rewarded():
    """Sources that know nothing: the choice looks good on its own clips and is not."""
    draw = np.random.default_rng(0)
    labels = draw.integers(4, size=200)
    sources = of(draw.normal(size=(26, 200, 4)), labels)
    choice = choose(sources, Options(rounds=10))
    own = combine_rows(
        [sources.values[sources.members.index(name)] for name in choice.weights],
        list(choice.weights.values()),
        "probabilities",
    )
    honest = cross_fitted(sources, lambda part: choose(part, Options(rounds=10)), 2, seed=0).rows
    assert (own.argmax(axis=1) == labels).mean() > 0.31
    assert (honest.argmax(axis=1) == labels).mean() < 0.28


def test_copies_of_a_clip_are_in_one_fold():
    """As many folds as there would be of the clips alone, and what is fitted sees no other copy."""
    sources = made(2, 24)
    rows = np.array([0, 0, 0, *range(1, 20), 19, 23])
    names = [sources.ids[row] for row in rows]
    names[1:3] = [f"{names[0]}\0{copy:04d}" for copy in (1, 2)]
    names[-2] += "\0" + "0001"
    drawn = replace(
        sources, values=sources.values[:, rows], labels=sources.labels[rows], ids=tuple(names)
    )
    fold = folds_by_clip(drawn, 3, seed=0)
    assert len(set(fold[:3])) == 1
    assert fold[-2] == fold[-3]
    apart = np.flatnonzero([("\0" not in name) for name in names])
    assert (fold[apart] == folds_of(drawn.labels[apart], 3, seed=0)).all()


def test_folds_are_even_in_size_and_within_each_class():
    labels = np.repeat(np.arange(5), 21)
    fold = folds_of(labels, 4, seed=1)
    assert sorted(np.bincount(fold)) == [26, 26, 26, 27]
    for label in range(5):
        assert set(np.bincount(fold[labels == label], minlength=4)) == {5, 6}
    assert (folds_of(labels, 4, seed=1) == fold).all()
    assert (folds_of(labels, 4, seed=2) != fold).any()


@pytest.mark.parametrize("folds", [0, 1, 11])
def test_folds_must_have_clips(folds):
    with pytest.raises(UserError, match="folds: must be at least 2 and at most the 10 clips, got"):
        folds_of(np.zeros(10, np.int64), folds, 0)


def test_weights_are_averaged_as_shares_and_temperatures_are_applied():
    sources = made(2, 40)
    answers = iter([Choice({"a": 3.0, "b": 1.0}, {"a": 2.0}), {"b": 10.0}])
    found = cross_fitted(sources, lambda part: next(answers), 2, seed=0)
    assert found.mean_weights(sources.members) == pytest.approx({"a": 0.375, "b": 0.625})
    own = np.flatnonzero(found.fold == 0)
    twin = combine_rows(
        [sources.values[0, own] / np.float32(2), sources.values[1, own]], [3, 1], "probabilities"
    )
    np.testing.assert_array_equal(found.rows[own], twin)


def test_a_part_keeps_everything_but_the_other_clips():
    sources = made(3, 10, families=("x", "y", ""))
    part = part_of(sources, np.array([4, 2]))
    assert part.ids == ("clip-0004", "clip-0002")
    np.testing.assert_array_equal(part.values, sources.values[:, [4, 2]])
    assert part.families == sources.families
    assert part.budget is sources.budget
    assert not part.values.flags.writeable
