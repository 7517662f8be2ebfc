"""One ONNX file of a tagger with its exit policy, for one jet per call or for any number."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, cast, final

import numpy as np
import onnx
import torch
from onnx import helper
from torch import nn

from phaze_ee.engine.engine import Engine
from phaze_ee.errors import UsageError
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.export.backbones import in_stages
from phaze_ee.export.graph import Graph, value_info, without_unused
from phaze_ee.export.heads import in_file
from phaze_ee.export.operations import shape_of, where
from phaze_ee.export.reading import read_jets
from phaze_ee.export.shaping import gather, unsqueeze
from phaze_ee.export.stages import FileStages
from phaze_ee.export.states import FileState, ManyJets
from phaze_ee.export.values import Stacked, Value, constant, integers, node
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import Exit, RaggedJets

OPSETS = range(15, 21)
SCORES, EXIT_INDEX = "softmax", "exit_index"
_IR_VERSIONS = {15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9}  # those of the first ONNX that had the opset


@final
@dataclass(frozen=True)
class FileForm:
    """What kind of file to write.

    Attributes:
        inputs: the name of each kind of input: points, features, vectors, mask.
        one_jet: whether a call has exactly one jet.
        opset: the version of the standard operators; None: the one that suits the network.
        dtype: the type of the network's numbers.
        metadata: texts to store in the file.
        more: the names of further collections' inputs, by collection.
    """

    inputs: Mapping[str, str]
    one_jet: bool = False
    opset: int | None = None
    dtype: torch.dtype = torch.float32
    metadata: Mapping[str, str] | None = None
    more: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


class Answer(NamedTuple):
    """Probabilities (N, K), and the exit where each jet left as a number of the network's type (N)."""

    scores: Value
    exit_index: Value

    @property
    def types(self) -> dict[str, torch.dtype]:
        """The type of each value, by its name."""
        return {value.name: value.dtype for value in self}


def write_model(tagger: Tagger, policy: ThresholdPolicy | None, form: FileForm) -> onnx.ModelProto:
    """Return the file of a tagger, in evaluation mode and in the type of the file.

    Args:
        tagger: the tagger.
        policy: decides where jets leave; None: every jet gets the full model.
        form: what kind of file.

    Raises:
        UsageError: the network, an exit or the policy cannot be written, or the opset or an input is unknown.
    """
    if policy is not None:
        policy.check(len(tagger.exit_stages))
    with torch.no_grad():
        return _Writer(tagger, policy, form).model()


def stages_of(tagger: Tagger) -> FileStages:
    """Return the network as stages that write into a file of their own, to ask what is special about it.

    Raises:
        UsageError: the network cannot be written.
    """
    stages = in_stages(tagger.backbone)
    return stages(Graph(stages.opset, torch.float32), tagger.backbone)


@final
class _Writer:
    def __init__(self, tagger: Tagger, policy: ThresholdPolicy | None, form: FileForm) -> None:
        stages = in_stages(tagger.backbone)
        opset = stages.opset if form.opset is None else form.opset
        if opset not in OPSETS:
            raise UsageError(f"opset {opset} is unknown to export; choose from {OPSETS[0]} to {OPSETS[-1]}")
        self.graph = Graph(opset, form.dtype)
        self.tagger, self.policy, self.form = tagger, policy, form
        self.stages: FileStages = stages(self.graph, tagger.backbone)
        heads = nn.ModuleList(in_file(cast(Any, head)) for head in tagger.heads)
        self.writing = Tagger(
            self.stages, tagger.exit_stages, tagger.head_names, heads, head_shape=tagger.head_shape, link=tagger.link
        ).eval()

    def model(self) -> onnx.ModelProto:
        graph, form = self.graph, self.form
        jets = read_jets(graph, self.stages, form.inputs, form.more, one_jet=form.one_jet)
        answer = self._one_jet(jets.state) if form.one_jet else _but_last(self._any_number(jets.state))
        outputs = []
        for value, (name, shape) in zip(answer, self._outputs.items(), strict=True):
            graph.rename(value.name, name)
            outputs.append(value_info(name, form.dtype, shape))
        written = graph.close("tagger_with_exits", jets.inputs, outputs)
        without_unused(written)
        model = helper.make_model(
            written,
            opset_imports=[helper.make_opsetid("", graph.opset)],
            producer_name="phaze_ee",
        )
        model.ir_version = _IR_VERSIONS[graph.opset]
        helper.set_model_props(model, dict(form.metadata or {}))
        onnx.checker.check_model(model, full_check=True)
        return model

    @property
    def _outputs(self) -> dict[str, list[int | str]]:
        """The shape of each output of the file. The exit is a number of rank 1: C++ users read all outputs as such."""
        number = 1 if self.form.one_jet else "N"
        return {SCORES: [number, self.stages.num_classes], EXIT_INDEX: [number]}

    def _one_jet(self, jet: FileState) -> Answer:
        """Write the answer for a jet that may have no particle."""
        graph = self.graph
        empty = jet.total_count == 0
        graph.open()
        filled = self._exits(self._walk(jet), [])
        return self._either(empty, "no_particles", self._without_particles, filled)

    def _walk(self, jets: FileState) -> Any:
        exits = () if self.policy is None else self.policy.exits
        return self.writing.walk(cast(Any, jets), exits=exits)

    def _any_number(self, jets: FileState) -> Answer:
        """Write the exit on the inputs for all jets, and a loop over those that go on; the last jet is an empty one."""
        graph, layout = self.graph, jets.jets
        assert isinstance(layout, ManyJets)
        going_N = jets.total_count > 0
        answer, walk, history = self._for_all(self._without_particles(), layout.count_N), None, list[Any]()
        if self._exits_on_inputs:
            walk = self._walk(jets)
            exit_ = self._tempered(next(walk))
            answer = Answer(
                where(unsqueeze(going_N, 1), _probabilities(exit_), answer.scores),
                where(going_N, self._index(0), answer.exit_index),
            )
            leaves_N = self._leaves(exit_, history)
            if leaves_N.known:
                return answer
            going_N = going_N & ~leaves_N
        place_B1 = node(
            graph, "Transpose", node(graph, "NonZero", going_N, shape=(1, None), dtype=torch.int64), shape=(None, 1)
        )
        later = self._loop(jets, walk, history, place_B1)
        merged = (
            node(graph, "ScatterND", mine, place_B1, theirs, shape=mine.shape)
            for mine, theirs in zip(answer, later, strict=True)
        )
        return Answer(*merged)

    @property
    def _exits_on_inputs(self) -> bool:
        exits = () if self.policy is None else self.policy.exits or ()
        # Several collections are put together jet by jet.
        return self.tagger.exit_stages[:1] == ("input",) and 0 in exits and not self.stages.collections

    def _loop(self, jets: FileState, walk: Any, history: Sequence[Any], place_B1: Value) -> Answer:
        """Write a loop that takes the jets of some places through the later exits, one by one."""
        graph = self.graph
        graph.open()
        iteration, condition = graph.new_name("iteration"), graph.new_name("condition")
        number = Value(graph, iteration, (), torch.int64)
        jet = gather(place_B1, number)
        if walk is None:
            exits: Iterator[Exit] = self._walk(jets.select(jet))
        else:
            exits = itertools.chain([walk.send(cast(Any, jet))], walk)
        answer = self._exits(exits, [gather(logits, jet) for logits in history])
        going_on = graph.node("Identity", condition)[0]
        inputs = [value_info(iteration, torch.int64, []), value_info(condition, torch.bool, [])]
        outputs = [value_info(going_on, torch.bool, []), *(value_info(value.name, value.dtype) for value in answer)]
        body = graph.close("one_jet", inputs, outputs)
        trips = node(graph, "Squeeze", shape_of(place_B1, 0, 1), shape=())
        always = graph.constant_node(np.array(True))
        names = graph.node("Loop", trips.name, always, outputs=2, body=body)
        # Reshape, not Squeeze: where no jet goes on, versions before 1.15 give outputs of another rank.
        shapes = ((-1, self.stages.num_classes), (-1,))
        return Answer(
            *(
                node(
                    graph,
                    "Reshape",
                    Value(graph, name, (), graph.dtype),
                    integers(graph, *shape),
                    shape=(None, *shape[1:]),
                )
                for name, shape in zip(names, shapes, strict=True)
            )
        )

    def _exits(self, exits: Iterator[Exit], history: list[Any]) -> Answer:
        """Write the exits of one jet from the innermost scope on, each in the branch that stays at the one before."""
        opened: list[tuple[Value, int, Value]] = []
        for exit_ in map(self._tempered, exits):
            scores = _probabilities(exit_)
            if exit_.is_full_model:
                break
            leaves = self._leaves(exit_, history)
            if leaves.known:
                break
            if leaves.known is None:
                opened.append((leaves, exit_.index, scores))
                self.graph.open()
        answer = Answer(scores, self._index(exit_.index))
        for leaves, index, here in reversed(opened):
            answer = self._either(leaves, f"exit_{index}", partial(self._left, here, index), answer)
        return answer

    def _leaves(self, exit_: Exit, history: list[Any]) -> Value:
        assert self.policy is not None
        logits: Any = exit_.logits_NK
        skipped = constant(self.graph, torch.full((1, self.stages.num_classes), torch.nan))
        history += [*[skipped] * (exit_.index - len(history)), logits]
        leaves: Any = self.policy(cast(Any, Stacked(history)))
        return cast(Value, leaves)

    def _left(self, scores: Value, index: int) -> Answer:
        copied = Value(self.graph, self.graph.copy(scores.name), scores.shape, scores.dtype)
        return Answer(copied, self._index(index))

    def _either(self, condition: Value, name: str, write_first: Callable[[], Answer], otherwise: Answer) -> Answer:
        """Close the innermost scope, whose result is ``otherwise``, and write an ``If`` around it."""
        graph = self.graph
        other = graph.branch(f"not_{name}", otherwise.types)
        graph.open()
        then = graph.branch(name, write_first().types)
        names = graph.node("If", condition.name, outputs=2, then_branch=then, else_branch=other)
        return Answer(
            *(Value(graph, name, value.shape, value.dtype) for name, value in zip(names, otherwise, strict=True))
        )

    def _tempered(self, exit_: Exit) -> Exit:
        temperatures = None if self.policy is None else self.policy.temperatures
        if temperatures is None or temperatures[exit_.index] == 1:
            return exit_
        tempered = exit_.logits_NK / temperatures[exit_.index]
        return Exit(exit_.index, exit_.stage, tempered, exit_.trained_NK)

    def _index(self, index: int) -> Value:
        return self._constant([float(index)])

    def _constant(self, numbers: Any) -> Value:
        tensor = torch.as_tensor(numbers, dtype=self.graph.dtype)
        return Value(self.graph, self.graph.constant_node(tensor.numpy()), tuple(tensor.shape), self.graph.dtype)

    def _without_particles(self) -> Answer:
        """Write what the engine answers for a jet without particles, which is always the same."""
        first, *others = self.stages.collections.values() or [self.stages.input_channels]
        more = {name: self._nothing(channels) for name, channels in zip(self.form.more, others, strict=True)}
        jet = replace(self._nothing(first), more=more)
        result = Engine(self.tagger, self.policy)(jet)
        return Answer(self._constant(result.logits_NK.softmax(dim=-1)), self._constant(result.exit_index_N))

    def _nothing(self, channels: int) -> RaggedJets:
        zeros = torch.zeros(0, channels, dtype=self.graph.dtype)
        return RaggedJets(zeros.new_zeros(0, 2), zeros, zeros.new_zeros(0, 4), torch.zeros(1, dtype=torch.long))

    def _for_all(self, answer: Answer, count_N: Value) -> Answer:
        number = shape_of(count_N)
        classes = constant(self.graph, [self.stages.num_classes], torch.int64)
        size = node(self.graph, "Concat", number, classes, shape=(2,), axis=0)
        return Answer(
            node(self.graph, "Expand", answer.scores, size, shape=(None, self.stages.num_classes)),
            node(self.graph, "Expand", answer.exit_index, number, shape=(None,)),
        )


def _but_last(answer: Answer) -> Answer:
    return Answer(answer.scores[:-1], answer.exit_index[:-1])


def _probabilities(exit_: Exit) -> Value:
    return cast(Value, exit_.logits_NK.softmax(dim=-1))
