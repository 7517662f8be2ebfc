"""Exit heads whose own code cannot be written into a file, with the nodes to write instead."""

from typing import Any, final

from torch import Tensor, nn

from phaze_ee.export.operations import binary, reduce
from phaze_ee.export.states import FileState, ManyJets, slots_of_jets
from phaze_ee.export.values import Value, node
from phaze_ee.models.heads import AttentionExitHead, ExitHead


@final
class FileAttention(nn.Module):
    """:class:`phaze_ee.models.heads.AttentionExitHead` in a file: its softmax is over the particles of a jet."""

    def __init__(self, head: AttentionExitHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, state: FileState) -> Tensor:
        score_V1: Any = self.head.query(state.rows_VC)
        mean = _weighted_mean_of_many if isinstance(state.jets, ManyJets) else _weighted_mean
        logits: Tensor = self.head.per_jet(mean(state, score_V1))
        return logits


def in_file(head: ExitHead) -> nn.Module:
    """Return the head as a module that can be called with a state of a file."""
    return FileAttention(head) if isinstance(head, AttentionExitHead) else head


def _weighted_mean(state: FileState, score_V1: Value) -> Value:
    weight_V1 = node(score_V1.graph, "Softmax", score_V1, shape=score_V1.shape, axis=0)
    return reduce("ReduceSum", binary("Mul", state.rows_VC, weight_V1), 0, keepdim=True)


def _weighted_mean_of_many(state: FileState, score_V1: Value) -> Value:
    """Return the mean for all jets; a jet without particles gets what the caller replaces."""
    assert isinstance(state.jets, ManyJets)
    # The lowest finite number rather than −∞, so that a jet without particles is no NaN.
    score_NP1 = slots_of_jets(score_V1, state.jets, -1e30)
    weight_NP1 = node(score_V1.graph, "Softmax", score_NP1, shape=score_NP1.shape, axis=1)
    slot_NPC = slots_of_jets(state.rows_VC, state.jets, 0.0)
    return reduce("ReduceSum", binary("Mul", slot_NPC, weight_NP1), 1)
