import numpy as np
import pytest
from scipy import stats

from orchestrator.ensembling.statistics import intervals
from orchestrator.ensembling.statistics.intervals import (
    _acceleration,
    bootstrap,
    bootstrap_interval,
    interval,
    resampled_means,
)
from tests import naive_statistics as naive
from trainables.contract.errors import UserError


@pytest.mark.parametrize(("right", "n"), [(0, 5), (5, 5), (1, 1), (92, 100), (15340, 16487)])
def test_wilson_matches_its_definition_and_scipy(right, n):
    found = interval(right, n)
    assert found == pytest.approx(naive.acceptable_accuracies(right, n), abs=1e-5)
    assert found == pytest.approx(
        tuple(stats.binomtest(right, n).proportion_ci(method="wilson")), abs=1e-12
    )


def test_wilson_contains_the_accuracy_also_at_its_ends():
    assert interval(0, 3)[0] == 0.0
    assert interval(7, 7)[1] == 1.0


@pytest.mark.parametrize(("right", "n"), [(-1, 3), (4, 3), (0, 0)])
def test_impossible_counts_are_refused(right, n):
    with pytest.raises(UserError, match="right must be between 0 and n"):
        interval(right, n)


@pytest.mark.parametrize("clustered", [False, True])
def test_resampled_means_match_naive(clustered):
    rng = np.random.default_rng(0)
    values = rng.choice([-1, 0, 1], p=[0.1, 0.6, 0.3], size=60)
    clusters = np.sort(rng.integers(0, 9, 60)) if clustered else None
    fast = resampled_means(values, 2000, rng, clusters)
    slow = np.array(naive.resampled_means(values.tolist(), 2000, 1, clusters))
    assert fast.mean() == pytest.approx(slow.mean(), abs=5 * slow.std() / 2000**0.5)
    assert fast.std() == pytest.approx(slow.std(), rel=0.08)
    np.testing.assert_allclose(
        np.quantile(fast, [0.025, 0.5, 0.975]),
        np.quantile(slow, [0.025, 0.5, 0.975]),
        atol=0.25 * slow.std(),
    )


@pytest.mark.parametrize(
    "values",
    [
        np.repeat([1, 0], [460, 40]),  # an accuracy
        np.repeat([1, 0, -1], [30, 250, 12]),  # a difference
        np.repeat([1, 0], [3, 197]),  # a skewed one
    ],
)
def test_the_bootstrap_matches_scipy(values):
    ours = bootstrap_interval(values, seed=3, draws=20_000)
    theirs = stats.bootstrap(
        (values.astype(float),), np.mean, n_resamples=4000, batch=500, rng=5
    ).confidence_interval
    step = 1 / len(values)  # neither can come closer than one clip
    assert ours == pytest.approx(tuple(theirs), abs=1.5 * step)


def test_the_same_seed_gives_the_same_interval_and_equal_values_one_of_no_width():
    values = np.repeat([1, 0], [80, 20])
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(np.ones(20), seed=1) == (1.0, 1.0)


def test_samples_that_all_lie_on_one_side_of_the_mean_have_their_ends():
    """As two of them often do: there is no quantile that the bias could be read from."""
    values = np.repeat([1, 0], [30, 70])
    for seed in range(20):
        means = resampled_means(values, 2, np.random.default_rng(seed))
        low, high = bootstrap_interval(values, seed=seed, draws=2)
        assert min(means) <= low <= high <= max(means)


def test_clips_of_few_subjects_say_less_than_as_many_independent_ones():
    """20 subjects of 50 clips, of which each is always or hardly ever understood."""
    rng = np.random.default_rng(0)
    skill = np.where(np.arange(20) < 12, 0.95, 0.2)
    subjects = np.repeat(np.arange(20), 50)
    hits = rng.random(1000) < skill[subjects]
    low, high = bootstrap_interval(hits, seed=0)
    wide_low, wide_high = bootstrap_interval(hits, seed=0, clusters=subjects)
    assert wide_high - wide_low > 3 * (high - low)


COVERAGE = [
    (interval_name, accuracy, clips)
    for interval_name in ("wilson", "bootstrap")
    for accuracy, clips in [(0.6, 100), (0.9, 400), (0.97, 1000)]
]


@pytest.mark.parametrize(("kind", "accuracy", "clips"), COVERAGE)
def test_intervals_cover_the_true_accuracy_as_often_as_they_say(kind, accuracy, clips):
    """2,000 samples (Wilson) and 400 (bootstrap): the share covered has a standard error of 0.5 and
    1.1 points.
    """
    rng = np.random.default_rng(1)
    samples = 2000 if kind == "wilson" else 400
    covered = 0
    for right in rng.binomial(clips, accuracy, samples):
        low, high = (
            interval(int(right), clips)
            if kind == "wilson"
            else bootstrap_interval(
                np.repeat([1, 0], [right, clips - right]), seed=int(right), draws=1000
            )
        )
        covered += low <= accuracy <= high
    assert covered / samples >= 0.925


@pytest.mark.parametrize("shared", [0.0, 0.8])
def test_the_paired_interval_covers_the_true_difference(shared):
    """Two classifiers of accuracy 0.9 and 0.85, independent or mostly right on the same clips."""
    rng = np.random.default_rng(2)
    covered = 0
    for seed in range(400):
        common, clips = rng.random(500) < shared, np.zeros((2, 500), bool)
        ease = rng.random(500)
        for row, accuracy in enumerate([0.9, 0.85]):
            clips[row] = np.where(common, ease, rng.random(500)) < accuracy
        low, high = bootstrap_interval(
            clips[0].astype(int) - clips[1].astype(int), seed=seed, draws=1000
        )
        covered += low <= 0.05 <= high
    assert covered / 400 >= 0.925


def test_other_people_are_covered_by_an_interval_over_people_and_not_by_one_over_clips():
    """20 people of 40 clips, understood with 0.85 on average and a standard deviation of 0.05."""
    people, over_people, over_clips = np.repeat(np.arange(20), 40), 0, 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        hits = rng.random(800) < rng.normal(0.85, 0.05, 20)[people]
        low, high = bootstrap_interval(hits, seed=seed, clusters=people, draws=500)
        over_people += low <= 0.85 <= high
        low, high = interval(hits.sum(), 800)
        over_clips += low <= 0.85 <= high
    assert over_people / 200 >= 0.9
    assert over_clips / 200 < 0.87


def test_the_acceleration_is_the_skewness_of_the_jackknife():
    """Of a mean it is the skewness of the values over 6 sqrt(N)."""
    values = np.array([1.0] * 17 + [0.0] * 3)
    expected = stats.skew(values) / (6 * np.sqrt(len(values)))
    assert _acceleration(values, None) == pytest.approx(expected, rel=1e-12)
    alone = np.arange(len(values))  # every clip a cluster of its own
    assert _acceleration(values, alone) == pytest.approx(expected, rel=1e-12)
    pairs = np.repeat([0, 1, 2, 3], [2, 4, 6, 8])
    left_out = np.array([values[pairs != pair].mean() for pair in range(4)])
    away = left_out.mean() - left_out
    assert _acceleration(values, pairs) == pytest.approx(
        (away**3).sum() / (6 * (away**2).sum() ** 1.5), rel=1e-12
    )


def test_what_nowhere_differs_has_no_skewness():
    assert _acceleration(np.ones(5), None) == 0.0
    assert _acceleration(np.ones(5), np.array([0, 0, 1, 1, 1])) == 0.0


def test_the_acceleration_of_two_subjects_of_whom_one_has_a_single_clip():
    """Without the other subject one clip is left."""
    values, clusters = np.array([0.0, 1.0, 1.0, 0.0]), np.array([0, 0, 0, 1])
    left_out = np.array([0.0, 2 / 3])
    away = left_out.mean() - left_out
    assert _acceleration(values, clusters) == pytest.approx(
        (away**3).sum() / (6 * (away**2).sum() ** 1.5), abs=1e-12
    )


def test_intervals_over_subjects_are_for_eight_of_them_and_more():
    hits = np.random.default_rng(0).random(160) < 0.7
    for count, known in ((7, False), (8, True)):
        subjects = np.arange(160) % count
        found = bootstrap(hits, subjects, seed=3)
        assert (found.subject_count, found.seed) == (count, 3)
        assert found.clips == bootstrap_interval(hits, seed=3)
        assert (found.subjects is not None) is known
        if known:
            assert found.subjects == bootstrap_interval(hits, seed=3, clusters=subjects)
    alone = bootstrap(hits, None, seed=3)
    assert (alone.subjects, alone.subject_count) == (None, 0)


def test_an_interval_of_no_width_is_none():
    found = bootstrap(np.ones(160), np.arange(160) % 9, seed=0)
    assert (found.clips, found.subjects, found.subject_count) == (None, None, 9)


def test_an_interval_is_of_95_per_cent_where_nothing_else_is_asked():
    hits = np.random.default_rng(0).random(300) < 0.7
    low, high = bootstrap_interval(hits, seed=1)
    assert bootstrap_interval(hits, seed=1, confidence=0.95) == (low, high)
    wide_low, wide_high = bootstrap_interval(hits, seed=1, confidence=0.99)
    assert wide_low < low < high < wide_high
    assert interval(210, 300) == interval(210, 300, confidence=0.95)


@pytest.mark.parametrize(("cells", "calls"), [(10**6, 1), (60, 5), (2, 100)])
def test_counts_are_drawn_in_tables_that_fit_the_memory(monkeypatch, cells, calls):
    """3 kinds and 100 samples: at most `cells` numbers at once, one sample at least, and the same
    means whatever the table.
    """

    class Watched:
        def __init__(self):
            self.rng, self.sizes = np.random.default_rng(0), []

        def multinomial(self, total, shares, size):
            self.sizes.append(size)
            return self.rng.multinomial(total, shares, size=size)

    values = np.repeat([-1, 0, 1], [10, 60, 30])
    whole = resampled_means(values, 100, np.random.default_rng(0))
    monkeypatch.setattr(intervals, "CELLS", cells)
    watched = Watched()
    assert np.array_equal(resampled_means(values, 100, watched), whole)
    assert len(watched.sizes) == calls
    assert sum(watched.sizes) == 100
