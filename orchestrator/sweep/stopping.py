"""The ways in which a sweep file may end trials before their last epoch: one record per type.

Knows what may be written; when a trial ends is decided in orchestrator/stopping.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from trainables.contract.config import Frozen

Epochs = Annotated[int, Field(ge=1, le=100_000)]


class EarlyTerminate(Frozen):
    """What all types that end trials have in common."""

    # epochs of training that count for no comparison; after_warmup: until the masks are final
    min_epochs: Literal["after_warmup"] | Epochs = "after_warmup"
    # min_epochs may lie before the masks are final, where all levels are the same dense network
    during_warmup: bool = False

    @field_validator("during_warmup")
    @classmethod
    def _is_used(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("min_epochs") == "after_warmup":
            raise ValueError("has no effect where min_epochs is after_warmup; leave it out")
        return value


class NoEarlyTermination(Frozen):
    """Every trial trains to its last epoch."""

    type: Literal["none"] = "none"


class AshaOptions(EarlyTerminate):
    """Asynchronous successive halving: at every rung the best 1/eta of the trials go on."""

    type: Literal["asha"]
    eta: int = Field(default=3, ge=2, le=1000)  # a rung lets the best 1/eta of its trials go on
    # epochs after min_epochs until the first rung, each later one eta times as many; default: a
    # third of the trial's epochs after min_epochs
    grace: Epochs | None = None


class MedianOptions(EarlyTerminate):
    """A trial ends whose best epoch is worse than the median of the others' running averages."""

    type: Literal["median"]
    min_trials: int = Field(default=3, ge=1)  # others that must have come as far
    # epochs after min_epochs until the first comparison; default: a third of those after min_epochs
    grace: Epochs | None = None


class PlateauOptions(EarlyTerminate):
    """A trial ends that does not improve any more, unless it is its cell's best."""

    type: Literal["plateau"]
    patience: Epochs = 10  # epochs without a better one


class AfterEpochsOptions(EarlyTerminate):
    """All but the best trials of a cell end after the same number of epochs."""

    type: Literal["after_epochs"]
    keep: int = Field(default=1, ge=1)  # trials of a cell that train to their last epoch
    # epochs after min_epochs until the comparison; default: a third of those after min_epochs
    grace: Epochs | None = None


Comparing = AshaOptions | MedianOptions | PlateauOptions | AfterEpochsOptions
StoppingOptions = Annotated[NoEarlyTermination | Comparing, Field(discriminator="type")]
