"""Compiles all kernels for cards that this machine does not have, with the very arguments of a launch.

    python tests/kernels/without_card.py [90 89] [--precision float32 tf32 float16 bfloat16]

Networks of the published and of the largest sizes answer and train a step on the CPU, where each launch only
compiles. Printed is the shared memory that a program of each kernel takes; the exit status is 1 if a card has less. The
interpreter does not know types and sizes as a card does, so what it runs may still not compile.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)  # read when Triton is imported
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction
from weaver.nn.model.ParticleNet import ParticleNet as WeaverParticleNet
from weaver.nn.model.ParticleTransformer import ParticleTransformer as WeaverParticleTransformer

from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.particle_transformer import ParticleTransformer
from phaze_ee.models.precision import HALF
from phaze_ee.models.tagger import Tagger
from tests.jets import random_jets

# Bytes of shared memory that a program may take (CUDA C++ Programming Guide, compute capabilities).
SHARED = {card: kilobytes * 1024 for card, kilobytes in {80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}.items()}
USERS = (
    *(f"particle_net.{user}" for user in ("neighbours", "edge_conv", "fused", "batch_norm")),
    "ragged_attention",
    "fused_pairs",
    "token_rows",
)
COUNTS = (3, 40, 1, 0, 17)
CHANNELS, CLASSES = 17, 10


class NoCard:
    """What Triton asks of a driver before it compiles."""

    def __init__(self, capability: int) -> None:
        self.capability = capability

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int = 0) -> int:
        return 0


@contextmanager
def compiling(capability: int, found: Callable[[str, int], None]) -> Iterator[None]:
    """Let launches compile instead, and tell the name and the shared memory of each kernel."""
    launch = JITFunction.run
    seen: set[str] = set()

    def run(kernel: Any, *given: Any, grid: Any, warmup: bool, **options: Any) -> None:
        compiled = launch(kernel, *given, grid=grid, warmup=True, **options)
        if compiled.hash not in seen:
            seen.add(compiled.hash)
            found(kernel.fn.__name__, compiled.metadata.shared)

    triton.runtime.driver.set_active(NoCard(capability))
    JITFunction.run = run
    try:
        yield
    finally:
        JITFunction.run = launch


def pretend() -> None:
    """Take the kernels on the CPU. What they would write is zero, so that it can be an index."""
    for user in USERS:
        module = sys.modules[f"phaze_ee.models.{user}"]
        module.runs_kernels = lambda tensor: True  # type: ignore[attr-defined]
    Tensor.new_empty = lambda tensor, *size, **options: tensor.new_zeros(*size, **options)  # type: ignore[assignment, method-assign]
    torch.empty_like = torch.zeros_like


def networks() -> dict[str, Tagger]:
    """The networks, in the published sizes (arXiv:1902.08570, arXiv:2202.03772), of uneven and of the largest sizes."""
    blocks = {
        "ParticleNet": [(16, (64, 64, 64)), (16, (128, 128, 128)), (16, (256, 256, 256))],
        "ParticleNet, uneven": [(7, (12, 96)), (1, (5,))],
        "ParticleNet, widest": [(64, (256, 256, 256, 256))],
    }
    convolution = {
        name: ParticleNet(WeaverParticleNet(CHANNELS, CLASSES, conv_params=params)) for name, params in blocks.items()
    }
    attention = {
        "ParticleTransformer": transformer([128, 512, 128], [64, 64, 64], heads=8),
        "ParticleTransformer, widest": transformer([256], [256, 256], heads=2),
    }
    backbones: dict[str, Any] = {**convolution, **attention}
    return {name: Tagger(backbone, [0], "linear") for name, backbone in backbones.items()}


def transformer(embed: list[int], pair_embed: list[int], heads: int) -> ParticleTransformer:
    """A network with as many blocks as there are kinds of launches."""
    return ParticleTransformer(
        WeaverParticleTransformer(
            CHANNELS,
            num_classes=CLASSES,
            pair_input_dim=4,
            embed_dims=embed,
            pair_embed_dims=pair_embed,
            num_heads=heads,
            num_layers=2,
            num_cls_layers=1,
            trim=False,
        )
    )


def walk(tagger: Tagger, precision: str) -> None:
    """Answer, and train a step."""
    jets = random_jets(COUNTS, channels=CHANNELS).map(lambda one: one.float() if one.is_floating_point() else one)
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    half = HALF.get(precision)
    for training in (False, True):
        packed = tagger.packed().train(training)
        with torch.set_grad_enabled(training), torch.autocast("cpu", half or torch.bfloat16, enabled=half is not None):
            logits_ENK = packed(jets if training else jets.ragged())
        if training:
            logits_ENK.float().sum().backward()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("capability", type=int, nargs="*", default=[90], choices=SHARED)
    parser.add_argument("--precision", nargs="+", default=["float32", "tf32", "float16", "bfloat16"])
    given = parser.parse_args(arguments)
    taggers = networks()
    pretend()
    large = 0
    for capability in given.capability:
        for name, tagger in taggers.items():
            for precision in given.precision:
                largest: dict[str, int] = {}

                def found(kernel: str, shared: int, largest: dict[str, int] = largest) -> None:
                    largest[kernel] = max(shared, largest.get(kernel, 0))

                with compiling(capability, found):
                    walk(tagger, precision)
                for kernel, shared in sorted(largest.items()):
                    large += shared > SHARED[capability]
                    title = f"{capability}  {name:<28}{precision:<10}{kernel.strip('_'):<24}"
                    print(f"{title}{shared / 1024:>6.1f} kB", flush=True)
    return int(large > 0)


if __name__ == "__main__":
    sys.exit(main())
