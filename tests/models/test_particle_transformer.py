"""Particle Transformer in stages against weaver-core's own module."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from weaver.nn.model.ParticleTransformer import ParticleTransformer as WeaverParticleTransformer

from phaze_ee.benchmark.cost import exit_costs
from phaze_ee.errors import CheckpointError, UsageError
from phaze_ee.models.checkpoint import load_weights
from phaze_ee.models.particle_transformer import ParticleTransformer
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetInputs
from tests.contracts.backbone import BackboneContract
from tests.jets import CHANNELS, CLASSES, random_jets
from tests.published import real_jets

SMALL: dict[str, Any] = {
    "input_dim": CHANNELS,
    "num_classes": CLASSES,
    "embed_dims": [12, 8],
    "pair_embed_dims": [6, 6],
    "num_heads": 2,
    "num_layers": 3,
    "trim": False,
}


def weaver_part(*, seed: int = 0, **changes: Any) -> WeaverParticleTransformer:
    """weaver's own module, with weights and statistics that are not the trivial ones."""
    torch.manual_seed(seed)
    network = WeaverParticleTransformer(**{**SMALL, **changes}).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            torch.nn.init.normal_(buffer, std=0.3)
        elif name.endswith("running_var"):
            torch.nn.init.uniform_(buffer, 0.5, 2.0)
    return network.eval()


class TestVersion1(BackboneContract):
    changes: dict[str, Any] = {}  # noqa: RUF012

    def backbone(self) -> ParticleTransformer:
        return ParticleTransformer(weaver_part(**self.changes))

    def reference(self, inputs: JetInputs) -> Tensor:
        logits: Tensor = weaver_part(**self.changes)(inputs.features, inputs.vectors, inputs.mask)
        return logits


class TestVersion2(TestVersion1):
    changes = {"version": 2}  # noqa: RUF012


class TestVersion3(TestVersion1):
    changes = {"version": 3}  # noqa: RUF012


class TestVersion35(TestVersion1):
    changes = {"version": 3.5}  # noqa: RUF012


class TestVersion36(TestVersion1):
    changes = {"version": 3.6}  # noqa: RUF012


class TestBiasInSomeBlocks(TestVersion1):
    parameters_without_use = ("backbone.mod.blocks.1.c_mask",)
    changes = {  # noqa: RUF012
        "block_ids_with_attn_mask": [0, 2],
        "block_params": {"scale_attn_mask": True, "ffn_ratio": 2, "layer_scale_init_values": 0.1},
        "use_conv_embed": True,
        "remove_self_pair": True,
        "fc_params": [[10, 0.1], [6, 0.0, "swiglu"]],
    }


class TestWithoutClassAttention(TestVersion1):
    changes = {"num_cls_layers": 0, "pair_input_type": "ee", "activation": "relu"}  # noqa: RUF012


class TestWithoutPairs(TestVersion1):
    changes = {"pair_embed_dims": None, "use_pre_activation_pair": False, "fc_params": [[10, 0.1, "gelu"]]}  # noqa: RUF012


class TestPairsInBothOrders(TestVersion1):
    changes = {"pair_input_dim": 8, "pair_embed_sparse_eval": [False, False]}  # noqa: RUF012


OPTIONS = [case.changes for case in TestVersion1.__subclasses__()] + [{}]


@pytest.mark.parametrize("changes", OPTIONS, ids=str)
def test_macs_are_those_that_torch_counts(changes: dict[str, Any]) -> None:
    tagger = Tagger(ParticleTransformer(weaver_part(**changes)), ["input", 0, 1, 2])
    for particles in (1, 2, 13):
        counted = [cost.macs for cost in exit_costs(tagger, particles=particles)]
        assert tagger.exit_macs(torch.tensor([particles]))[:, 0].tolist() == counted


def test_macs_of_the_published_network() -> None:
    full = Tagger(ParticleTransformer(WeaverParticleTransformer(17, 10)), [0])
    cost = exit_costs(full, particles=128)[-1]
    assert cost.macs == int(full.exit_macs(torch.tensor([128]))[-1])
    without_head = cost.macs - 128 * 10
    assert without_head == 334_759_680
    assert without_head == pytest.approx(340e6, rel=0.03)  # arXiv:2202.03772, table 2
    assert sum(parameter.numel() for parameter in full.backbone.parameters()) == 2_143_486
    assert cost.weaver_macs < 0.8 * cost.macs  # its counter misses the attention


def test_full_size_equals_weaver_on_real_jets(shared_dir: Path) -> None:
    torch.manual_seed(0)
    network = WeaverParticleTransformer(7, 10).eval()
    network.trimmer._counter.fill_(network.trimmer.warmup_steps)  # it does not trim in its first calls
    jets = real_jets(shared_dir)[0]
    with torch.no_grad():
        for some in torch.split(jets.particle_count_N.argsort(), 31):  # of similar length, which is quicker
            batch = jets.select(some)
            expected = network(batch.features, batch.vectors, batch.mask)
            logits = Tagger(ParticleTransformer(network), []).eval()(batch.ragged())[-1]
            torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("version", [1, 3])
def test_training_step_equals_weaver_with_its_trimming(version: int) -> None:
    ours = Tagger(ParticleTransformer(weaver_part(trim=True, version=version)), []).train()
    network = weaver_part(trim=True, version=version).train()
    for step in range(7):  # weaver's trimmer starts to trim after five calls, and draws random numbers then
        inputs = random_jets((3, 30, 17, 5, 12, 24), length=30, seed=step)
        torch.manual_seed(step)
        expected = network(inputs.features, inputs.vectors, inputs.mask)
        torch.manual_seed(step)
        torch.testing.assert_close(ours(inputs)[-1], expected, rtol=0, atol=1e-11)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(ours.backbone.state_dict()[f"mod.{name}"], value, rtol=0, atol=1e-11)


def test_weights_of_weaver_load_and_save_unchanged(tmp_path: Path) -> None:
    weights = weaver_part(seed=1).state_dict()
    torch.save({f"mod.{name}": value for name, value in weights.items()}, tmp_path / "new.pt")
    # The names that torch's own attention has, with which the published weights were saved.
    old = {name.replace("in_proj.weight", "in_proj_weight"): value for name, value in weights.items()}
    old = {name.replace("in_proj.bias", "in_proj_bias"): value for name, value in old.items()}
    torch.save(old, tmp_path / "old.pt")
    for file in ("new.pt", "old.pt"):
        tagger = Tagger(ParticleTransformer(weaver_part()), [])
        load_weights(tagger, tmp_path / file)
        saved = {name.removeprefix("mod."): value for name, value in tagger.backbone.state_dict().items()}
        assert saved.keys() == weights.keys() != old.keys()
        assert all(torch.equal(saved[name], value) for name, value in weights.items())
    with pytest.raises(CheckpointError, match=r"another architecture: mod\.blocks"):
        load_weights(Tagger(ParticleTransformer(weaver_part(num_layers=4)), []), tmp_path / "old.pt")


def test_empty_jets_get_an_answer_and_a_gradient_where_weaver_has_none() -> None:
    network = weaver_part()
    for module in network.modules():
        if hasattr(module, "use_sdpa"):
            module.use_sdpa = False  # weaver's own attention, for older GPUs
    inputs = random_jets((4, 0, 11))
    assert network(inputs.features, inputs.vectors, inputs.mask)[1].isnan().all()
    tagger = Tagger(ParticleTransformer(network), [0, 1]).double().eval()
    expected = Tagger(ParticleTransformer(weaver_part()), [])(inputs)[-1]
    torch.testing.assert_close(tagger(inputs)[-1], expected, rtol=0, atol=1e-11)
    tagger.train()(inputs).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in tagger.parameters())
    assert tagger.eval()(random_jets((0, 0), length=5)).isfinite().all()


def test_selection_cuts_to_the_longest_jet_left() -> None:
    backbone = ParticleTransformer(weaver_part(version=3.6))
    state = backbone.stage(0, backbone.embed(random_jets((3, 30, 7))))
    left = state.select(torch.tensor([True, False, True]))
    assert left.bias_NHTT is not None
    assert left.tokens_NPC.shape[1] == left.valid_NP.shape[1] == 7
    assert left.bias_NHTT.shape == (2, 2, 8, 8)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"for_segmentation": True}, "for_segmentation = True answers for each particle"),
        ({"for_inference": True}, "for_inference = True is for export"),
        ({"fc_params": None}, "fc_params = None leaves it without a head; set a list, in place of layers behind it"),
        ({"pair_extra_dim": 2}, "pair_extra_dim > 0 needs pair inputs"),
        ({"embed_dims": [], "num_heads": 1}, r"embed_dims = \[\] leaves it without an embedding"),
        ({"num_layers": 0}, "num_layers = 0 leaves it without a block"),
    ],
)
def test_what_has_no_stages_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=f"this ParticleTransformer cannot have exits: {reason}"):
        ParticleTransformer(weaver_part(**changes))


def test_a_module_that_was_changed_afterwards_is_refused() -> None:
    network = weaver_part()
    network.blocks[1].fc2 = torch.nn.Linear(32, 8, bias=False)
    with pytest.raises(UsageError, match="it was changed after it had been built"):
        ParticleTransformer(network)


@pytest.mark.parametrize(
    "head", [torch.nn.Identity(), torch.nn.Sequential(torch.nn.Linear(8, 3), torch.nn.Softmax(dim=1))]
)
def test_a_head_that_a_checkpoint_would_not_describe_is_refused(head: torch.nn.Module) -> None:
    network = weaver_part()
    network.fc = head
    with pytest.raises(UsageError, match="its fc is not hidden layers with ReLU, GELU or SwiGLU, then a Linear"):
        ParticleTransformer(network)


def test_jets_without_momenta_are_refused_where_pairs_need_them() -> None:
    jets = random_jets((3, 5))
    without = JetInputs(jets.points, jets.features, None, jets.mask)
    with pytest.raises(UsageError, match=r"must have pf_vectors .*; or set pair_embed_dims to None in network_options"):
        Tagger(ParticleTransformer(weaver_part()), [])(without)
    without_pairs = Tagger(ParticleTransformer(weaver_part(pair_embed_dims=None)), [])
    assert without_pairs(without).isfinite().all()
