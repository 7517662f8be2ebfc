"""One jet at a time, replayed as CUDA graphs: the answers are those of the walk."""

import gc
import weakref
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from phaze_ee.engine.engine import Engine
from phaze_ee.engine.run import EngineResult
from phaze_ee.errors import UsageError
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.machine import Precision
from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.particle_transformer import ParticleTransformer
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import Jets, RaggedJets, with_globals
from tests.jets import random_jets, small_tagger, small_weaver_network
from tests.models.merged_networks import FAMILIES, jets_with_vertices
from tests.models.test_particle_transformer import weaver_part

on_card = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")

COUNTS = (6, 1, 6, 0, 3, 6)


def with_vertices(family: str, **changes: Any) -> Tagger:
    """A network for particles, vertices and numbers of the jet itself."""
    backbone = FAMILIES[family].staged(**changes)
    backbone.take_globals(2)
    return Tagger(backbone, ("input", 0))


NETWORKS: dict[str, Callable[[], Tagger]] = {
    "ParticleNet": small_tagger,
    "averages over slots": lambda: Tagger(ParticleNet(small_weaver_network(use_counts=False)), ("input", 0)),
    "ParticleTransformer": lambda: Tagger(ParticleTransformer(weaver_part()), ("input", 0)),
    "ParticleNet, vertices": lambda: with_vertices("ParticleNet"),
    "ParticleTransformer, vertices": lambda: with_vertices("ParticleTransformer"),
    "values": lambda: Tagger(small_tagger(()).backbone, ("input", 0), targets=1),
}


def on_the_card(network: str) -> Tagger:
    return NETWORKS[network]().float().eval().to("cuda")


def jets(network: str) -> list[RaggedJets]:
    """Jets of their own, also where they have equally many particles."""
    if "vertices" not in network:
        alone: list[Jets] = [random_jets((count,), seed=seed) for seed, count in enumerate(COUNTS)]
    else:
        alone = [jets_with_vertices((count,), (seed % 3,), seed=seed) for seed, count in enumerate(COUNTS)]
        alone = [with_globals(jet, torch.full((1, 2), 0.1 * seed)) for seed, jet in enumerate(alone)]
    return [jet.ragged().map(in_float32).to("cuda") for jet in alone]


def in_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def half_leave(tagger: Tagger, network: str) -> ThresholdPolicy:
    confidence_EN = torch.cat([Engine(tagger).every_exit(jet) for jet in jets(network)], dim=1).softmax(-1).amax(-1)
    return ThresholdPolicy("confidence", confidence_EN[:-1].cpu().quantile(0.5, dim=-1).tolist())


def together(results: list[EngineResult]) -> dict[str, Tensor]:
    names = ("logits_NK", "exit_index_N", "macs_N", "visited_NEK", "value_NR")
    return {name: torch.cat([getattr(result, name) for result in results]).cpu() for name in names}


def check_equal(found: list[EngineResult], expected: list[EngineResult], error: float = 1e-5) -> None:
    """The same kernels run, but a library of the card may take another one for a product while it captures."""
    one, other = together(found), together(expected)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=error, atol=error, equal_nan=True)


@on_card
@pytest.mark.parametrize(
    ("network", "precision"),
    [*((network, "float32") for network in NETWORKS), ("ParticleNet", "float16"), ("ParticleTransformer", "bfloat16")],
)
def test_full_model(network: str, precision: Precision) -> None:
    tagger = on_the_card(network)
    graphs, walks = (Engine(tagger, precision=precision, graphs=graphs) for graphs in (True, False))
    error = 1e-5 if precision == "float32" else 2e-2
    check_equal([graphs(jet) for jet in jets(network)], [walks(jet) for jet in jets(network)], error)


@on_card
@pytest.mark.parametrize("network", ["ParticleNet", "ParticleTransformer, vertices", "values"])
def test_exits(network: str) -> None:
    tagger = on_the_card(network)
    policy = half_leave(tagger, network)
    graphs, walks = (Engine(tagger, policy, graphs=graphs) for graphs in (True, False))
    found = [graphs(jet) for jet in jets(network)]
    check_equal(found, [walks(jet) for jet in jets(network)])
    assert len(set(together(found)["exit_index_N"].tolist())) > 1


@on_card
def test_padded_jets_audits_and_batches() -> None:
    tagger = on_the_card("ParticleNet")
    policy = half_leave(tagger, "ParticleNet")
    graphs, walks = (Engine(tagger, policy, audit=0.5, graphs=graphs) for graphs in (True, False))
    draws = torch.rand(len(COUNTS), dtype=torch.float64)
    padded = random_jets(COUNTS, dtype=torch.float32).to("cuda")
    ones = [padded.select(torch.tensor([index])) for index in range(len(COUNTS))]
    drawn = list(zip(ones, draws[:, None], strict=True))
    found, expected = ([engine(jet, draw_N=draw) for jet, draw in drawn] for engine in (graphs, walks))
    check_equal(found, expected)
    for one, other in zip(found, expected, strict=True):
        assert one.audit is not None
        assert other.audit is not None
        torch.testing.assert_close(one.audit.every_NEK, other.audit.every_NEK, equal_nan=True)
    check_equal([graphs(padded, draw_N=draws)], [walks(padded, draw_N=draws)])


@on_card
@pytest.mark.parametrize("network", ["ParticleNet", "ParticleTransformer"])
def test_changed_weights_are_noticed(network: str) -> None:
    tagger, jet = on_the_card(network), jets(network)[0]
    engine = Engine(tagger, graphs=True)
    before = engine(jet).logits_NK
    with torch.no_grad():
        for weight in tagger.parameters():
            weight.mul_(1.1)
    after = engine(jet).logits_NK
    assert not torch.allclose(after, before)
    torch.testing.assert_close(after, Engine(tagger)(jet).logits_NK)


@on_card
@pytest.mark.parametrize("network", ["ParticleNet", "ParticleTransformer"])
def test_a_training_in_between_is_noticed(network: str) -> None:
    """Also one that changes parameters unseen by torch, as weaver's optimisers do."""
    tagger, jet = on_the_card(network).packed(), jets(network)[0]
    engine = Engine(tagger, graphs=True, backend="given")
    before = engine(jet).logits_NK
    folded = weakref.ref(tagger.backbone.kept)
    tagger.train()
    for weight in tagger.parameters():
        weight.data.mul_(1.1)
    tagger.eval()
    gc.collect()
    assert folded() is not None, "the memory that graphs read must not be used for anything else"
    after = engine(jet).logits_NK
    assert not torch.allclose(after, before)
    torch.testing.assert_close(after, Engine(tagger, backend="given")(jet).logits_NK)


@pytest.mark.parametrize("backend", ["auto", "given"])
def test_graphs_need_a_card(backend: Literal["auto", "given"]) -> None:
    with pytest.raises(
        UsageError, match=r"a CUDA device with kernels .* and this is ParticleNet in float64 on cpu: leave"
    ):
        Engine(small_tagger(), graphs=True, backend=backend)


@on_card
def test_graphs_need_a_form_without_padding() -> None:
    many = Tagger(ParticleNet(small_weaver_network(conv_params=[(65, (4,))])), ()).float().eval().to("cuda")
    slots = with_vertices("ParticleNet", use_counts=False).float().eval().to("cuda")
    for tagger in (
        on_the_card("ParticleNet"),
        many.packed(),
        slots.packed(),
        on_the_card("ParticleNet").double().packed(),
    ):
        with pytest.raises(UsageError, match="form without padding"):
            Engine(tagger, graphs=True, backend="given")
