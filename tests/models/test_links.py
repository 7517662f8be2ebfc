"""Links between exits: answers against their formulas written with NumPy, gradients, and what is evaluated."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from phaze_ee.engine.engine import Engine
from phaze_ee.errors import UsageError
from phaze_ee.exits.policies import ThresholdPolicy, exit_index
from phaze_ee.exits.scores import make_score
from phaze_ee.models.links import EXIT_LINKS
from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.states import JetLayout, PackedState
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetInputs
from tests.jets import CLASSES, random_jets, small_weaver_network

COUNTS = (3, 8, 12, 0, 5, 20, 1)
JETS = random_jets(COUNTS, length=20)
STAGES: tuple[Any, ...] = ("input", 0, 1)

Array = npt.NDArray[np.float64]


def linked_tagger(link: str, stages: tuple[Any, ...] = STAGES) -> Tagger:
    """Return a tagger whose link, if it has parameters, is far from where it starts."""
    torch.manual_seed(4)
    tagger = Tagger(ParticleNet(small_weaver_network()), stages, "mlp", link=link).double().eval()
    for parameter in tagger.link.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return tagger


def head_logits(tagger: Tagger) -> list[Array]:
    """Return the logits of the heads and of the readout alone, which the independent link answers with."""
    alone = Tagger(tagger.backbone, tagger.exit_stages, tagger.head_names, tagger.heads)
    with torch.no_grad():
        return list(alone(JETS).numpy())


def log_softmax(logits_NK: Array) -> Array:
    shifted = logits_NK - logits_NK.max(axis=1, keepdims=True)
    normalised: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return normalised


def test_a_cascade_is_the_ensemble_of_its_formula() -> None:
    tagger = linked_tagger("cascade")
    link = {name: value.detach().numpy() for name, value in tagger.link.named_parameters()}
    *heads, full_NK = head_logits(tagger)
    logits: list[Array] = []
    for index, head_NK in enumerate(heads):
        previous = logits[-1] @ link[f"from_previous.{index - 1}.weight"].T if index else 0.0
        logits.append(head_NK + previous)
    exits = list(tagger.walk(JETS))
    for index, exit_ in enumerate(exits[:-1]):
        terms = [np.exp(link[f"weights.{index}"][j]) * log_softmax(logits[j]) for j in range(index + 1)]
        expected_NK = log_softmax(link[f"biases.{index}"] + np.mean(terms, axis=0))
        np.testing.assert_allclose(exit_.logits_NK.detach(), expected_NK, atol=1e-12)
        np.testing.assert_allclose(exit_.trained_NK.detach(), logits[index], atol=1e-12)
    assert np.array_equal(exits[-1].logits_NK.detach(), full_NK)


def test_boosted_answers_are_those_of_their_formula() -> None:
    tagger = linked_tagger("boosted")
    ensemble: Array | float = 0.0
    for exit_, head_NK in zip(tagger.walk(JETS), head_logits(tagger), strict=True):
        np.testing.assert_allclose(exit_.logits_NK.detach(), head_NK + ensemble, atol=1e-12)
        assert exit_.trained_NK is exit_.logits_NK
        ensemble = 0.5 * (head_NK + ensemble)


@pytest.mark.parametrize("link", ["independent", "cascade"])
def test_the_full_model_answers_for_itself_bit_for_bit(link: str) -> None:
    tagger = linked_tagger(link)
    assert torch.equal(tagger(JETS)[-1], Tagger(tagger.backbone, [])(JETS)[-1])


def test_a_fresh_cascade_is_the_geometric_mean_of_independent_exits() -> None:
    tagger = Tagger(ParticleNet(small_weaver_network()), STAGES, "mlp", link="cascade").double().eval()
    first, second, *_ = map(log_softmax, head_logits(tagger))
    answers = tagger(JETS).detach().numpy()
    np.testing.assert_allclose(answers[0], first, atol=1e-12)
    np.testing.assert_allclose(answers[1], log_softmax((first + second) / 2), atol=1e-12)


def gradients(tagger: Tagger, loss: Tensor) -> dict[str, Tensor]:
    names, parameters = zip(*tagger.named_parameters(), strict=True)
    found: tuple[Tensor | None, ...] = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return {name: value for name, value in zip(names, found, strict=True) if value is not None}


def test_answers_of_a_cascade_train_their_weights_alone() -> None:
    tagger = linked_tagger("cascade")
    for exit_ in list(tagger.walk(JETS))[:-1]:
        assert set(gradients(tagger, exit_.logits_NK.square().sum())) == {
            f"link.weights.{exit_.index}", f"link.biases.{exit_.index}"
        }  # fmt: skip


@pytest.mark.parametrize("link", ["cascade", "boosted"])
def test_the_loss_of_an_exit_stops_at_the_exit_before(link: str) -> None:
    tagger = linked_tagger(link)
    second = list(tagger.walk(JETS))[1]
    trained = gradients(tagger, second.trained_NK.square().sum())
    assert any(name.startswith("heads.1.") for name in trained)
    assert not any(name.startswith("heads.0.") for name in trained)


def test_boosting_scales_what_each_head_sends_into_the_backbone() -> None:
    # K = 4 counts the full model: heads 1, 2, 3 send 1/4, 1/3, 1/2 of their gradient, and the full model all of it.
    boosted = linked_tagger("boosted")
    alone = Tagger(boosted.backbone, STAGES, boosted.head_names, boosted.heads)
    weight_NK = torch.randn(len(COUNTS), CLASSES, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for factor, ours, plain in zip((1 / 4, 1 / 3, 1 / 2, 1), boosted.walk(JETS), alone.walk(JETS), strict=True):
        scaled, whole = (gradients(boosted, (exit_.logits_NK * weight_NK).sum()) for exit_ in (ours, plain))
        assert set(scaled) == set(whole)
        for name, value in scaled.items():
            share = factor if name.startswith("backbone.") else 1.0
            torch.testing.assert_close(value, share * whole[name], rtol=1e-9, atol=1e-12)


def test_a_scaled_gradient_by_hand() -> None:
    # One exit of two: head(x) = 3 x on the mean x = w·(1 + 3)/2 = 2 w has gradient 3·2, of which 1/(2 - 1 + 1) goes on.
    weight = torch.tensor(5.0, requires_grad=True)
    row_V1 = weight * torch.tensor([[1.0], [3.0]])
    state = PackedState(row_V1, row_V1, JetLayout(torch.tensor([2])), length=2)
    seen = EXIT_LINKS["boosted"](1, CLASSES).before_head(0, state)
    assert torch.equal(seen.rows(), row_V1)
    (3 * seen.pool("mean")).sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert weight.grad.item() == pytest.approx(3 * 2 / 2)


FORMS = {"padded": lambda tagger: tagger, "packed": Tagger.packed}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("link", EXIT_LINKS)
def test_dropping_jets_on_the_way_changes_no_answer(link: str, form: str) -> None:
    tagger = FORMS[form](linked_tagger(link))
    expected_ENK = tagger(JETS)
    keep_N = torch.tensor([True, False, True, False, True, True, True])
    walk = tagger.walk(JETS)
    next(walk)
    torch.testing.assert_close(walk.send(keep_N).logits_NK, expected_ENK[1, keep_N], rtol=0, atol=1e-11)
    for exit_ in walk:
        torch.testing.assert_close(exit_.logits_NK, expected_ENK[exit_.index, keep_N], rtol=0, atol=1e-11)


@pytest.mark.parametrize("exits", [(), (0,), (1,), (2,), (0, 2)])
@pytest.mark.parametrize("link", EXIT_LINKS)
def test_exits_that_nobody_asks_for_are_evaluated_where_the_link_needs_them(link: str, exits: tuple[int, ...]) -> None:
    tagger = linked_tagger(link)
    calls: list[int] = []
    for index, head in enumerate(tagger.heads):
        head.register_forward_hook(lambda *_, index=index: calls.append(index))
    expected_ENK = tagger(JETS)
    calls.clear()
    yielded = list(tagger.walk(JETS, exits=exits))
    needed = {"independent": list(exits), "cascade": list(range(max(exits, default=-1) + 1)), "boosted": [0, 1, 2]}
    assert calls == needed[link]
    assert [exit_.index for exit_ in yielded] == [*exits, 3]
    for exit_ in yielded:
        torch.testing.assert_close(exit_.logits_NK, expected_ENK[exit_.index], rtol=0, atol=0)


@pytest.mark.parametrize("exits", [None, (), (1,)])
@pytest.mark.parametrize("link", EXIT_LINKS)
def test_what_exits_cost_is_what_torch_counts(link: str, exits: tuple[int, ...] | None) -> None:
    tagger, jets = linked_tagger(link), random_jets((11,))
    expected = tagger.exit_macs(torch.tensor([11]), exits=exits)[:, 0].tolist()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        for exit_ in tagger.walk(jets, exits=exits):
            assert counter.get_total_flops() // 2 == expected[exit_.index]


@pytest.mark.parametrize("score", ["confidence", "entropy"])
@pytest.mark.parametrize("link", EXIT_LINKS)
def test_the_engine_answers_as_the_policy_applied_to_all_exits(link: str, score: str) -> None:
    tagger = linked_tagger(link)
    counts = torch.randint(0, 25, (60,), generator=torch.Generator().manual_seed(2)).tolist()
    jets: JetInputs = random_jets(counts, length=26)
    logits_ENK = Engine(tagger).every_exit(jets)
    middle = [float(make_score(score)(logits_ENK[: index + 1]).quantile(0.5)) for index in (1, 2)]
    policy = ThresholdPolicy(score, [float("inf"), *middle])  # nothing leaves at the inputs, but a chain needs them
    expected_N = exit_index(policy, logits_ENK)
    assert len(set(expected_N.tolist())) > 1
    result = Engine(tagger, policy)(jets)
    assert torch.equal(result.exit_index_N, expected_N)
    expected_NK = logits_ENK[expected_N, torch.arange(len(counts))]
    torch.testing.assert_close(result.logits_NK, expected_NK, rtol=0, atol=1e-11)


@pytest.mark.parametrize("link", EXIT_LINKS)
def test_a_network_without_exits_takes_any_link(link: str) -> None:
    tagger = linked_tagger(link, ())
    assert torch.equal(tagger(JETS), Tagger(tagger.backbone, [])(JETS))


def test_links_are_named_where_they_are_looked_for() -> None:
    with pytest.raises(UsageError, match="unknown exit_link 'chain'; choose from independent, cascade, boosted"):
        linked_tagger("chain")
    for name, link in (("ztw", "cascade"), ("cascade", "cascade"), ("boosted", "boosted")):
        with pytest.raises(UsageError, match=f"exit_head '{name}' is not a head .* set exit_link = '{link}'"):
            Tagger(ParticleNet(small_weaver_network()), [0], name)
