"""The jets of one event share a budget: which of them may go on when it runs short.

torch is imported on use: what an event budget did is read where torch is not installed.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from phaze_ee.errors import UsageError
from phaze_ee.results.base import Record
from phaze_ee.shapes import Bool, Float, Int

if TYPE_CHECKING:
    from torch import Tensor


@final
@dataclass(frozen=True)
class EventBudget:
    """The most multiply-accumulates that all jets of an event may cost together.

    If the budget does not allow all jets that want to go on, those with the lowest scores do, and the others leave at
    the exit where they are. The first exit is never refused: an event whose first exits cost more than the budget
    exceeds it.

    Args:
        macs: the budget of an event.

    Raises:
        UsageError: the budget is not positive.
    """

    macs: float

    def __post_init__(self) -> None:
        if not self.macs > 0:
            raise UsageError(f"an event budget of {self.macs:g} MACs is too small for any jet; give a positive one")

    def refused(
        self,
        score_N: "Float[Tensor, ' N']",
        event_N: "Int[Tensor, ' N']",
        step_N: "Int[Tensor, ' N']",
        spent_U: "Int[Tensor, ' U']",
    ) -> "Bool[Tensor, ' N']":
        """Return which of N jets that want to go on must leave instead.

        Args:
            score_N: the policy's score of each jet; high: the tagger is sure.
            event_N: the event of each jet, one of U.
            step_N: the multiply-accumulates of each jet up to the next exit.
            spent_U: the multiply-accumulates that all jets of each event have spent so far.
        """
        import torch

        order_N = score_N.argsort(stable=True)
        order_N = order_N[event_N[order_N].argsort(stable=True)]  # event after event, lowest score first
        event, step = event_N[order_N], step_N[order_N]
        total = step.cumsum(0)
        before_U = torch.zeros_like(spent_U).index_add(0, event, step).cumsum(0).roll(1)
        before_U[:1] = 0
        refused_N = torch.empty_like(event, dtype=torch.bool)
        refused_N[order_N] = total - before_U[event] + spent_U[event] > self.macs
        return refused_N


@final
class BudgetReport(Record):
    """Counts of events with a budget: ``cut`` had jets that it made leave early, ``exceeded`` spent more than it.

    ``exceeded`` counts events whose first exits alone cost more than the budget. ``returned`` had the number of an
    event before, with others between.
    """

    events: int
    cut: int
    exceeded: int
    returned: int = 0

    @classmethod
    def of(
        cls,
        event_N: "Int[Tensor, ' N']",
        macs_N: "Int[Tensor, ' N']",
        refused_N: "Tensor",
        budget: EventBudget,
    ) -> "BudgetReport":
        """Count events.

        Args:
            event_N: the event of each jet, any integers.
            macs_N: the multiply-accumulates spent on each jet.
            refused_N: the jets that the budget made leave.
            budget: the budget.
        """
        import torch

        unit_N: Tensor = torch.unique(event_N, return_inverse=True)[1]
        events = int(unit_N.max()) + 1 if len(unit_N) else 0
        spent_U = torch.zeros(events, dtype=macs_N.dtype).index_add(0, unit_N, macs_N)
        cut_U = torch.zeros(events, dtype=torch.int64).index_add(0, unit_N, refused_N.long())
        return cls(events=events, cut=int(cut_U.count_nonzero()), exceeded=int((spent_U > budget.macs).sum()))

    def __add__(self, other: "BudgetReport") -> "BudgetReport":
        return BudgetReport(**{name: getattr(self, name) + getattr(other, name) for name in BudgetReport.model_fields})
