"""What every backbone must do. A test class inherits from this and says how its backbone and reference are made."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from phaze_ee.models.backbone import Backbone
from phaze_ee.models.tagger import Tagger
from phaze_ee.training.frozen import FeatureFiles
from phaze_ee.types import JetBatch, JetInputs
from tests.jets import random_jets

# Rounding of double precision through three blocks; a logical difference is many orders larger.
EXACT: dict[str, Any] = {"rtol": 0.0, "atol": 1e-11}

LENGTHS = {
    "mixed": (3, 30, 17, 5, 12, 24),
    "tiny": (1, 2, 1, 3),
    "single jet": (9,),
    "full": (20, 20, 20),
    "with an empty jet": (4, 0, 11),
}


def with_filled_padding(inputs: JetInputs) -> JetInputs:
    """Return jets with 7.5 in all padded slots."""
    filled = inputs.alone().map(lambda tensor: torch.where(inputs.valid_N1P, tensor, torch.full_like(tensor, 7.5)))
    more = {name: with_filled_padding(jets) for name, jets in inputs.more.items()}
    return replace(filled, mask=inputs.mask, more=more)


def tensors_of(inputs: JetInputs) -> list[Tensor]:
    """Return all tensors of a batch."""
    own = [getattr(inputs, item.name) for item in fields(inputs)]
    tensors = [value for value in own if isinstance(value, Tensor)]
    return [*tensors, *(tensor for jets in inputs.more.values() for tensor in tensors_of(jets))]


class BackboneContract(ABC):
    """Tests of one backbone against the network it stands for."""

    parameters_without_use: Sequence[str] = ()  # those that no answer depends on, in the original network either

    @abstractmethod
    def backbone(self) -> Backbone[Any]:
        """Return the backbone under test, in double precision and evaluation mode."""

    @abstractmethod
    def reference(self, inputs: JetInputs) -> Tensor:
        """Return the logits (N, K) of the original network with the same weights."""

    def tagger(self) -> Tagger:
        backbone = self.backbone()
        torch.manual_seed(1)
        stages = range(len(backbone.stage_channels))
        return Tagger(backbone, ["input", *stages]).double().eval()

    def jets(self, counts: Sequence[int], *, length: int = 30, seed: int = 0) -> JetInputs:
        return random_jets(counts, length=length, channels=self.backbone().input_channels, seed=seed)

    @pytest.mark.parametrize("counts", LENGTHS.values(), ids=LENGTHS.keys())
    def test_full_model_equals_the_reference(self, counts: Sequence[int]) -> None:
        inputs = self.jets(counts)
        torch.testing.assert_close(self.tagger()(inputs)[-1], self.reference(inputs), **EXACT)

    def test_padding_does_not_matter(self) -> None:
        tagger = self.tagger()
        short, long = (self.jets((3, 7, 15), length=15), self.jets((3, 7, 15), length=15))
        padded = long.map(lambda tensor: torch.nn.functional.pad(tensor, (0, 25)))
        torch.testing.assert_close(tagger(short), tagger(padded), **EXACT)

    def test_content_of_padding_is_never_read(self) -> None:
        tagger, inputs = self.tagger(), self.jets((3, 7, 15), length=20)
        torch.testing.assert_close(tagger(inputs), tagger(with_filled_padding(inputs)), **EXACT)

    def test_order_of_particles_does_not_matter(self) -> None:
        tagger, inputs = self.tagger(), self.jets((12, 12), length=12)
        order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
        torch.testing.assert_close(tagger(inputs), tagger(inputs.map(lambda tensor: tensor[..., order])), **EXACT)

    def test_jets_do_not_see_each_other(self) -> None:
        tagger, inputs = self.tagger(), self.jets((3, 30, 17, 5))
        alone = torch.cat([tagger(inputs.select(torch.tensor([jet]))) for jet in range(4)], dim=1)
        torch.testing.assert_close(tagger(inputs), alone, **EXACT)

    def test_inputs_are_not_changed(self) -> None:
        inputs = self.jets((3, 30, 17, 5))
        before = tensors_of(inputs.map(torch.clone))
        self.tagger()(inputs)
        torch.testing.assert_close(tensors_of(inputs), before, rtol=0, atol=0)

    def test_every_parameter_gets_a_gradient(self) -> None:
        tagger = self.tagger().train()
        tagger(self.jets((20, 30, 17, 25))).square().sum().backward()
        without = [name for name, parameter in tagger.named_parameters() if parameter.grad is None]
        assert without == list(self.parameters_without_use)

    def test_dropping_jets_between_stages_changes_no_answer(self) -> None:
        tagger, inputs = self.tagger(), self.jets((3, 30, 17, 5, 0))
        expected_ENK = tagger(inputs)
        keep_N = torch.tensor([False, True, True, False, True])
        walk = tagger.walk(inputs)
        next(walk)
        answer = walk.send(keep_N)
        while not answer.is_full_model:
            torch.testing.assert_close(answer.logits_NK, expected_ENK[answer.index, keep_N], **EXACT)
            answer = next(walk)
        torch.testing.assert_close(answer.logits_NK, expected_ENK[-1, keep_N], **EXACT)

    def test_is_rebuilt_from_its_arguments(self) -> None:
        backbone = self.backbone()
        rebuilt = type(backbone).from_arguments(backbone.arguments).double().eval()
        rebuilt.load_state_dict(backbone.state_dict())
        inputs = self.jets((3, 30, 17))
        # Not bit for bit: vectorised sums depend on where in memory the weights lie.
        torch.testing.assert_close(Tagger(rebuilt, [])(inputs), Tagger(backbone, [])(inputs), **EXACT)

    def test_pooling_skips_padding(self) -> None:
        backbone, inputs = self.backbone(), self.jets((3, 0, 15), length=15)
        state = backbone.stage(0, backbone.embed(inputs))
        cut = backbone.stage(0, backbone.embed(inputs.map(lambda tensor: tensor[:1, :, :3])))
        for kind in ("mean", "max"):
            torch.testing.assert_close(state.pool(kind)[:1], cut.pool(kind), **EXACT)
            assert not state.pool(kind)[1].any()
        assert (state.pool("max") >= state.pool("mean")).all()

    def test_rows_are_the_real_particles_jet_after_jet(self) -> None:
        backbone, inputs = self.backbone(), self.jets((3, 0, 15), length=18)
        assert torch.equal(backbone.embed(inputs).counts(), inputs.total_count_N)
        state = backbone.stage(0, backbone.embed(inputs))
        jets = torch.split(state.rows(), state.counts().tolist())
        mean_NC = torch.stack([jet_PC.sum(dim=0) / max(len(jet_PC), 1) for jet_PC in jets])
        torch.testing.assert_close(mean_NC, state.pool("mean"), **EXACT)

    def test_its_features_are_computed_once_and_looked_up(self, tmp_path: Path) -> None:
        tagger, inputs = self.tagger().float(), self.jets((3, 30, 17, 5, 0, 24)).map(torch.Tensor.float)
        with FeatureFiles(tagger, tmp_path) as files, torch.inference_mode():
            files.add(JetBatch(inputs, torch.zeros(6, dtype=torch.long)))
            stored = files.finish()
            found = stored.tagger(stored.batch(torch.arange(6)).inputs)
            torch.testing.assert_close(found, tagger(inputs), rtol=1e-5, atol=1e-5)
