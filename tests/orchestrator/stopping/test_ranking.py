import random

import pytest

from orchestrator.stopping.ranking import Fronts, Ranking
from tests.orchestrator.stopping.naive_ranking import naive_fronts


def drawn(seed, number, objectives, levels=4):
    rng = random.Random(seed)
    return [tuple(float(rng.randrange(levels)) for _ in range(objectives)) for _ in range(number)]


@pytest.mark.parametrize("objectives", [1, 2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_fronts_match_naive_after_every_point(seed, objectives):
    points, found = drawn(seed, 25, objectives), Fronts()
    for number, point in enumerate(points, start=1):
        found.add(point)
        fronts = naive_fronts(points[:number])
        assert [found.of(each) for each in range(number)] == fronts
        assert [sorted(each) for each in found.members] == [
            [each for each, front in enumerate(fronts) if front == level]
            for level in range(max(fronts) + 1)
        ]


@pytest.mark.parametrize("objectives", [1, 2])
def test_who_is_ahead_matches_naive(objectives):
    points, ranking = drawn(1, 20, objectives), Ranking()
    for number, point in enumerate(points, start=1):
        arrival = ranking.add(point)
        fronts = naive_fronts(points[:number])
        own = fronts[arrival]
        assert ranking.better(arrival) == sum(front < own for front in fronts)
    ahead = [ranking.before(arrival) for arrival in range(len(points))]
    assert sorted(ahead) == list(range(len(points)))
    order = sorted(range(len(points)), key=lambda i: (fronts[i], i))
    assert [ahead[i] for i in order] == sorted(ahead)
