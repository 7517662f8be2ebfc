"""Networks other than ParticleNet in files, against the engine in double precision."""

from collections.abc import Callable
from functools import partial
from typing import Any

import onnxruntime
import pytest
import torch
from onnx import helper
from torch import Tensor
from weaver.nn.model.ParticleTransformer import pairwise_lv_fts_ee, pairwise_lv_fts_pp, pairwise_lv_fts_xyzt

from phaze_ee.errors import UsageError
from phaze_ee.export.graph import Graph, value_info
from phaze_ee.export.model import FileForm, write_model
from phaze_ee.export.values import Value
from phaze_ee.models.particle_flow_network import ParticleFlowNetwork
from phaze_ee.models.particle_next import ParticleNeXt
from phaze_ee.models.particle_transformer import ParticleTransformer
from phaze_ee.models.tagger import Tagger
from tests.export.files import COUNTS, NAMES, SV_NAMES, assert_as_engine, jets, policy_for, with_random_exits
from tests.jets import CHANNELS, CLASSES
from tests.models.merged_networks import FAMILIES, jets_with_vertices
from tests.models.test_particle_next import MIXES, weaver_network
from tests.models.test_particle_transformer import OPTIONS, weaver_part

INPUTS = jets()
# The error function is a series in double precision, good to 2e-14; normalisations of few channels make that a few
# thousand times as large.
WITH_GELU = 1e-9


@pytest.mark.parametrize("one_jet", [False, True])
@pytest.mark.parametrize("changes", OPTIONS, ids=str)
def test_particle_transformer(changes: dict[str, Any], one_jet: bool) -> None:
    tagger = with_random_exits(Tagger(ParticleTransformer(weaver_part(**changes)), ("input", 0, 1), "mlp"))
    policy = policy_for(tagger, "confidence", INPUTS)
    index_N = assert_as_engine(tagger, policy, INPUTS, one_jet=one_jet, atol=WITH_GELU)
    assert len(set(index_N.tolist())) > 2


@pytest.mark.parametrize("opset", [15, 20])
def test_particle_transformer_in_other_opsets(opset: int) -> None:
    tagger = with_random_exits(Tagger(ParticleTransformer(weaver_part()), (0, 1), "attention", link="cascade"))
    assert_as_engine(tagger, policy_for(tagger, "margin", INPUTS), INPUTS, opset=opset, atol=WITH_GELU)


@pytest.mark.parametrize("mix", MIXES)
def test_particle_next(mix: str) -> None:
    tagger = with_random_exits(Tagger(ParticleNeXt(weaver_network(**MIXES[mix])), ("input", 0, 1), "mlp"))
    policy = policy_for(tagger, "confidence", INPUTS)
    for one_jet in (False, True):
        index_N = assert_as_engine(tagger, policy, INPUTS, one_jet=one_jet, atol=1e-10)
        assert len(set(index_N.tolist())) > 2


@pytest.mark.parametrize("one_jet", [False, True])
def test_particle_flow_network(one_jet: bool) -> None:
    torch.manual_seed(0)
    network = ParticleFlowNetwork(CHANNELS, CLASSES, [8, 9, 10], [12])
    tagger = with_random_exits(Tagger(network, ("input", 0, 2), "linear_mean_max", link="boosted"))
    assert_as_engine(tagger, policy_for(tagger, "confidence", INPUTS), INPUTS, one_jet=one_jet)


@pytest.mark.parametrize("one_jet", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_particles_and_secondary_vertices(family: str, one_jet: bool) -> None:
    tagger = with_random_exits(Tagger(FAMILIES[family].staged(), ("input", 0), "deep_sets", link="cascade"))
    inputs = jets_with_vertices(COUNTS, (2, 3, 0, 1, 0, 5, 0))
    assert {(0, 2), (0, 0), (1, 3)} < set(map(tuple, inputs.counts_NG.tolist()))
    policy = policy_for(tagger, "confidence", inputs)
    index_N = assert_as_engine(tagger, policy, inputs, one_jet=one_jet, more=SV_NAMES, atol=WITH_GELU)
    assert len(set(index_N.tolist())) > 1


def test_other_collections_than_those_of_the_network_are_refused() -> None:
    tagger = with_random_exits(Tagger(FAMILIES["ParticleNet"].staged(), (0,)))
    with pytest.raises(UsageError, match="ParticleNet takes 2 collections of particles and the inputs have 1"):
        write_model(tagger, None, FileForm(NAMES))


PAIRS = [
    *(partial(pairwise_lv_fts_pp, num_outputs=number) for number in (1, 4, 5, 8)),
    *(partial(pairwise_lv_fts_ee, num_outputs=number) for number in (1, 3, 6)),
    *(partial(pairwise_lv_fts_xyzt, coords=coordinates) for coordinates in ("rectangular", "spherical", "cylindrical")),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("features", PAIRS, ids=lambda part: f"{part.func.__name__}{part.keywords}")
def test_features_of_pairs_are_those_of_weaver(features: Callable[..., Any], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 1, 4, 60, generator=generator, dtype=torch.float64)
    for momentum in (x, y):
        momentum[:, 3] = momentum[:, :3].norm(dim=1) * 1.1
    x[..., 3] = 0.0
    if dtype == torch.float64:  # the logarithm of the distance of parallel particles is that of a rounding error
        y[..., :3] = x[..., :3]
    found = _in_file(features, x.to(dtype), y.to(dtype))
    expected = features(x.to(dtype), y.to(dtype))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3 if dtype == torch.float32 else 1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_angle_of_a_particle_with_itself_is_rounded_as_weaver_rounds_it(dtype: torch.dtype) -> None:
    momentum = 50 * torch.randn(1, 4, 200, generator=torch.Generator().manual_seed(0), dtype=dtype)
    momentum[:, 3] = (momentum[:, :3].square().sum(dim=1) + 0.14**2).sqrt()  # the mass of a pion
    features = partial(pairwise_lv_fts_pp, num_outputs=6)
    found, expected = _in_file(features, momentum, momentum)[:, 5], features(momentum, momentum)[:, 5]
    assert expected.unique().numel() > 20  # nothing but rounding
    assert torch.equal(found, expected)


def _in_file(features: Callable[..., Any], x: Tensor, y: Tensor) -> Tensor:
    """Return what a file answers that has these features of pairs alone."""
    graph = Graph(17, x.dtype)
    result = features(*(Value(graph, name, (1, 4, None), x.dtype) for name in ("x", "y")))
    graph.rename(result.name, "out")
    inputs = [value_info(name, x.dtype, [1, 4, "R"]) for name in ("x", "y")]
    written = graph.close("pairs", inputs, [value_info("out", x.dtype)])
    model = helper.make_model(written, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": x.numpy(), "y": y.numpy()})
    return torch.from_numpy(found)
