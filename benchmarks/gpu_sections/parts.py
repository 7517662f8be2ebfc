"""Jets with real multiplicities, and the networks: weaver's modules and ours over the same parameters."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from weaver.nn.model.ParticleNet import ParticleNet as WeaverParticleNet
from weaver.nn.model.ParticleTransformer import ParticleTransformer as WeaverParticleTransformer

from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.particle_transformer import ParticleTransformer
from phaze_ee.models.tagger import Tagger
from phaze_ee.names import ExitStage
from phaze_ee.shapes import Float, Int
from phaze_ee.types import JetInputs, RaggedJets
from tests.jets import random_jets
from tests.published import published_network, real_jets

# The deciles of the multiplicity of 248 real jets of all ten classes of JetClass; on average 39.3 particles.
DECILES = (8, 20, 25, 29, 33, 38, 45, 49, 53, 58, 80)
CHANNELS, CLASSES = 7, 10
CASCADE: tuple[ExitStage, ...] = ("input", 0, 1)


@dataclass(frozen=True)
class Setting:
    """What all sections share.

    Attributes:
        device: where the networks run.
        batch: jets in a batch.
        rounds: timed calls.
        tiny: small networks, and no compiler, to try every section on a CPU.
        shared: a folder with ``data`` and ``weights``, of real jets and published weights; None: there is none.
    """

    device: torch.device
    batch: int
    rounds: int
    tiny: bool
    shared: Path | None

    def jets(self, count: int, *, qcd: bool = False) -> "Sample":
        """Return jets: real ones, repeated, or random ones of the same multiplicities.

        Args:
            count: the number of jets.
            qcd: 99.9 % of them are QCD, instead of all classes alike.
        """
        torch.manual_seed(0)
        if self.shared is None:
            counts = torch.tensor(DECILES).double()
            place_N = torch.rand(count, dtype=torch.float64) * (len(DECILES) - 1)
            low_N = place_N.long()
            count_N = (counts[low_N] + (counts[low_N + 1] - counts[low_N]) * (place_N - low_N)).round().long()
            inputs = random_jets(count_N.tolist(), channels=CHANNELS, dtype=torch.float32)
            return Sample.on(self.device, inputs, torch.randint(CLASSES, (count,)))
        inputs, label_N = real_jets(self.shared)
        index_N = torch.randperm(len(label_N))
        if qcd:
            index_N = index_N[label_N[index_N] == 0]
        index_N = index_N[torch.arange(count) % len(index_N)]
        if qcd:
            index_N[::1000] = int((label_N != 0).nonzero()[0, 0])
        return Sample.on(self.device, inputs.select(index_N), label_N[index_N])

    def exits(self, network: str) -> tuple[ExitStage, ...]:
        """Return three stages after which an exit is trained."""
        return (1, 3, 5) if network == "ParT" and not self.tiny else (0, 1, 2)

    def weaver(self, network: str) -> nn.Module:
        """Return weaver's module in evaluation mode, with published weights where they are there."""
        torch.manual_seed(0)
        if network == "ParT":
            small = {"embed_dims": (16, 16), "pair_embed_dims": (8, 8), "num_layers": 3, "num_cls_layers": 1}
            module: nn.Module = WeaverParticleTransformer(
                CHANNELS, CLASSES, trim=False, **({**small, "num_heads": 2} if self.tiny else {})
            )
        elif self.shared is not None and not self.tiny:
            module = published_network(self.shared, "kin")
        else:
            widths = (4, 4, 8) if self.tiny else (64, 128, 256)
            blocks = [(4 if self.tiny else 16, (width,) * 3) for width in widths]
            module = WeaverParticleNet(
                CHANNELS, CLASSES, conv_params=blocks, fc_params=[(widths[-1], 0.1)], use_fusion=False, trim=False
            )
        return module.to(self.device).eval()

    def tagger(self, network: str, exits: tuple[ExitStage, ...]) -> Tagger:
        """Return our network over the parameters of :meth:`weaver`, with linear exits, in evaluation mode."""
        module: Any = self.weaver(network)
        backbone = ParticleTransformer(module) if network == "ParT" else ParticleNet(module)
        return Tagger(backbone, exits).to(self.device).eval()

    def form(self, tagger: Tagger) -> Tagger:
        """Return the form of our network that runs on a card, also where a CPU tries the sections."""
        return tagger.packed() if self.tiny else tagger.fastest_form()


@dataclass(frozen=True)
class Sample:
    """Jets on the device, without padding and cut to the longest one, and their classes."""

    ragged: RaggedJets
    padded: JetInputs
    label_N: Int[Tensor, " N"]

    @classmethod
    def on(cls, device: torch.device, inputs: JetInputs, label_N: Tensor) -> "Sample":
        """Return jets that are on the CPU, moved to a device."""
        ragged = inputs.ragged()
        return cls(ragged.to(device), ragged.padded().to(device), label_N.to(device))

    def __len__(self) -> int:
        return len(self.ragged)

    def first(self, count: int) -> "Sample":
        """Return the first jets, cut to the longest one of all."""
        index_N = torch.arange(min(count, len(self)), device=self.label_N.device)
        return Sample(self.ragged.select(index_N), self.padded.select(index_N), self.label_N[index_N])


def answers(module: nn.Module, network: str, jets: JetInputs) -> Float[Tensor, "N K"]:
    """Call weaver's module on padded jets."""
    if network == "ParT":
        return cast(Tensor, module(jets.features, v=jets.vectors, mask=jets.mask.bool()))
    return cast(Tensor, module(jets.points, jets.features, jets.mask.bool()))
