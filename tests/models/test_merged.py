"""Networks on several collections against weaver-core's own networks for particles and secondary vertices."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from phaze_ee.benchmark.cost import exit_costs
from phaze_ee.engine.engine import Engine
from phaze_ee.engine.run import MacsTable
from phaze_ee.errors import UsageError
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.scores import Confidence
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetInputs
from tests.contracts.backbone import EXACT, BackboneContract
from tests.jets import small_tagger
from tests.models.merged_networks import FAMILIES, Family, jets_with_vertices

COUNTS = (3, 30, 17, 5, 12, 24)
FORMS: dict[str, tuple[Family, Callable[[Any], Any]]] = {
    **{name: (family, lambda backbone: backbone) for name, family in FAMILIES.items()},
    "packed": (FAMILIES["ParticleNet"], lambda backbone: backbone.packed()),
    "native": (FAMILIES["ParticleNet"], lambda backbone: backbone.native()),
}
BY_FORM = pytest.mark.parametrize("form", FORMS)
BY_FAMILY = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())


def staged(form: str, **changes: Any) -> Any:
    family, change = FORMS[form]
    return change(family.staged(**changes)).eval()


class MergedContract(BackboneContract):
    """The contract of all backbones, for jets with secondary vertices."""

    form: str

    def backbone(self) -> Any:
        return staged(self.form)

    def reference(self, inputs: JetInputs) -> Tensor:
        family = FORMS[self.form][0]
        logits = family.answer(family.network(), inputs)
        if self.form != "ParticleNeXt":
            return logits
        empty = inputs.map(torch.zeros_like)
        nothing = Tagger(self.backbone(), [])(empty)[-1]
        return logits.where(inputs.total_count_N[:, None] > 0, nothing)

    def jets(self, counts: Sequence[int], *, length: int = 30, seed: int = 0) -> JetInputs:
        return jets_with_vertices(counts, length=length, seed=seed)


class TestParticleNet(MergedContract):
    form = "ParticleNet"


class TestPackedParticleNet(MergedContract):
    form = "packed"


class TestParticleNeXt(MergedContract):
    form = "ParticleNeXt"


class TestParticleTransformer(MergedContract):
    form = "ParticleTransformer"


@BY_FORM
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_padded_and_ragged_jets_give_weavers_answer(form: str, dtype: torch.dtype) -> None:
    family = FORMS[form][0]
    network = family.network().to(dtype)
    inputs = jets_with_vertices(COUNTS, length=30).map(lambda tensor: tensor.to(dtype))
    tolerance = 1e-11 if dtype == torch.float64 else 1e-5
    tagger = Tagger(FORMS[form][1](family.backbone.from_weaver(network)), []).eval()
    with torch.no_grad():
        expected = family.answer(network, inputs)
        for jets in (inputs, inputs.ragged(), inputs.ragged().padded(), inputs.padded(40)):
            torch.testing.assert_close(tagger(jets)[-1], expected, rtol=0, atol=tolerance)


@BY_FORM
def test_jets_with_vertices_alone_get_weavers_answer(form: str) -> None:
    family = FORMS[form][0]
    inputs = jets_with_vertices((0, 0, 4, 9), (3, 1, 0, 2), length=20)
    with torch.no_grad():
        logits = Tagger(staged(form), [])(inputs.ragged())[-1]
        torch.testing.assert_close(logits, family.answer(family.network(), inputs), **EXACT)


@BY_FORM
def test_a_batch_without_vertices_gets_weavers_answer(form: str) -> None:
    family = FORMS[form][0]
    inputs = jets_with_vertices((8, 4, 12), (0,), length=20)
    with torch.no_grad():
        logits = Tagger(staged(form), [])(inputs.ragged())[-1]
        torch.testing.assert_close(logits, family.answer(family.network(), inputs), **EXACT)


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.grad for name, value in module.named_parameters() if value.grad is not None}


# Not ParticleNeXt with trimming: weaver draws its length from Python's random numbers.
TRAINED: list[tuple[str, dict[str, Any]]] = [
    *((form, {}) for form in ("ParticleNet", "packed", "ParticleNeXt", "ParticleTransformer")),
    *((form, {"trim": True}) for form in ("ParticleNet", "packed", "ParticleTransformer")),
]


@pytest.mark.parametrize(("form", "changes"), TRAINED)
def test_training_equals_weavers(form: str, changes: dict[str, Any]) -> None:
    family, change = FORMS[form]
    network = family.network(**changes).train()
    backbone = change(family.staged(**changes)).double()
    ours = Tagger(backbone, []).train()
    for step in range(8):  # weaver's trimmer starts to trim after five calls
        # Both have padding that is not zero, which BatchNorm sees.
        inputs = with_padding(jets_with_vertices(COUNTS, length=40, seed=step))
        torch.manual_seed(step)
        expected = family.answer(network, inputs)
        torch.manual_seed(step)
        logits = ours(inputs)[-1]
        torch.testing.assert_close(logits, expected, **EXACT)
        for answer in (expected, logits):
            answer.square().sum().backward()
    own = {name.removeprefix("mod."): value for name, value in backbone.state_dict().items()}
    torch.testing.assert_close(own, dict(network.state_dict()), rtol=0, atol=1e-10)
    theirs = gradients(network)
    trained = {name: value for name, value in gradients(backbone.mod).items() if name in theirs}
    torch.testing.assert_close(trained, theirs, rtol=1e-7, atol=1e-8)


def with_padding(inputs: JetInputs) -> JetInputs:
    """Return jets of which the padded features are not zero."""
    filled = inputs.features.where(inputs.valid_N1P, 0.7)
    return replace(inputs, features=filled, more={name: with_padding(jets) for name, jets in inputs.more.items()})


def test_the_embeddings_of_particle_next_learn() -> None:
    """weaver's ParticleNeXtTagger cuts their gradient off; here they have one."""
    family = FAMILIES["ParticleNeXt"]
    network, ours = family.network().train(), family.staged().train()
    inputs = jets_with_vertices(COUNTS, length=40)
    family.answer(network, inputs).sum().backward()  # type: ignore[no-untyped-call]
    Tagger(ours, []).train()(inputs)[-1].sum().backward()
    embeddings = {name for name, _ in network.named_parameters() if name.startswith(("pf_encode", "sv_encode"))}
    assert len(embeddings) == 6
    assert embeddings.isdisjoint(gradients(network))
    assert embeddings <= set(gradients(ours.mod))


def test_input_dropout_equals_weavers() -> None:
    family, changes = FAMILIES["ParticleNeXt"], {"pf_input_dropout": 0.3, "sv_input_dropout": 0.5}
    network, ours = family.network(**changes).train(), Tagger(family.staged(**changes), []).train()
    inputs = jets_with_vertices(COUNTS, length=40)
    torch.manual_seed(3)
    expected = family.answer(network, inputs)
    torch.manual_seed(3)
    torch.testing.assert_close(ours(inputs)[-1], expected, **EXACT)
    torch.testing.assert_close(ours.eval()(inputs)[-1], family.answer(network.eval(), inputs), **EXACT)


def test_input_dropout_of_particle_net_drops_particles() -> None:
    """weaver's ParticleNetTagger cannot do this: it drops from a boolean mask, which torch refuses."""
    family = FAMILIES["ParticleNet"]
    with pytest.raises(RuntimeError, match="Bool"):
        family.answer(family.network(pf_input_dropout=0.4).train(), jets_with_vertices(COUNTS))
    backbone = family.staged(pf_input_dropout=0.4, sv_input_dropout=0.2).train()
    inputs = jets_with_vertices((40,) * 200, (10,))
    torch.manual_seed(0)
    merged = backbone.merged(inputs)
    assert isinstance(merged, JetInputs)
    kept = [part.double().mean().item() for part in torch.split(merged.valid_N1P, [40, 10], dim=-1)]
    assert kept == pytest.approx([0.6, 0.8], abs=0.03)
    assert not merged.features.where(merged.valid_N1P, 0).equal(torch.zeros_like(merged.features))
    assert not merged.features.masked_fill(merged.valid_N1P, 0).any()
    assert backbone.eval().merged(inputs).particle_count_N.equal(inputs.total_count_N)


@BY_FAMILY
def test_weights_have_weavers_names_and_return_unchanged(family: Family) -> None:
    network, backbone = family.network(), family.staged()
    weights = {name.removeprefix("mod."): value for name, value in backbone.state_dict().items()}
    assert weights.keys() == network.state_dict().keys()
    rebuilt = type(backbone).from_arguments(backbone.arguments)
    assert rebuilt.arguments == backbone.arguments
    assert rebuilt.collections == backbone.collections == {"pf": 7, "sv": 5}
    network.load_state_dict(weights)


@pytest.mark.parametrize("form", ["ParticleNet", "ParticleNeXt", "ParticleTransformer"])
def test_macs_are_those_that_torch_counts(form: str) -> None:
    backbone = staged(form)
    tagger = Tagger(backbone, ["input", *range(len(backbone.stage_channels))])
    for particles in ([12, 3], [4, 1]):
        costs = exit_costs(tagger, particles=particles)
        assert tagger.exit_macs(torch.tensor([particles]))[:, 0].tolist() == [cost.macs for cost in costs]
        assert costs[0].weaver_macs > 0


@BY_FORM
def test_the_engine_counts_the_macs_of_all_collections(form: str) -> None:
    tagger = Tagger(staged(form), ["input", 0]).double().eval()
    inputs = jets_with_vertices((3, 30, 17, 5, 0, 24) * 20).ragged()
    result = Engine(tagger, ThresholdPolicy(Confidence(), (0.35, 0.4)), threads=2, backend="given")(inputs)
    macs_EN = tagger.exit_macs(inputs.counts_NG)
    assert (result.macs_N >= macs_EN.gather(0, result.exit_index_N[None])[0]).all()
    full = Engine(tagger, threads=2, backend="given")(inputs)
    assert full.macs_N.equal(tagger.exit_macs(inputs.counts_NG, exits=())[-1])
    torch.testing.assert_close(full.logits_NK, tagger(inputs)[-1], **EXACT)
    assert MacsTable(tagger, None)(inputs.counts_NG).equal(macs_EN)


def test_three_collections_are_put_together_in_their_order() -> None:
    core = small_tagger(input_dims=6).backbone.core
    torch.manual_seed(0)
    network = type(FAMILIES["ParticleNet"].staged().mod).around(core, {"pf": 7, "sv": 5, "lt": 5}).double().eval()
    tagger = Tagger(FAMILIES["ParticleNet"].backbone(network), ["input", 0]).double().eval()
    inputs = jets_with_vertices((3, 30, 0, 5))
    lost = jets_with_vertices((3, 30, 0, 5), (0, 4, 1, 2), seed=3).more["sv"]
    jets = replace(inputs, more={**inputs.more, "lt": lost})
    expected = tagger(jets)
    torch.testing.assert_close(tagger.packed()(jets.ragged()), expected, **EXACT)
    swapped = replace(jets, more={"lt": lost, **inputs.more})
    torch.testing.assert_close(tagger(swapped), expected, rtol=0, atol=0)
    counts = tagger.backbone.embed(jets).counts()
    assert counts.equal(jets.total_count_N)
    rows = network.merge(jets)
    assert rows.points_V2[3:5].equal(jets.ragged().more["sv"].points_V2[:2])
    assert rows.points_V2[5:35].equal(jets.ragged().points_V2[3:33])


def test_average_over_padding_equals_weaver() -> None:
    family, inputs = FAMILIES["ParticleNet"], jets_with_vertices(COUNTS)
    network = family.network(use_counts=False)
    expected = family.answer(network, inputs)
    for backbone in (family.staged(use_counts=False), family.staged(use_counts=False).packed()):
        with torch.no_grad():
            torch.testing.assert_close(Tagger(backbone, []).eval()(inputs)[-1], expected, **EXACT)


def test_jets_with_other_collections_are_refused() -> None:
    jets = jets_with_vertices((3, 4))
    with pytest.raises(UsageError, match=r"takes one collection of particles, and the jets also have sv"):
        small_tagger()(jets)
    assert small_tagger()(jets.alone()).isfinite().all()
    tagger = Tagger(FAMILIES["ParticleNet"].staged(), [])
    with pytest.raises(UsageError, match=r"takes the collections pf, sv, and the jets have one"):
        tagger(jets.alone())
    with pytest.raises(UsageError, match=r"takes the collections pf, sv, and the MACs were asked .* in 1; give"):
        tagger.exit_macs(jets.particle_count_N)


@pytest.mark.parametrize("name", ["ParticleNeXt", "ParticleTransformer"])
def test_four_momenta_that_are_missing_are_named_by_their_collections(name: str) -> None:
    kind = FAMILIES[name].staged()
    embedding = kind.mod.arguments["embedding"]
    network = type(kind.mod).around(kind.core, {"trk": 7, "calo": 5, "vtx": 5}, embedding=embedding).double().eval()
    inputs = jets_with_vertices((3, 4))
    vertices = inputs.more["sv"]
    jets = replace(inputs, more={"calo": vertices, "vtx": replace(vertices, vectors=None)})
    with pytest.raises(
        UsageError, match=rf"^{name} makes its .* must have trk_vectors, calo_vectors, vtx_vectors \(px.*_globals"
    ):
        Tagger(FAMILIES[name].backbone(network), []).double().eval()(jets)
