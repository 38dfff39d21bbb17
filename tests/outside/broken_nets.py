"""Backbones that each break one law, and a card that loads torch."""

from itertools import count

import torch
from hop_mixer.card import CARD as SOUND
from hop_mixer.card import count_hop_mixer
from hop_mixer.net import HopMixer
from torch import nn

from trainables.contract.backbones import BackboneCard
from trainables.reparam.fusible import Deployable, plain_copy

BUILT = count()


def card(network: type, **changes: object) -> BackboneCard:
    return BackboneCard(
        **{
            "name": network.__name__,
            "module": f"broken_nets:{network.__name__}",
            "about": "Breaks a law.",
            "counter": count_hop_mixer,
            "options": SOUND.options,
            **changes,
        }
    )


class Wrapped(HopMixer):
    """The sound network with every block inside another module."""

    def __init__(self, spec) -> None:
        super().__init__(spec)
        self.blocks = nn.ModuleList(self.around(block) for block in self.blocks)

    def around(self, block: nn.Module) -> nn.Module:
        return block


class Inner(Deployable):
    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x):
        return self.block(x)

    def deployed(self, folding):
        return plain_copy(self, folding)


class ForgetsAtDeployment(Wrapped):
    class Around(Inner):
        def forward(self, x):
            return self.block(x) + (0.1 if any(p.requires_grad for p in self.parameters()) else 0)

    def around(self, block):
        return self.Around(block)


class MixesClips(Wrapped):
    class Around(Inner):
        def forward(self, x):
            return self.block(x - x.mean(dim=0, keepdim=True))

    def around(self, block):
        return self.Around(block)


class SharesItsMemory(Wrapped):
    class Around(Inner):
        def deployed(self, folding):
            return self.eval()

    def around(self, block):
        return self.Around(block)


class HoldsAnIdleWeight(HopMixer):
    def __init__(self, spec) -> None:
        super().__init__(spec)
        self.idle = nn.Parameter(torch.ones(1))


class DependsOnTheTime(HopMixer):
    def __init__(self, spec) -> None:
        super().__init__(spec)
        self.head.fc.weight.data += next(BUILT)


class CannotBePickled(HopMixer):
    def __init__(self, spec) -> None:
        super().__init__(spec)
        self.scale = lambda x: x


class LearnsNothing(HopMixer):
    def features(self, clips):
        return super().features(clips).detach() * 0.0


class AsksTheData(Wrapped):
    class Around(Inner):
        def forward(self, x):
            return self.block(x) if float(x.sum()) > 0 else self.block(x) * 1.0

    def around(self, block):
        return self.Around(block)


def miscounted(network, tally) -> None:
    count_hop_mixer(network, tally)
    tally.leaf_params += 1


FORGETS = card(ForgetsAtDeployment)
MIXES = card(MixesClips)
MIXES_PERSONS = card(MixesClips, persons_apart=True)
SHARES = card(SharesItsMemory)
IDLE = card(HoldsAnIdleWeight)
TIME = card(DependsOnTheTime)
PICKLE = card(CannotBePickled)
NOTHING = card(LearnsNothing)
ASKS = card(AsksTheData)
MISCOUNTED = card(HopMixer, module="hop_mixer.net:HopMixer", counter=miscounted)
NO_BACKBONE = card(HopMixer, module="torch.nn:Linear")
STRANGE = card(HopMixer, module="hop_mixer.net:HopMixer", settings=("width",))
