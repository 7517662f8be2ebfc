"""Jets and small networks for tests: random, but the same on every run."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from weaver.nn.model.ParticleNet import ParticleNet as WeaverParticleNet

from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.tagger import Tagger
from phaze_ee.names import ExitStage
from phaze_ee.types import JetBatch, JetInputs

CHANNELS = 7
CLASSES = 4
SMALL_NETWORK = {
    "input_dims": CHANNELS,
    "num_classes": CLASSES,
    "conv_params": [(4, (8, 8)), (4, (8, 8)), (4, (12, 12))],
    "fc_params": [(16, 0.1)],
    "use_fusion": False,
    "use_fts_bn": True,
    "use_counts": True,
}


def random_jets(
    particle_counts: Sequence[int],
    *,
    length: int | None = None,
    channels: int = CHANNELS,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> JetInputs:
    """Jets with the given numbers of particles, zero-padded to ``length``."""
    generator = torch.Generator().manual_seed(seed)
    length = max([*particle_counts, 1]) if length is None else length
    valid = torch.arange(length)[None, None] < torch.tensor(particle_counts).view(-1, 1, 1)

    def draw(width: int) -> Tensor:
        values = torch.randn(len(particle_counts), width, length, generator=generator, dtype=dtype)
        return values.masked_fill(~valid, 0)

    points, features, vectors = draw(2), draw(channels), draw(4)
    # Four-momenta that can be: the energy is at least the momentum.
    vectors[:, 3] = vectors.square().sum(dim=1).sqrt()
    return JetInputs(points, features, vectors, valid.to(dtype))


def small_weaver_network(*, seed: int = 0, trim: bool = False, **changes: object) -> WeaverParticleNet:
    """weaver's own module, with BatchNorm statistics that are not the trivial ones."""
    torch.manual_seed(seed)
    network = WeaverParticleNet(**{**SMALL_NETWORK, "trim": trim, **changes}).double()
    normalisations: list[Any] = [module for module in network.modules() if hasattr(module, "running_mean")]
    for module in normalisations:
        torch.nn.init.normal_(module.running_mean, std=0.3)
        torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
        torch.nn.init.uniform_(module.weight, 0.5, 1.5)
        torch.nn.init.normal_(module.bias, std=0.3)
    return network.eval()


def small_tagger(exit_stages: Sequence[ExitStage] = (0, 1, 2), *, seed: int = 0, **changes: Any) -> Tagger:
    """A small ParticleNet with linear exits, in double precision and evaluation mode."""
    return Tagger(ParticleNet(small_weaver_network(seed=seed, **changes)), exit_stages).double().eval()


def labelled_batch(jets: int, *, seed: int = 0, dtype: torch.dtype = torch.float32, shift: float = 0.0) -> JetBatch:
    """A batch whose classes differ by ``shift`` in their features, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(5, 12, (jets,), generator=generator)
    label_N = torch.randint(0, CLASSES, (jets,), generator=generator)
    # More padded slots than neighbours: with fewer, the neighbours of padding are ties that rounding decides.
    inputs = random_jets(counts.tolist(), length=17, seed=seed, dtype=dtype)
    features = inputs.features + shift * label_N.view(-1, 1, 1) * inputs.mask
    return JetBatch(JetInputs(inputs.points, features, inputs.vectors, inputs.mask), label_N)
