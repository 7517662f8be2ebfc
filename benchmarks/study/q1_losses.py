"""Question 1: which exit loss generalises best."""

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

from benchmarks.study.cells import Cell
from benchmarks.study.frozen import FrozenNetwork
from benchmarks.study.jets import JUDGED
from benchmarks.study.judge import judged
from phaze_ee.names import ExitStage

QUESTION = 1
HEADS = ("deep_sets", "linear", "mlp")
LOSSES = ("distill", "target", "mimic")
SEEDS = range(5)
STAGES: tuple[ExitStage, ...] = ("input", 0, 1)


def frozen_cells(network: FrozenNetwork) -> Iterator[Cell]:
    """Yield three losses with three heads and five seeds on the frozen network, all losses of one seed first.

    The backbone does not learn, so NAME_flow is NAME_detached.
    """
    for seed, head, loss in product(SEEDS, HEADS, LOSSES):
        recipe = {"exit_head": head, "exit_loss_strategy": f"{loss}_detached"}
        parameters = {"weights": network.weights.name, "stages": STAGES, "seed": seed, "epochs": 8, **recipe}
        yield Cell(QUESTION, f"frozen/{loss}_{head}_{seed}", parameters, partial(_frozen, network, recipe, seed))


def _frozen(network: FrozenNetwork, recipe: dict[str, Any], seed: int) -> Any:
    tagger = network.trained(STAGES, recipe, seed)
    samples = {name: network.answers(tagger, name) for name in JUDGED}
    return judged(network.answers(tagger, "calibration"), samples)
