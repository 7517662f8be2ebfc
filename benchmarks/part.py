"""Compares Particle Transformers on real jets: weaver's module, ours with jets grouped by length, ours with exits.

    python benchmarks/part.py SHARED [--jets 120] [--rounds 3]

The networks have random weights, full size and the seven kinematic inputs. SHARED is the folder with real jets. All
take turns, so that the ratios are fair on a machine that does other work. With the policy, half of the jets leave after
block 1.
"""

import argparse
import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from weaver.nn.model.ParticleTransformer import ParticleTransformer as WeaverParticleTransformer

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.engine import Rivals, race, show
from phaze_ee.engine.engine import Engine
from phaze_ee.exits.policies import ExitPolicy
from phaze_ee.models.particle_transformer import ParticleTransformer
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetInputs
from tests.published import real_jets

THREADS, BATCH = 2, 100
PADDED, TRIMMED = "weaver padded to 128", "weaver trimmed"
BUCKETS, EXITS = f"ours in buckets, {THREADS} threads", "ours, half leave after block 1"


class HalfLeaves(ExitPolicy):
    """Half of the jets leave at the first exit, at random: their size does not matter."""

    def __call__(self, logits_ENK: Tensor) -> Tensor:
        return (logits_ENK[-1, :, 0] * 1e3).remainder(1) < 0.5

    def check(self, exit_count: int) -> None:
        pass


def network(*, trim: bool) -> Any:
    torch.manual_seed(0)
    module: Any = WeaverParticleTransformer(7, 10, trim=trim).eval()
    module.trimmer._counter.fill_(module.trimmer.warmup_steps)  # it does not trim in its first calls
    return module


@torch.no_grad()
def run_weaver(module: Any, jets: JetInputs) -> None:
    for start in range(0, len(jets), BATCH):
        batch = jets.select(torch.arange(start, min(start + BATCH, len(jets))))
        module(batch.features, batch.vectors, batch.mask)


class Unsorted(ParticleTransformer):  # type: ignore[misc]  # final for users; here it shows what grouping gains
    """The same network, but the engine does not group its jets by length."""

    pads_to_longest = False


def rivals(jets: JetInputs) -> Rivals:
    module = network(trim=True)
    full, with_exit = (Tagger(ParticleTransformer(module), stages).eval() for stages in ([], [1]))
    unsorted = Tagger(Unsorted(module), []).eval()
    return {
        PADDED: partial(run_weaver, network(trim=False), jets),
        TRIMMED: partial(run_weaver, network(trim=True), jets),
        f"ours, no buckets, {THREADS} threads": partial(Engine(unsorted, threads=THREADS), jets),
        "ours in buckets, 1 thread": partial(Engine(full, threads=1), jets),
        BUCKETS: partial(Engine(full, threads=THREADS), jets),
        EXITS: partial(Engine(with_exit, HalfLeaves(), threads=THREADS), jets),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--jets", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    torch.set_num_threads(THREADS)
    jets = real_jets(arguments.shared)[0].select(torch.arange(arguments.jets))
    print(f"{len(jets)} jets, {jets.particle_count_N.double().mean():.1f} particles on average, {THREADS} threads")
    show("Particle Transformer", race(rivals(jets), len(jets), arguments.rounds), [PADDED, TRIMMED, BUCKETS])


if __name__ == "__main__":
    main()
