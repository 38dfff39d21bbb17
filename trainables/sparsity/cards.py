"""The cards of our generators. Imports no torch."""

from __future__ import annotations

from trainables.contract.generators import GeneratorCard

_SCOPE = ("scope", "distribution")
_WARMUP = ("warmup", "penalty", "penalty_weight")
_STRUCTURE = ("structure", "sharing")
_EXCHANGE = ("update_every", "update_share", "update_until")

FIXED_RANDOM = GeneratorCard(
    name="fixed_random",
    module="trainables.sparsity.build:fixed",
    about="Drawn once, before training, and kept.",
    settings=(*_SCOPE, *_STRUCTURE, *_WARMUP),
    drawn=True,
    dense_until="warmup",
)
MAGNITUDE_AT_INIT = GeneratorCard(
    name="magnitude_at_init",
    module="trainables.sparsity.build:fixed",
    about="The weights of the largest initial magnitude stay.",
    settings=(*_SCOPE, *_STRUCTURE, *_WARMUP),
    dense_until="warmup",
)
PREDEFINED = GeneratorCard(
    name="predefined",
    module="trainables.sparsity.build:predefined",
    about="The masks of a file.",
    settings=("mask", *_WARMUP),
    dense_until="warmup",
)
SCORE_TRAINABLE = GeneratorCard(
    name="score_trainable",
    module="trainables.sparsity.build:trained_scores",
    about="As released: scores move with the weights.",
    settings=(*_SCOPE, *_WARMUP),
    scored=True,
)
SUPERMASK = GeneratorCard(
    name="supermask",
    module="trainables.sparsity.build:supermask",
    about="A lottery ticket: scores are trained, weights are not.",
    settings=(*_SCOPE, "train_head"),
    scored=True,
)
REWINDING = GeneratorCard(
    name="rewinding",
    module="trainables.sparsity.build:rewinding",
    about="Iterative magnitude pruning.",
    settings=(*_SCOPE, "rounds", "rewind_epoch"),
    dense_until="pruning",
)
RIGL = GeneratorCard(
    name="rigl",
    module="trainables.sparsity.build:exchange",
    about="Weights are dropped by magnitude and grown by gradient while training.",
    settings=(*_SCOPE, *_EXCHANGE),
    drawn=True,
)
SET = GeneratorCard(
    name="set",
    module="trainables.sparsity.build:exchange",
    about="Weights are dropped by magnitude and grown at random while training.",
    settings=(*_SCOPE, *_EXCHANGE),
    drawn=True,
)
