"""How often the host waits for the card: on a walk not between stages, and once where an exit decides; in a step."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from phaze_ee.config.options import ExitOptions
from phaze_ee.engine.run import ChunkRun, MacsTable
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.particle_transformer import ParticleTransformer
from phaze_ee.models.tagger import Tagger
from phaze_ee.registry import loss_strategies
from phaze_ee.training.losses import WorkingPoint, make_loss
from phaze_ee.types import JetInputs, Jets, LoadedJets, Padding, RaggedJets
from tests.jets import CHANNELS, CLASSES, random_jets, small_tagger, small_weaver_network
from tests.kernels.waits import Waits
from tests.models.test_particle_transformer import weaver_part
from tests.models.training_step import NO_DROPOUT

COUNTS = (3, 9, 1, 0, 5)
POINT = WorkingPoint(signal=1, background=0, efficiency=0.5, lost=0.01)


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
        (lambda tensor: tensor.new_tensor([1.0]), ["new_tensor"]),
        (lambda tensor: tensor[torch.arange(2)], ["arange"]),
        (lambda tensor: tensor[torch.arange(2, device=tensor.device)], []),
    ],
)
def test_what_is_counted(wait: object, named: list[str]) -> None:
    assert callable(wait)
    tensor = torch.tensor([0.0, 1.0, 2.0])
    with Waits() as waits:
        wait(tensor)
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
    run = ChunkRun(
        tagger.walk(jets, exits=policy.exits), policy, jets, macs, None, jets.particle_count_N
    )  # looks costs up
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


def from_files(jets: JetInputs) -> LoadedJets:
    """The jets as a loader gives them, with padding that is not zero."""
    rows = jets.ragged()
    padding = Padding(12, {"points": (0.0,), "features": tuple(map(float, range(CHANNELS))), "vectors": (0.0,)})
    return LoadedJets(rows.points_V2, rows.features_VC, rows.vectors_V4, rows.particle_count_N, padding)


def names_of_a_step(tagger: Tagger, jets: Jets) -> list[str]:
    """What the host waits for in the second of two steps, from the jets to the gradients."""
    for _ in range(2):
        with Waits() as waits:
            tagger(jets).square().mean().backward()
    return waits.names


@pytest.mark.parametrize("strategy", loss_strategies())
def test_losses_do_not_wait(strategy: str) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loss: Any = make_loss(strategy, ExitOptions(), POINT, 2)
    if isinstance(loss, torch.nn.Module):
        loss.to(device)
    logits_ENK = torch.randn(3, 40, CLASSES, device=device, requires_grad=True)
    label_N = torch.arange(40, device=device) % CLASSES
    with Waits() as waits:
        (cross_entropy(logits_ENK[-1], label_N) + loss(logits_ENK, label_N).sum()).backward()
    assert waits.names == []


@pytest.fixture
def fuses(on_card: torch.device, monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """The device, with the kernels of training too."""
    for user in ("fused", "batch_norm"):
        monkeypatch.setattr(f"phaze_ee.models.particle_net.{user}.runs_kernels", lambda tensor: True)
    monkeypatch.setattr("phaze_ee.models.particle_net.training._mean_over_edges", None)
    return on_card


@pytest.mark.parametrize("trim", [False, True])
def test_a_step_of_particle_net_waits_only_to_trim(trim: bool, fuses: torch.device) -> None:
    network = small_weaver_network(trim=trim, conv_params=[(2, (4, 4))])
    network.trimmer._counter.fill_(5)  # it trims from the sixth call on
    tagger = Tagger(ParticleNet(network), ("input", 0)).float().packed().train().to(fuses)
    jets = from_files(random_jets(COUNTS, dtype=torch.float32)).to(fuses)
    assert names_of_a_step(tagger, jets) == ["tolist"] * trim


@pytest.mark.parametrize(("counts", "expected"), [(COUNTS, ["__int__"]), ((5,), []), ((0,), [])])
@torch.inference_mode()
def test_a_walk_of_a_transformer_waits_for_the_number_of_pairs(
    counts: tuple[int, ...], expected: list[str], on_card: torch.device
) -> None:
    backbone = ParticleTransformer(weaver_part(num_layers=2, num_cls_layers=1))
    tagger = Tagger(backbone, (0, 1)).float().packed().eval().to(on_card)
    jets = from_files(random_jets(counts, dtype=torch.float32)).to(on_card).ragged()
    for _ in range(2):
        with Waits() as waits:
            list(tagger.walk(jets))
    assert waits.names == expected


@pytest.mark.parametrize("trim", [False, True])
def test_a_step_of_a_transformer_waits_for_the_number_of_pairs(trim: bool, on_card: torch.device) -> None:
    # Without dropout, which draws its seed on the CPU.
    blocks: dict[str, Any] = {
        "block_params": NO_DROPOUT,
        "cls_block_params": NO_DROPOUT,
        "num_layers": 1,
        "num_cls_layers": 1,
    }
    network = weaver_part(trim=trim, **blocks)
    network.trimmer._counter.fill_(5)
    tagger = Tagger(ParticleTransformer(network), (0,)).float().packed().train().to(on_card)
    jets = from_files(random_jets(COUNTS, dtype=torch.float32)).to(on_card)
    assert names_of_a_step(tagger, jets) == [*["tolist"] * trim, "__int__"]
