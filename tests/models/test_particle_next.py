"""ParticleNeXt in stages against weaver-core's own module."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from weaver.nn.model.ParticleNeXt import ParticleNeXt as WeaverParticleNeXt

from phaze_ee.errors import UsageError
from phaze_ee.models.particle_next import ParticleNeXt
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetInputs
from tests.contracts.backbone import EXACT, BackboneContract
from tests.jets import CHANNELS, CLASSES, random_jets
from tests.published import real_jets

SCALES = [(2, 1), (1, 1)]
SMALL: dict[str, Any] = {
    "feature_input_dim": CHANNELS,
    "num_classes": CLASSES,
    "node_dim": 6,
    "edge_dim": 5,
    "layer_params": [(6, 16, SCALES, 16), (6, 24, SCALES, 16), (6, 24, SCALES, 16)],
    "fc_params": [(16, 0.1)],
    "trim": False,
}
MOVING = {"update_coords": True, "edge_dim": 0, "layer_params": [(6, 16), (4, 16), (5, 24)]}
MIXES: dict[str, dict[str, Any]] = {
    "as published": {},
    "moving coordinates": MOVING,
    "distances": {**MOVING, "use_rel_dist": True},
    "four-momenta of neighbours": {"lv_aggregation": True},
    "polarisation angle": {"use_polarization_angle": True, "edge_dim": 0},
    "no four-momenta": {"use_rel_lv_fts": False},
    "means": {"global_aggregation": "mean", "edge_aggregation": "mean"},
    "sums": {"global_aggregation": "sum", "edge_aggregation": "sum", "use_rel_fts": True},
    "highest": {"global_aggregation": "max", "edge_aggregation": "max"},
    "full attention": {"global_aggregation": "attn", "edge_aggregation": "attn"},
    "more attention than channels": {"edge_aggregation": "attn32"},
    "several numbers of neighbours": {"layer_params": [(3, 16), (8, 16, [(2, 1), (2, 2)]), (6, 24, [(1, 2)], 16)]},
    "no squeezing": {"use_node_se": False, "use_edge_se": False},
    "no node encoder": {"node_dim": 0, "use_node_bn": False, "use_edge_bn": False, "edge_dim": 0},
}


def weaver_network(**changes: Any) -> WeaverParticleNeXt:
    """weaver's own module, with weights that let every layer matter."""
    torch.manual_seed(0)
    network = WeaverParticleNeXt(**{**SMALL, **changes}).double()
    normalisations: list[Any] = [module for module in network.modules() if hasattr(module, "running_mean")]
    for module in normalisations:
        torch.nn.init.normal_(module.running_mean, std=0.3)
        torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
        torch.nn.init.uniform_(module.weight, 0.5, 1.5)
        torch.nn.init.normal_(module.bias, std=0.3)
    for name, parameter in network.named_parameters():
        if name.endswith("gamma"):  # 1e-5 at first, which would hide what the layers do
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return network.eval()


def weaver_answer(network: WeaverParticleNeXt, inputs: JetInputs) -> Tensor:
    copy = inputs.map(torch.clone)  # weaver writes into its inputs
    logits: Tensor = network(copy.points, copy.features, copy.vectors, copy.mask)
    return logits


class TestParticleNeXt(BackboneContract):
    changes: dict[str, Any] = {}  # noqa: RUF012

    def backbone(self) -> ParticleNeXt:
        return ParticleNeXt(weaver_network(**self.changes))

    def reference(self, inputs: JetInputs) -> Tensor:
        logits = weaver_answer(weaver_network(**self.changes), inputs)
        return logits.where(inputs.particle_count_N[:, None] > 0, self._answer_to_nothing())

    def _answer_to_nothing(self) -> Tensor:
        network = weaver_network(**self.changes)
        answer: Tensor = network.fc(torch.zeros(1, network.fc[0][0].in_features).double())
        return answer


class TestWithMeans(TestParticleNeXt):
    changes = MIXES["means"]


@pytest.mark.parametrize("changes", MIXES.values(), ids=MIXES.keys())
def test_every_option_gives_weavers_answer(changes: dict[str, Any]) -> None:
    network, inputs = weaver_network(**changes), random_jets((3, 30, 17, 5, 12, 24), length=30)
    expected = weaver_answer(network, inputs)
    torch.testing.assert_close(Tagger(ParticleNeXt(network), []).eval()(inputs)[-1], expected, **EXACT)


@pytest.mark.parametrize("changes", MIXES.values(), ids=MIXES.keys())
def test_the_arguments_build_the_same_network(changes: dict[str, Any]) -> None:
    network, inputs = weaver_network(**changes), random_jets((3, 12, 9))
    rebuilt = ParticleNeXt.from_arguments(ParticleNeXt(network).arguments).double().eval()
    rebuilt.mod.load_state_dict(network.state_dict())
    torch.testing.assert_close(weaver_answer(rebuilt.mod, inputs), weaver_answer(network, inputs), rtol=0, atol=0)


@pytest.mark.parametrize("changes", MIXES.values(), ids=MIXES.keys())
def test_macs_are_those_that_torch_counts(changes: dict[str, Any]) -> None:
    tagger = Tagger(ParticleNeXt(weaver_network(**changes)), ["input", 0, 1, 2]).double().eval()
    for counts in ((12, 12), (2, 2)):
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            counted = [counter.get_total_flops() // 2 for _ in tagger.walk(random_jets(counts))]
        assert tagger.exit_macs(torch.tensor(counts)).sum(dim=1).tolist() == counted


@pytest.mark.parametrize("changes", [{}, MOVING], ids=["one graph", "moving coordinates"])
def test_a_training_step_equals_weavers(changes: dict[str, Any]) -> None:
    ours = Tagger(ParticleNeXt(weaver_network(**changes)), []).train()
    network, inputs = weaver_network(**changes).train(), random_jets((3, 30, 17, 5, 12, 24), length=30)
    torch.manual_seed(1)
    expected = weaver_answer(network, inputs)
    torch.manual_seed(1)
    torch.testing.assert_close(ours(inputs)[-1], expected, **EXACT)
    own = ours.backbone.state_dict()
    assert own.keys() == {f"mod.{name}" for name in network.state_dict()}
    for name, value in network.state_dict().items():
        torch.testing.assert_close(own[f"mod.{name}"], value, **EXACT)


def test_training_drops_particles_of_the_longest_jets_alone() -> None:
    backbone = ParticleNeXt(weaver_network(trim=True)).train()
    counts = torch.tensor([2, 4, 8, 12, 20, 30])
    inputs = random_jets(counts.tolist(), length=40)
    lengths = []
    for step in range(25):
        torch.manual_seed(step)
        jets = backbone.embed(inputs).jets
        lengths.append(jets.mask.shape[-1])
        assert jets.particle_count_N.equal(counts.clamp(max=lengths[-1]))
        assert jets.vectors is not None
        rows = torch.cat([jets.points, jets.features, jets.vectors], dim=1).transpose(1, 2)[-1, :, 0].tolist()
        assert set(rows) <= {0.0, *inputs.points[-1, 0].tolist()}
    assert lengths[:5] == [40] * 5  # weaver's warm-up
    assert len(set(lengths[5:])) > 1
    assert max(lengths[5:]) == 30
    assert min(lengths) >= 20  # the quantile 0.9 lies between the two longest jets


def test_training_leaves_as_many_slots_as_there_are_neighbours() -> None:
    backbone = ParticleNeXt(weaver_network(trim=True, layer_params=[(14, 16, SCALES, 16)])).train()
    for step in range(12):
        torch.manual_seed(step)
        jets = backbone.embed(random_jets((3, 4, 2, 5, 4, 3, 2, 4, 3, 2, 1, 15), length=20)).jets
        assert jets.mask.shape[-1] >= 14
        assert jets.particle_count_N[:-1].tolist() == [3, 4, 2, 5, 4, 3, 2, 4, 3, 2, 1]


def test_jets_that_stay_are_cut_to_the_longest_of_them() -> None:
    backbone, inputs = ParticleNeXt(weaver_network()), random_jets((3, 30, 9, 5))
    state = backbone.stage(0, backbone.embed(inputs)).select(torch.tensor([0, 2]))
    assert state.jets.mask.shape[-1] == 9
    assert state.graph is not None
    assert int(state.graph.index_NPk.max()) < 9
    assert state.select(torch.tensor([0])).jets.mask.shape[-1] == 6  # neighbours


def test_real_jets_in_single_precision(shared_dir: Path) -> None:
    torch.manual_seed(0)
    network = WeaverParticleNeXt(feature_input_dim=7, num_classes=10, init_scale=0.5).eval()
    inputs = real_jets(shared_dir)[0].select(torch.arange(24))
    with torch.no_grad():
        expected = weaver_answer(network, inputs)
        logits = Tagger(ParticleNeXt(network), []).eval()(inputs)[-1]
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


def test_half_precision_keeps_padding_away() -> None:
    inputs = random_jets((3, 8, 12), length=16, dtype=torch.float32)
    tagger = Tagger(ParticleNeXt(weaver_network().float()), []).eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        half = tagger(inputs)[-1]
    torch.testing.assert_close(half.float(), tagger(inputs)[-1], rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"for_segmentation": True}, "for_segmentation = True answers for each particle"),
        ({"for_inference": True}, "for_inference = True is for export"),
        ({"layer_params": [(4000, 16, SCALES, 16)]}, "has at most 1,024 neighbours, here 4,000"),
        ({"edge_input_dim": 2}, "edge_input_dim > 0 needs edge inputs"),
        ({"edge_input_dim": 2, "edge_dim": 0, "use_edge_bn": False}, "edge_input_dim > 0 needs edge inputs"),
        ({"input_dropout": 0.1}, "input_dropout changes the jets in training"),
        ({"lorentz_vector_smear": 0.1}, "lorentz_vector_smear changes the jets in training"),
        ({"lv_aggregation": True, "use_rel_lv_fts": False}, "lv_aggregation needs use_rel_lv_fts"),
        ({"use_rel_dist": True}, "use_rel_dist needs update_coords"),
        ({"update_coords": True}, "update_coords needs edge_dim = 0"),
    ],
)
def test_networks_without_stages_are_refused(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        ParticleNeXt.from_weaver(WeaverParticleNeXt(**{**SMALL, **changes}))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_that_was_changed_is_refused() -> None:
    network = weaver_network()
    network.post = torch.nn.Sequential(network.post, torch.nn.Conv2d(24, 24, 1))
    with pytest.raises(UsageError, match="this ParticleNeXt cannot have exits: it was changed after it had been built"):
        ParticleNeXt.from_weaver(network)


def test_a_head_that_a_checkpoint_would_not_describe_is_refused() -> None:
    network = weaver_network()
    network.fc[0][1] = torch.nn.GELU()
    with pytest.raises(UsageError, match="its fc is not hidden layers with ReLU and Dropout, then a Linear"):
        ParticleNeXt.from_weaver(network)


def test_jets_without_four_momenta_are_refused_where_they_are_needed() -> None:
    inputs = replace(random_jets((3, 12)), vectors=None)
    with pytest.raises(UsageError, match="ParticleNeXt makes its edges of four-momenta and the jets have none"):
        Tagger(ParticleNeXt(weaver_network()), []).eval()(inputs)
    assert Tagger(ParticleNeXt(weaver_network(use_rel_lv_fts=False)), []).eval()(inputs).isfinite().all()
