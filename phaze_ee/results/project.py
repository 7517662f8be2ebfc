"""The results of one project side by side: its exits, its policy, and what they cost."""

from dataclasses import dataclass
from typing import Literal

from phaze_ee.names import POLICY
from phaze_ee.results.benchmark import BenchmarkResults
from phaze_ee.results.evaluation import EvaluationResults
from phaze_ee.results.policy import DynamicResults

Cost = Literal["flops", "params", "macs"]


@dataclass(frozen=True)
class ProjectResults:
    """The evaluation and the benchmark of one project, which have the same exits, and the judged policy if any."""

    name: str
    evaluation: EvaluationResults
    benchmark: BenchmarkResults
    dynamic: DynamicResults | None = None

    @property
    def with_policy(self) -> EvaluationResults:
        """The evaluation with the judged policy, if there is one, after the full model."""
        mixture = None if self.dynamic is None else self.dynamic.mixture
        own = {} if mixture is None else {POLICY: mixture}
        return self.evaluation.model_copy(update={"exits": {**self.evaluation.exits, **own}})

    def cost(self, name: str, cost: Cost) -> float:
        """Return the cost of an exit for one padded jet.

        That of the policy is the mean over the exits where the judged jets leave; its parameters are all that it needs.
        """
        if name != POLICY:
            return float(getattr(self.benchmark.exits[name], cost))
        assert self.dynamic is not None
        *early, last = self.benchmark.exits.values()
        last = self.benchmark.with_exits or last  # the policy passes the exits on the way
        shares = list(zip(self.dynamic.policy.exit_fractions, [*early, last], strict=True))
        if cost == "params":
            return float(max(exit_.params for share, exit_ in shares if share))
        return float(sum(share * getattr(exit_, cost) for share, exit_ in shares))
