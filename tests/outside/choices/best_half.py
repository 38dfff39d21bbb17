"""A strategy and its card: equal weights for the better half of the sources."""

from pydantic import BaseModel

from orchestrator.ensembling.strategies.sources import Sources
from orchestrator.sweep.strategies import StrategyCard

CARD = StrategyCard(
    name="best_half",
    module="choices.best_half:choose",
    about="Equal weights for the better half of the sources.",
    needs_selection=True,
)


def choose(sources: Sources, options: BaseModel) -> dict[str, float]:
    """1 / n for each of the n best by selection accuracy; the others are left out."""
    right = (sources.values.argmax(axis=2) == sources.labels).mean(axis=1)
    ranked = sorted(zip(-right, sources.members, strict=True))
    half = [name for _, name in ranked[: (len(ranked) + 1) // 2]]
    return dict.fromkeys(half, 1.0 / len(half))
