"""Files answer as the engine does: the same exit for every jet, and the same digits in double precision."""

from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from phaze_ee.engine.engine import Engine
from phaze_ee.errors import UsageError
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.export.model import FileForm, write_model
from phaze_ee.models.backbone import macs_per_row
from phaze_ee.models.heads import EXIT_HEADS, ExitHead, HeadShape
from phaze_ee.models.links import EXIT_LINKS
from phaze_ee.registry import BUILT_IN
from phaze_ee.types import JetInputs, State
from tests.export.files import (
    NAMES,
    answers,
    assert_as_engine,
    jets,
    particle_net,
    policy_for,
    session,
    with_random_exits,
)
from tests.jets import small_tagger

INPUTS = jets()


@pytest.mark.parametrize("link", BUILT_IN["exit_link"])
@pytest.mark.parametrize("head", BUILT_IN["exit_head"])
def test_every_head_link_and_score(head: str, link: str) -> None:
    tagger = particle_net(head, link)
    for number, score in enumerate(BUILT_IN["exit_score"]):
        policy = policy_for(tagger, score, INPUTS)
        index_N = assert_as_engine(tagger, policy, INPUTS, one_jet=bool(number % 2))
        # Some jets leave and others stay; a fixed exit lets none stay, and random exits seldom agree.
        assert len(set(index_N.tolist())) > {"fixed": 0, "patience": 0}.get(score, 2)


@pytest.mark.parametrize("one_jet", [False, True])
@pytest.mark.parametrize("stages", [("input", 0, 1), (0, 2), ()], ids=str)
@pytest.mark.parametrize(
    "changes",
    [{}, {"use_fusion": True}, {"use_counts": False}, {"use_fts_bn": False, "use_fusion": True, "use_counts": False}],
    ids=str,
)
def test_every_particle_net(changes: dict[str, Any], stages: Any, one_jet: bool) -> None:
    tagger = particle_net("linear_mean_max", "cascade", stages, **changes)
    policy = policy_for(tagger, "margin", INPUTS) if stages else None
    # Without use_counts the answer depends on the longest jet of the batch: a file takes each jet alone.
    assert_as_engine(tagger, policy, INPUTS, one_jet=one_jet, chunk_size=1 if "use_counts" in changes else 512)


def test_blocks_that_keep_their_channels_or_have_one_layer() -> None:
    tagger = particle_net(conv_params=[(4, (8,)), (6, (8, 8))], input_dims=7)
    assert_as_engine(tagger, policy_for(tagger, "confidence", INPUTS), INPUTS)


@pytest.mark.parametrize("opset", [15, 17, 18, 20])
@pytest.mark.parametrize("one_jet", [False, True])
def test_every_opset(opset: int, one_jet: bool) -> None:
    tagger = particle_net("attention")
    policy = policy_for(tagger, "entropy", INPUTS)
    assert_as_engine(tagger, policy, INPUTS, opset=opset, one_jet=one_jet)
    model = write_model(tagger, policy, FileForm(NAMES, opset=opset, dtype=torch.float64))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", opset)]


@pytest.mark.parametrize("one_jet", [False, True])
def test_onnx_runs_the_file_as_onnx_runtime_does(one_jet: bool) -> None:
    tagger, few = particle_net("linear"), INPUTS.select(torch.tensor([5]))
    policy = policy_for(tagger, "confidence", INPUTS)
    model = write_model(tagger, policy, FileForm(NAMES, one_jet=one_jet, dtype=torch.float64))
    feeds = {NAMES[kind]: getattr(few, kind).numpy() for kind in ("points", "features", "mask")}
    outputs: Any = ReferenceEvaluator(model).run(None, feeds)
    scores_NK, index_N = outputs
    expected = Engine(tagger, policy)(few)
    np.testing.assert_allclose(scores_NK, expected.logits_NK.softmax(dim=-1), rtol=0, atol=1e-12)
    assert index_N.tolist() == expected.exit_index_N.tolist()


def test_single_precision_is_as_exact_as_rounding_allows() -> None:
    tagger = particle_net().float()
    inputs = jets(torch.float32)
    policy = policy_for(tagger, "confidence", inputs)
    scores_NK, index_N = answers(tagger, policy, inputs)
    expected = Engine(tagger, policy)(inputs)
    assert index_N.tolist() == expected.exit_index_N.tolist()
    torch.testing.assert_close(scores_NK, expected.logits_NK.softmax(dim=-1), rtol=0, atol=2e-6)


def test_content_of_padding_and_holes_in_the_mask_do_not_matter() -> None:
    tagger = particle_net()
    policy = policy_for(tagger, "confidence", INPUTS)
    holes = INPUTS.mask * (torch.rand(INPUTS.mask.shape, generator=torch.Generator().manual_seed(4)) > 0.3)
    filled = INPUTS.map(lambda tensor: tensor.masked_fill(holes == 0, torch.nan))
    assert_as_engine(tagger, policy, JetInputs(filled.points, filled.features, None, holes))


@pytest.mark.parametrize("shape", [(0, 5), (0, 0), (3, 0)], ids=str)
def test_calls_without_jets_or_slots(shape: tuple[int, int]) -> None:
    tagger = particle_net("linear_mean_max")
    policy = policy_for(tagger, "margin", INPUTS)
    jet_count, slots = shape
    none = INPUTS.select(torch.zeros(jet_count, dtype=torch.long)).padded(slots)
    scores_NK, index_N = answers(tagger, policy, none)
    assert scores_NK.shape == (jet_count, 4)
    assert len(index_N) == jet_count


def test_a_file_for_one_jet_refuses_several() -> None:
    content = write_model(particle_net().float(), None, FileForm(NAMES, one_jet=True)).SerializeToString()
    inputs = jets(torch.float32)
    with pytest.raises(Exception, match="Got: 14 Expected: 1"):
        session(content).run(
            None, {NAMES[kind]: getattr(inputs, kind).numpy() for kind in ("points", "features", "mask")}
        )


def test_outputs_are_what_c_plus_plus_users_read() -> None:
    """CMSSW and FCCAnalyses read output [0] and every output as float numbers with a first dimension."""
    loaded = session(write_model(particle_net().float(), None, FileForm(NAMES)).SerializeToString())
    assert [(value.name, value.type, value.shape) for value in loaded.get_outputs()] == [
        ("softmax", "tensor(float)", ["N", 4]),
        ("exit_index", "tensor(float)", ["N"]),
    ]
    assert {value.name: value.shape for value in loaded.get_inputs()} == {
        "pf_points": ["N", 2, "P"],
        "pf_features": ["N", 7, "P"],
        "pf_mask": ["N", 1, "P"],
    }


def test_exits_that_nothing_can_leave_by_are_not_in_the_file() -> None:
    tagger = particle_net("linear")
    size = {
        thresholds: len(
            write_model(tagger, ThresholdPolicy("confidence", thresholds), FileForm(NAMES)).SerializeToString()
        )
        for thresholds in [(0.5, 0.5, 0.5), (np.inf, np.inf, np.inf), (-np.inf, np.inf, np.inf)]
    }
    without = len(write_model(tagger, None, FileForm(NAMES)).SerializeToString())
    assert size[np.inf, np.inf, np.inf] == without
    # Where all jets leave on the inputs, the network itself is not needed.
    assert size[-np.inf, np.inf, np.inf] < without / 2
    assert without < size[0.5, 0.5, 0.5]
    capped = ThresholdPolicy("confidence", [0.5, 0.5, 0.5]).capped(1)
    assert_as_engine(tagger, capped, INPUTS)


class GatedHead(ExitHead):
    """A head of a user, with operations that no head of the package has."""

    name: ClassVar[str] = "gated"

    def __init__(self, channels: int, num_classes: int, shape: HeadShape = HeadShape()) -> None:  # noqa: B008
        super().__init__(channels, num_classes, shape)
        self.per_particle = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, 6), nn.GELU(), nn.Dropout(0.1))
        self.per_jet = nn.Linear(6, num_classes)

    def forward(self, state: State) -> Tensor:
        pooled_NC = state.map(self.per_particle).pool("mean")
        logits: Tensor = self.per_jet(pooled_NC * torch.sigmoid(pooled_NC)) - 0.5 * pooled_NC.mean(dim=1)[:, None]
        return logits

    def macs(self, particle_count_N: Tensor) -> Tensor:
        return particle_count_N * macs_per_row(self)


@pytest.mark.parametrize("opset", [15, 20])
def test_a_head_of_a_user_is_written_by_its_own_code(opset: int) -> None:
    tagger = small_tagger(("input", 0, 1))
    tagger.heads = nn.ModuleList(GatedHead(head.channels, head.num_classes) for head in tagger.heads)  # type: ignore[arg-type]
    with_random_exits(tagger)
    assert_as_engine(tagger, policy_for(tagger, "confidence", INPUTS), INPUTS, opset=opset)


class Strange(GatedHead):
    """A head with an operation that no file has."""

    def forward(self, state: State) -> Tensor:
        return torch.erfinv(state.pool("mean")[:, : self.num_classes])


def test_what_cannot_be_written_is_refused_with_its_name() -> None:
    tagger = small_tagger((0,))
    tagger.heads = nn.ModuleList([Strange(8, 4)])
    with pytest.raises(UsageError, match=r"an exit uses torch's 'erfinv', which export cannot write"):
        write_model(tagger, ThresholdPolicy("confidence", [0.5]), FileForm(NAMES))


def test_a_network_without_a_form_is_refused() -> None:
    tagger = small_tagger((0,))
    tagger.backbone = nn.Module()  # type: ignore[assignment]
    vars(tagger.backbone)["name"] = "mine"
    with pytest.raises(UsageError, match="mine cannot be exported: export knows the nodes of ParticleNet"):
        write_model(tagger, None, FileForm(NAMES))


@pytest.mark.parametrize("opset", [14, 21])
def test_an_unknown_opset_is_refused(opset: int) -> None:
    with pytest.raises(UsageError, match=f"opset {opset} is unknown to export; choose from 15 to 20"):
        write_model(small_tagger(()), None, FileForm(NAMES, opset=opset))


def test_an_input_that_is_not_there_is_refused() -> None:
    without = {kind: name for kind, name in NAMES.items() if kind != "mask"}
    with pytest.raises(UsageError, match=r"needs an input group \*_mask and the data configuration has none"):
        write_model(small_tagger(()), None, FileForm(without))


def test_a_policy_for_another_number_of_exits_is_refused() -> None:
    with pytest.raises(UsageError, match="the policy has 1 thresholds, the tagger 3 exits"):
        write_model(small_tagger(), ThresholdPolicy("confidence", [0.5]), FileForm(NAMES))


def test_names_are_unique_in_the_whole_file() -> None:
    tagger = particle_net("attention", "cascade")
    model = write_model(tagger, policy_for(tagger, "gate", INPUTS), FileForm(NAMES))

    def names(graph: onnx.GraphProto) -> list[str]:
        inner = [a.g for node in graph.node for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
        own = [output for node in graph.node for output in node.output] + [value.name for value in graph.initializer]
        return own + [name for other in inner for name in names(other)]

    found = names(model.graph)
    assert len(found) == len(set(found))


def test_all_built_in_parts_are_tested() -> None:
    assert set(EXIT_HEADS) == set(BUILT_IN["exit_head"])
    assert set(EXIT_LINKS) == set(BUILT_IN["exit_link"])
