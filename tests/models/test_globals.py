"""Networks that take numbers of the jet itself beside its particles: all forms, exits, checkpoints and costs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from phaze_ee.benchmark.cost import exit_costs
from phaze_ee.engine.engine import Engine
from phaze_ee.errors import UsageError
from phaze_ee.exits.policies import ThresholdPolicy, exit_index
from phaze_ee.models.backbone import Backbone
from phaze_ee.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from phaze_ee.models.heads import EXIT_HEADS
from phaze_ee.models.particle_flow_network import ParticleFlowNetwork
from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import GLOBALS, JetInputs, Jets, RaggedJets, globals_of, with_collections, with_globals
from tests.jets import CHANNELS, CLASSES, random_jets, small_weaver_network
from tests.models.merged_networks import FAMILIES, jets_with_vertices

COUNTS = (9, 3, 0, 1, 12, 6)
NUMBERS = 3


def plain(name: str) -> Backbone[Any]:
    torch.manual_seed(1)
    if name == "PFN":
        return ParticleFlowNetwork(CHANNELS, CLASSES, (8, 8), (8,)).double()
    if name == "fusion":
        return ParticleNet(small_weaver_network(use_fusion=True))
    if name == "one":
        return ParticleNet(small_weaver_network())
    return FAMILIES[name].staged()


def jets_for(name: str) -> tuple[Jets, Jets]:
    """Jets without and with numbers of their own."""
    jets: Jets = random_jets(COUNTS) if name in ("PFN", "fusion", "one") else jets_with_vertices(COUNTS)
    random = torch.Generator().manual_seed(5)
    return jets, with_globals(jets, torch.randn(len(COUNTS), NUMBERS, generator=random, dtype=torch.float64))


def tagger_for(name: str, head: str = "linear", *, numbers: int = NUMBERS) -> Tagger:
    backbone = plain(name)
    if numbers:
        backbone.take_globals(numbers)
    return Tagger(backbone, ("input", 0, 1), head).double().eval()


def narrowed(wide: Tagger, narrow: Tagger) -> Tagger:
    """Give the first layers on pooled features the same weights, and zero to the numbers of the jet."""
    weights = narrow.state_dict()
    for name, value in wide.state_dict().items():
        own = weights[name]
        if own.shape != value.shape:
            own.copy_(value[:, : own.shape[1]])
            value[:, own.shape[1] :] = 0
        else:
            own.copy_(value)
    return narrow


NAMES = ("one", "fusion", "PFN", *FAMILIES)
BY_NAME = pytest.mark.parametrize("name", NAMES)


@BY_NAME
def test_with_weights_of_zero_they_change_nothing(name: str) -> None:
    without, jets = jets_for(name)
    wide = tagger_for(name)
    narrow = narrowed(wide, tagger_for(name, numbers=0))
    torch.testing.assert_close(wide(jets), narrow(without), rtol=0, atol=1e-12)


@BY_NAME
@pytest.mark.parametrize("head", EXIT_HEADS)
def test_every_answer_depends_on_them(name: str, head: str) -> None:
    _, jets = jets_for(name)
    numbers = globals_of(jets)
    assert numbers is not None
    others = with_globals(jets.particles(), numbers + 1)
    tagger = tagger_for(name, head)
    changed_EN = (tagger(jets) != tagger(others)).any(dim=2)
    assert changed_EN[-1].all()
    assert changed_EN[:, torch.tensor(COUNTS) > 0].all()


@BY_NAME
@pytest.mark.parametrize("head", ["linear", "deep_sets", "attention"])
def test_all_forms_agree(name: str, head: str) -> None:
    _, jets = jets_for(name)
    tagger = tagger_for(name, head)
    expected = tagger(jets)
    forms = [tagger]
    if tagger.backbone.has_packed_form:
        forms += [tagger.packed()]
    if tagger.backbone.has_packed_form and name != "ParticleTransformer":
        forms += [tagger.native()]
    with torch.inference_mode():
        for form in forms:
            for same in (jets, jets.ragged(), jets.padded(20)):
                torch.testing.assert_close(form(same), expected, rtol=0, atol=1e-11)


@BY_NAME
def test_the_engine_answers_as_the_simulation(name: str) -> None:
    _, jets = jets_for(name)
    tagger = tagger_for(name)
    with torch.no_grad():
        logits_ENK = tagger(jets)
    middle = [float(logits_NK.softmax(dim=1).amax(dim=1).median()) for logits_NK in logits_ENK[:-1]]
    policy = ThresholdPolicy("confidence", middle)
    for engine in (Engine(tagger, policy, threads=1), Engine(tagger, policy, threads=2)):
        result = engine(jets.ragged())
        assert result.exit_index_N.tolist() == exit_index(policy, logits_ENK).tolist()
        own = logits_ENK[result.exit_index_N, torch.arange(len(COUNTS))]
        torch.testing.assert_close(result.logits_NK.double(), own, rtol=0, atol=1e-11)


@BY_NAME
def test_checkpoints_keep_them(name: str, tmp_path: Path) -> None:
    _, jets = jets_for(name)
    tagger = tagger_for(name, "mlp").float()
    save_checkpoint(tmp_path / "model.pt", Checkpoint(tagger, {}, {}, "", 0, {}))
    loaded = load_checkpoint(tmp_path / "model.pt").tagger
    assert loaded.globals_count == loaded.fastest_form().globals_count == NUMBERS
    single = jets.map(lambda tensor: tensor.float() if tensor.is_floating_point() else tensor)
    assert torch.equal(loaded(single), tagger(single))


@pytest.mark.parametrize("name", ["one", "PFN"])
def test_costs_count_no_further_particle(name: str) -> None:
    _, jets = jets_for(name)
    wide, narrow = tagger_for(name), tagger_for(name, numbers=0)
    assert jets.counts_NG.equal(jets.particles().counts_NG)
    more_EN = wide.exit_macs(jets.counts_NG) - narrow.exit_macs(jets.counts_NG)
    heads = torch.arange(1, 4) * NUMBERS * CLASSES
    layers = wide.architecture.readout_layers
    assert layers is not None
    first = next(layer for layer in layers.modules() if isinstance(layer, nn.Linear))
    assert more_EN.tolist() == [
        [int(macs)] * len(COUNTS) for macs in (*heads, heads[-1] + NUMBERS * first.out_features)
    ]
    assert exit_costs(wide, particles=20)[-1].macs == int(wide.exit_macs(torch.tensor([20]))[-1])


def test_gradients_reach_their_weights() -> None:
    _, jets = jets_for("one")
    tagger = tagger_for("one").train()
    for form in (tagger, tagger.packed().train()):
        tagger.zero_grad()
        form(jets).square().sum().backward()
        for name, parameter in tagger.named_parameters():
            if name.endswith("linear.weight") or name == "backbone.mod.fc.0.0.weight":
                assert parameter.grad is not None
                assert (parameter.grad[:, -NUMBERS:] != 0).any(), name


def test_jets_are_taken_with_their_numbers() -> None:
    _, jets = jets_for("one")
    numbers = globals_of(jets)
    assert numbers is not None
    index_N = torch.tensor([4, 0, 2])
    for own in (jets, jets.ragged()):
        found = globals_of(own.select(index_N).padded(30))
        assert found is not None
        assert torch.equal(found, numbers[index_N])
        assert GLOBALS not in own.particles().more
    ragged = with_globals(jets.particles().ragged(), numbers)
    assert isinstance(ragged, RaggedJets)
    assert torch.equal(tagger_for("one")(ragged), tagger_for("one")(jets))


def test_mistakes_are_told() -> None:
    without, jets = jets_for("one")
    with pytest.raises(UsageError, match=r"takes 3 numbers of the jet itself \(\*_globals\), and the jets have none"):
        tagger_for("one")(without)
    with pytest.raises(UsageError, match=r"takes no numbers of the jet itself .*, and the jets have 3"):
        tagger_for("one", numbers=0)(jets)
    numbers = globals_of(jets)
    assert numbers is not None
    for wrong in (numbers[:4], torch.cat([numbers, numbers]), numbers[:, 0]):
        with pytest.raises(UsageError, match=r"6 jets need numbers of shape \(6, G\), and they have \("):
            with_globals(without, wrong)
    network = small_weaver_network()
    headless = ParticleNet(network)
    network.fc = nn.Identity()
    with pytest.raises(UsageError, match="ParticleNet has no place for numbers of the jet"):
        headless.take_globals(2)


@pytest.mark.parametrize("count", [5, 7])
def test_collections_of_other_jets_are_refused(count: int) -> None:
    jets, others = random_jets(COUNTS), random_jets((4,) * count)
    problem = rf"there are 6 jets, and {count} in more\['sv'\]; give the same jets"
    with pytest.raises(UsageError, match=problem):
        JetInputs(jets.points, jets.features, jets.vectors, jets.mask, more={"sv": others})
    with pytest.raises(UsageError, match=problem):
        with_collections(jets.ragged(), {"sv": others.ragged()})
