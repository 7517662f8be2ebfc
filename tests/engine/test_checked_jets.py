"""Jets that do not fit are named before a network fails on them."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from phaze_ee.engine.engine import Engine
from phaze_ee.errors import UsageError
from phaze_ee.models.particle_transformer import ParticleTransformer
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetInputs, RaggedJets
from tests.jets import random_jets
from tests.models.merged_networks import FAMILIES, jets_with_vertices
from tests.models.test_particle_transformer import weaver_part

JETS = random_jets((3, 5))
RAGGED = JETS.ragged()
NOTHING: Any = None
ARRAY: Any = JETS.mask.numpy()


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(Tagger(ParticleTransformer(weaver_part()), [0]).double().eval())


@pytest.mark.parametrize(
    ("jets", "message"),
    [
        (JETS.features, r"takes jets, and was given a Tensor: give phaze_ee.JetInputs\("),
        ([JETS], "was given a list"),
        (replace(JETS, features=JETS.features[:, :2]), r"takes \d+ features of each particle, and features has"),
        (replace(JETS, points=JETS.points[:1]), r"the same jets and particles: points \(1, 2, \d+\), features"),
        (replace(JETS, mask=JETS.mask[..., :2]), r"mask \(2, 1, 2\); give \(jets, channels, particles\) of"),
        (replace(JETS, mask=JETS.mask[:, 0]), r"do not have the same jets"),
        (replace(RAGGED, features_VC=RAGGED.features_VC[1:]), r"points_V2 \(8, 2\), features_VC \(7, "),
        (replace(RAGGED, features_VC=RAGGED.features_VC[:, 1:]), r"and features_VC has the shape \(8, "),
        (replace(JETS, points=NOTHING), "points is None, not a tensor"),
        (replace(JETS, more={"sv": JETS}), "takes no collection 'sv', and the jets have one; leave it out"),
        (JETS.to("meta"), r"the jets are on meta and the network is on cpu; give jets\.to\('cpu'\)"),
        (replace(JETS, mask=ARRAY), "mask is a ndarray, not a tensor; torch.from_numpy makes one"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(jets: Any, message: str, engine: Engine) -> None:
    for call in (engine, engine.every_exit):
        with pytest.raises(UsageError, match=message):
            call(jets)


def test_what_fits_is_taken(engine: Engine) -> None:
    jets: tuple[JetInputs | RaggedJets, ...] = (JETS, RAGGED)
    for own in jets:
        assert torch.isfinite(engine(own).logits_NK).all()


def test_collections_may_have_other_names_than_in_a_network_of_weaver() -> None:
    both = Engine(Tagger(FAMILIES["ParticleTransformer"].staged(), [0]).double().eval())
    jets = jets_with_vertices((3, 5))
    leptons = jets.more["sv"]
    assert torch.equal(both(replace(jets, more={"lep": leptons})).logits_NK, both(jets).logits_NK)
    with pytest.raises(UsageError, match=r"takes \d+ features of each particle of lep, and features has"):
        both(replace(jets, more={"lep": replace(leptons, features=leptons.features[:, 1:])}))


def test_collections_of_a_network_of_ours_keep_their_names() -> None:
    backbone = FAMILIES["ParticleTransformer"].staged()
    merged = type(backbone.mod)
    layers = dict(zip(("pf", "tracks"), backbone.mod.embeddings, strict=True))
    ours = type(backbone)(merged(backbone.mod.core, layers))
    jets = jets_with_vertices((3, 5))
    with pytest.raises(UsageError, match="takes no collection 'sv', and the jets have one; leave it out"):
        Engine(Tagger(ours, [0]).double().eval())(jets)


def test_double_precision_is_named() -> None:
    single = Engine(Tagger(ParticleTransformer(weaver_part()), [0]).float().eval())
    with pytest.raises(UsageError, match=r"in torch\.float64 and the network is in torch\.float32; give jets"):
        single(JETS)
