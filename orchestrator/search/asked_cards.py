"""The cards of the searches that make their trials one by one."""

from orchestrator.sweep.searches import SearchCard

QMC = SearchCard(
    name="qmc",
    module="orchestrator.search.qmc:search",
    about="quasi-random assignments, which fill the space evenly",
    given="asked",
)
