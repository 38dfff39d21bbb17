"""The cards of the searches that make their trials one by one."""

from orchestrator.sweep.searches import SearchCard

QMC = SearchCard(
    name="qmc",
    module="orchestrator.search.qmc:search",
    about="quasi-random assignments, which fill the space evenly",
    given="asked",
)
TPE = SearchCard(
    name="tpe",
    module="orchestrator.search.learning.search:tpe",
    about="learns where good trials lie (tree-structured Parzen estimator)",
    given="asked",
    learns=True,
)
GP = SearchCard(
    name="gp",
    module="orchestrator.search.learning.search:gp",
    about="learns a smooth model of the objectives (Gaussian process), for few trials",
    given="asked",
    learns=True,
    most_trials=300,
)
NSGA2 = SearchCard(
    name="nsga2",
    module="orchestrator.search.learning.search:nsga2",
    about="breeds the best of earlier trials, for several objectives and many trials",
    given="asked",
    learns=True,
)
AUTO = SearchCard(
    name="auto",
    module="orchestrator.search.auto:search",
    about="tpe, or a plain search where there is nothing to learn",
    given="asked",
    learns=True,
)
