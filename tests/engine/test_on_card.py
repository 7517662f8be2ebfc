"""The engine on a card: the answer and the exit of each jet are those of the CPU."""

from collections.abc import Callable

import pytest
import torch

from phaze_ee.engine.engine import Engine
from phaze_ee.engine.run import EngineResult
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.models.particle_transformer import ParticleTransformer
from phaze_ee.models.precision import float32_products
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetInputs
from tests.jets import random_jets, small_tagger
from tests.models.test_particle_transformer import weaver_part

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")

COUNTS = (9, 1, 0, 17, 3, 20, 12, 5)
NETWORKS: dict[str, Callable[[], Tagger]] = {
    "ParticleNet": small_tagger,
    "ParticleTransformer": lambda: Tagger(ParticleTransformer(weaver_part()), ("input", 0)),
}


def jets() -> JetInputs:
    return random_jets(COUNTS, length=20, dtype=torch.float32)


def answers(network: str, device: str) -> tuple[EngineResult, ThresholdPolicy]:
    """Return the answers on a device with the thresholds of the CPU, at which half of the jets would leave."""
    tagger = NETWORKS[network]().float().eval()
    confidence_EN = Engine(tagger).every_exit(jets()).softmax(dim=-1).amax(dim=-1)
    policy = ThresholdPolicy("confidence", confidence_EN[:-1].quantile(0.5, dim=-1).tolist())
    with float32_products("float32", torch.device(device)):
        return Engine(tagger.to(device), policy, chunk_size=4)(jets().to(device)), policy


@pytest.mark.parametrize("network", NETWORKS)
def test_answers_and_exits_are_those_of_the_cpu(network: str) -> None:
    (here, policy), (there, same) = answers(network, "cpu"), answers(network, "cuda")
    assert policy.thresholds == same.thresholds
    assert len(set(here.exit_index_N.tolist())) > 1
    assert torch.equal(there.exit_index_N.cpu(), here.exit_index_N)
    torch.testing.assert_close(there.logits_NK.cpu(), here.logits_NK, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", NETWORKS)
def test_jets_without_padding_are_answered_alike(network: str) -> None:
    tagger = NETWORKS[network]().float().eval().to("cuda")
    padded, ragged = (Engine(tagger).every_exit(given.to("cuda")) for given in (jets(), jets().ragged()))
    torch.testing.assert_close(ragged.cpu(), padded.cpu(), rtol=1e-5, atol=1e-5)


def test_a_graph_can_hold_one_jet() -> None:
    """The host waits for nothing, with any head."""
    for network in NETWORKS.values():
        tagger = network().float().eval().to("cuda").packed()
        one = random_jets((7,), length=7, dtype=torch.float32).ragged().to("cuda")
        with torch.inference_mode():
            tagger(one)
            with torch.cuda.graph(torch.cuda.CUDAGraph()):
                tagger(one)
