"""Particle Transformer without padding, in plain torch, against weaver's module and the padded form."""

from typing import Any

import pytest
import torch
from torch import Tensor

from phaze_ee.export.backbones import in_stages
from phaze_ee.export.particle_transformer import FileParticleTransformer
from phaze_ee.models.packed_transformer import PackedParticleTransformer
from phaze_ee.models.particle_transformer import ParticleTransformer
from phaze_ee.models.ragged_attention import fits_kernel
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetInputs
from tests.contracts.backbone import BackboneContract
from tests.jets import random_jets
from tests.models.test_particle_transformer import TestVersion1 as Padded
from tests.models.test_particle_transformer import weaver_part
from tests.models.training_step import NO_DROPOUT, trained

CASES: list[Any] = [Padded, *Padded.__subclasses__()]
OPTIONS = {case.__name__.removeprefix("Test"): case.changes for case in CASES}
BY_OPTIONS = pytest.mark.parametrize("changes", OPTIONS.values(), ids=OPTIONS.keys())


class TestPacked(BackboneContract):
    changes: dict[str, Any] = {}  # noqa: RUF012

    def backbone(self) -> PackedParticleTransformer:
        return ParticleTransformer(weaver_part(**self.changes)).packed().eval()

    def reference(self, inputs: JetInputs) -> Tensor:
        logits: Tensor = weaver_part(**self.changes)(inputs.features, inputs.vectors, inputs.mask)
        return logits


class TestPackedWithGlobalToken(TestPacked):
    changes = {"version": 3.6}  # noqa: RUF012


def with_holes(counts: tuple[int, ...] = (3, 30, 1, 0, 17, 12)) -> JetInputs:
    """Jets whose masks have holes."""
    jets = random_jets(counts, length=34)
    order = torch.randperm(34, generator=torch.Generator().manual_seed(1))
    return jets.map(lambda tensor: tensor[..., order])


@BY_OPTIONS
@torch.no_grad()
def test_every_exit_is_that_of_the_padded_form(changes: dict[str, Any]) -> None:
    tagger = Tagger(ParticleTransformer(weaver_part(**changes)), ["input", 0, 1, 2], "mlp").double().eval()
    expected_ENK = tagger(with_holes())
    for jets in (with_holes(), with_holes().ragged()):
        torch.testing.assert_close(tagger.packed()(jets), expected_ENK, rtol=0, atol=1e-11)


TRAININGS: dict[str, dict[str, Any]] = {
    **OPTIONS,
    "statistics of padded pairs": {"pair_embed_sparse_eval": [False, True]},
    "trimming": {"trim": True},
}


@pytest.mark.parametrize("changes", TRAININGS.values(), ids=TRAININGS.keys())
def test_a_training_step_is_that_of_the_padded_form(changes: dict[str, Any]) -> None:
    without = {**changes, "block_params": {**changes.get("block_params", {}), **NO_DROPOUT}}
    without["cls_block_params"] = NO_DROPOUT
    without["fc_params"] = [(width, 0.0, *more) for width, _, *more in changes.get("fc_params", ())]
    found = []
    for packed in (False, True):
        tagger = Tagger(ParticleTransformer(weaver_part(**without)), ["input", 0, 1])
        torch.manual_seed(1)
        tagger = Tagger(tagger.backbone, ["input", 0, 1]).double()
        weights: Any = tagger.backbone
        weights.mod.trimmer._counter.fill_(10)  # it trims from the sixth call on
        found.append(trained(tagger.packed() if packed else tagger, with_holes()))
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-11)


def test_dropped_paths_are_those_of_whole_jets() -> None:
    network = weaver_part(block_params={**NO_DROPOUT, "drop_path_rate": 0.5}, num_layers=1)
    backbone = ParticleTransformer(network).packed().train()
    torch.nn.init.zeros_(network.blocks[0].fc2.weight)
    torch.nn.init.zeros_(network.blocks[0].fc2.bias)
    torch.nn.init.ones_(network.blocks[0].w_resid)
    jets = random_jets((9,) * 40, length=9)
    torch.manual_seed(0)
    state = backbone._tokens(backbone.embed(jets))
    before_NPC, after_NPC = (one.rows().view(40, 9, -1) for one in (state, backbone.stage(0, state)))
    same_NP = (before_NPC == after_NPC).all(dim=-1)
    assert 8 < int(same_NP.any(dim=1).sum()) < 32
    assert torch.equal(same_NP.any(dim=1), same_NP.all(dim=1))


def test_heads_that_do_not_fit_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    fits_kernel.cache_clear()
    assert fits_kernel(128)
    assert not caplog.text
    assert not fits_kernel(136)
    assert not fits_kernel(136)
    assert caplog.text.count("heads of 136 channels") == 1


def test_both_forms_are_exported() -> None:
    backbone = ParticleTransformer(weaver_part())
    assert in_stages(backbone.packed()) is in_stages(backbone) is FileParticleTransformer


def test_on_the_cpu_jets_are_padded() -> None:
    assert not isinstance(
        Tagger(ParticleTransformer(weaver_part()), []).fastest_form().backbone, PackedParticleTransformer
    )
