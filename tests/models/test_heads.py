"""Exit heads on both kinds of states: values, cost, gradients and empty jets."""

import math
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from phaze_ee.engine.engine import Engine
from phaze_ee.exits.policies import ThresholdPolicy, exit_index
from phaze_ee.models import states as packed
from phaze_ee.models.heads import DEFAULT_SHAPE, EXIT_HEADS, AttentionExitHead, DeepSetsExitHead, HeadShape
from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.states import JetLayout, PackedState
from phaze_ee.models.tagger import Tagger
from tests.compiler import needs_compiler
from tests.jets import CHANNELS, CLASSES, random_jets, small_weaver_network

COUNTS = (3, 0, 12, 1, 30)
JETS = random_jets(COUNTS, length=30)
SHAPES = [DEFAULT_SHAPE, HeadShape(5, 3)]


def tagger_with(head: str) -> Tagger:
    torch.manual_seed(2)
    return Tagger(ParticleNet(small_weaver_network()), ["input", 0, 1, 2], head).double().eval()


def packed_state(counts: tuple[int, ...], channels: int = CHANNELS) -> PackedState:
    jets = random_jets(counts, channels=channels).ragged()
    return PackedState(jets.features_VC, jets.points_V2, JetLayout(jets.particle_count_N), max(counts))


@pytest.mark.parametrize("head", EXIT_HEADS)
def test_packed_and_padded_states_give_the_same_answer(head: str) -> None:
    tagger = tagger_with(head)
    torch.testing.assert_close(tagger.packed()(JETS), tagger(JETS), rtol=0, atol=1e-11)
    assert tagger(JETS).isfinite().all()


@pytest.mark.parametrize("head", EXIT_HEADS)
def test_jets_without_particles_get_one_finite_answer(head: str) -> None:
    tagger = tagger_with(head)
    empty = JETS.select(torch.tensor([1]))
    for form in (tagger, tagger.packed()):
        torch.testing.assert_close(form(empty), form(JETS)[:, 1:2], rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("head", EXIT_HEADS)
def test_macs_are_those_that_torch_counts(head: str, shape: HeadShape) -> None:
    module = EXIT_HEADS[head](CHANNELS, CLASSES, shape).double()
    for counts in ((4, 9), (1,), (5000,)):
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            module(packed_state(counts))
        assert int(module.macs(torch.tensor(counts)).sum()) == counter.get_total_flops() // 2


def test_deep_sets_on_17_inputs_cost_a_fifth_of_a_million_for_40_particles() -> None:
    assert int(DeepSetsExitHead(17, 10).macs(torch.tensor([40]))) == 40 * (17 * 64 + 64 * 64) + 128 * 64 + 64 * 10


def test_deep_sets_are_what_their_formula_says() -> None:
    module = DeepSetsExitHead(CHANNELS, CLASSES).double()
    state = packed_state((6,))
    weights = dict(module.per_particle.named_parameters())
    particle_VC = state.features_VC
    for layer in ("0", "2"):
        particle_VC = (particle_VC @ weights[f"{layer}.weight"].T + weights[f"{layer}.bias"]).relu()
    jet_1C = torch.cat([particle_VC.mean(dim=0), particle_VC.amax(dim=0)])[None]
    torch.testing.assert_close(module(state), module.per_jet(jet_1C))


@pytest.mark.parametrize(
    ("head", "names"),
    [
        ("linear", ["linear"]),
        ("deep_sets", ["per_particle.0", "per_particle.2", "per_jet.0", "per_jet.2"]),
    ],
)
def test_parameters_keep_the_names_that_older_checkpoints_have(head: str, names: list[str]) -> None:
    expected = [f"{name}.{part}" for name in names for part in ("weight", "bias")]
    assert list(EXIT_HEADS[head](CHANNELS, CLASSES).state_dict()) == expected


@pytest.mark.parametrize(("head", "hidden"), [("attention", 3), ("mlp", 3), ("deep_sets", 6)])
def test_width_and_depth_are_those_of_the_hidden_layers(head: str, hidden: int) -> None:
    module = EXIT_HEADS[head](CHANNELS, CLASSES, HeadShape(width=5, depth=3))
    widths = [layer.out_features for layer in module.modules() if isinstance(layer, torch.nn.Linear)]
    extra = {"attention": [1], "mlp": [], "deep_sets": [5]}[head]  # the query; what is averaged
    assert sorted(widths) == sorted([5] * hidden + extra + [CLASSES])


def test_mean_max_and_mlp_see_mean_and_maximum() -> None:
    state = packed_state((6,))
    both_1C = torch.cat([state.features_VC.mean(dim=0), state.features_VC.amax(dim=0)])[None]
    linear, mlp = (EXIT_HEADS[name](CHANNELS, CLASSES).double() for name in ("linear_mean_max", "mlp"))
    for module, layers in ((linear, linear.linear), (mlp, mlp.per_jet)):
        torch.testing.assert_close(module(state), layers(both_1C))  # type: ignore[operator]


@pytest.mark.parametrize("scale", [1.0, 1e4])  # with large scores exp alone would overflow
def test_attention_is_a_softmax_over_the_particles_of_each_jet(scale: float) -> None:
    module = AttentionExitHead(CHANNELS, CLASSES).double()
    torch.nn.init.normal_(module.query.weight, std=scale)
    state = packed_state((6, 1, 9))
    jets = torch.split(state.features_VC, [6, 1, 9])
    mean_NC = torch.stack([(module.query(jet_PC).softmax(dim=0) * jet_PC).sum(dim=0) for jet_PC in jets])
    torch.testing.assert_close(module(state), module.per_jet(mean_NC))
    wanted, found = (
        torch.autograd.grad(value.square().sum(), module.query.weight)[0]
        for value in (module.per_jet(mean_NC), module(state))
    )
    torch.testing.assert_close(found, wanted)


def test_large_batches_are_mapped_in_pieces_that_join_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    module, state, seen = DeepSetsExitHead(CHANNELS, CLASSES).double(), packed_state(COUNTS), []
    with torch.inference_mode():
        expected = module(state)
        monkeypatch.setattr(packed, "_ROWS", 10)
        module.per_particle.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
        torch.testing.assert_close(module(state), expected, rtol=0, atol=1e-12)
    assert max(seen) == 10
    assert sum(seen) == sum(COUNTS)


@pytest.mark.parametrize("kind", ["mean", "max"])
def test_pooling_differentiates_as_in_the_padded_form(kind: Any) -> None:
    state = packed_state(COUNTS)
    row_VC = state.features_VC.clone().requires_grad_()
    pooled_NC = PackedState(row_VC, row_VC, state.layout, 30).pool(kind)
    jets = [jet_PC for jet_PC in torch.split(row_VC, list(COUNTS)) if len(jet_PC)]
    each_MC = torch.stack([jet_PC.mean(dim=0) if kind == "mean" else jet_PC.amax(dim=0) for jet_PC in jets])
    (gradient_VC,), (expected_VC,) = (
        torch.autograd.grad(value.square().sum(), row_VC) for value in (pooled_NC, each_MC)
    )
    torch.testing.assert_close(gradient_VC, expected_VC)


@needs_compiler
@pytest.mark.parametrize("head", EXIT_HEADS)
def test_the_native_form_gives_the_same_answer(head: str) -> None:
    tagger = tagger_with(head)
    with torch.inference_mode():
        torch.testing.assert_close(tagger.native()(JETS), tagger(JETS), rtol=0, atol=1e-10)


@pytest.mark.parametrize("counts", [COUNTS, (0,), (0, 0, 0), (1,)])
@pytest.mark.parametrize("threshold", [-math.inf, 0.3, math.inf])
def test_jets_leave_at_the_inputs_as_the_offline_answers_say(counts: tuple[int, ...], threshold: float) -> None:
    tagger, jets = tagger_with("deep_sets"), random_jets(counts).ragged()
    policy = ThresholdPolicy("confidence", [threshold] * 4)
    with torch.inference_mode():
        logits_ENK = tagger(jets)
    expected_N = exit_index(policy, logits_ENK)
    for backend in ("auto", "given"):
        result = Engine(tagger, policy, backend=backend)(jets)
        assert result.exit_index_N.tolist() == expected_N.tolist()
        expected_NK = logits_ENK[expected_N, torch.arange(len(counts))]
        torch.testing.assert_close(result.logits_NK, expected_NK, rtol=0, atol=1e-10)
