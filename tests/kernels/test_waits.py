"""How often the host waits for the card on a walk: not between stages, and once where an exit decides."""

import math
from collections.abc import Sequence

import pytest
import torch

from phaze_ee.engine.run import ChunkRun, MacsTable
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import RaggedJets
from tests.jets import random_jets, small_tagger
from tests.kernels.waits import Waits

COUNTS = (3, 9, 1, 0, 5)


def tagger_and_jets(device: torch.device, head: str = "linear") -> tuple[Tagger, RaggedJets]:
    tagger = Tagger(small_tagger(()).backbone, (0, 1), head).float().eval().to(device)
    jets = random_jets(COUNTS).map(lambda tensor: tensor.float() if tensor.is_floating_point() else tensor)
    return tagger.packed(), jets.ragged().to(device)


@pytest.mark.parametrize(
    ("wait", "named"),
    [
        (lambda tensor: tensor.sum().item(), ["item"]),
        (lambda tensor: bool((tensor > 0).all()), ["__bool__"]),
        (lambda tensor: tensor.tolist(), ["tolist"]),
        (lambda tensor: tensor[tensor > 0], ["aten.index.Tensor"]),
        (lambda tensor: tensor.nonzero(), ["aten.nonzero.default"]),
        (lambda tensor: torch.repeat_interleave(tensor.long()), ["aten.repeat_interleave.Tensor"]),
        (lambda tensor: torch.repeat_interleave(tensor.long(), output_size=3), []),
        (lambda tensor: torch.where(tensor > 0, tensor, 1.0), []),
    ],
)
def test_what_is_counted(wait: object, named: list[str]) -> None:
    assert callable(wait)
    with Waits() as waits:
        wait(torch.tensor([0.0, 1.0, 2.0]))
    assert waits.names == named


@torch.inference_mode()
@pytest.mark.parametrize("head", ["linear", "mlp", "deep_sets", "attention"])
def test_stages_and_heads_do_not_wait(head: str, on_card: torch.device) -> None:
    tagger, jets = tagger_and_jets(on_card, head)
    tagger(jets)  # the weights are folded in the first walk
    with Waits() as waits:
        list(tagger.walk(jets))
    assert waits.names == []


@torch.inference_mode()
@pytest.mark.parametrize(
    ("thresholds", "expected"),
    [
        ([math.inf, math.inf], []),  # no exit is evaluated
        ([2.0, 2.0], ["tolist", "tolist"]),  # no jet leaves
        ([0.0, 0.0], ["tolist"]),  # all leave at the first exit
        (["median", 2.0], ["tolist", "tolist", "aten.repeat_interleave.self_Tensor"]),  # some leave, and are dropped
    ],
)
def test_an_exit_waits_once_to_decide_and_once_to_drop(
    thresholds: Sequence[float | str], expected: list[str], on_card: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phaze_ee.engine.run._SELECT_MACS", 0)
    monkeypatch.setattr("phaze_ee.engine.run._SELECT_MACS_PER_PARTICLE", 0)
    tagger, jets = tagger_and_jets(on_card)
    median = tagger(jets)[0].softmax(dim=-1).amax(dim=-1).median()
    policy = ThresholdPolicy("confidence", [float(median) if cut == "median" else float(cut) for cut in thresholds])
    macs = MacsTable(tagger, policy.exits)
    run = ChunkRun(tagger, policy, jets, macs, None, jets.particle_count_N)  # looks costs up
    run.waiting_costs = True
    with Waits() as waits:
        run.finish()
    assert waits.names == expected


@torch.inference_mode()
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_card_itself_sees_no_wait(on_card: torch.device) -> None:
    tagger, jets = tagger_and_jets(on_card)
    tagger(jets)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        list(tagger.walk(jets))
    finally:
        torch.cuda.set_sync_debug_mode("default")
