"""The results of one project side by side: its exits, its policy, and what they cost."""

from dataclasses import dataclass
from math import inf
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

        That of the policy is the mean over the exits where the test jets leave; its parameters are all that it needs.
        An exit that it never offers counts too, unless it offers none: then it costs as much as the full model.
        """
        if name != POLICY:
            return float(getattr(self.benchmark.exits[name], cost))
        assert self.dynamic is not None
        *early, last = self.benchmark.exits.values()
        if set(self.dynamic.policy.thresholds) <= {inf}:
            return float(getattr(last, cost))
        passed = self.benchmark.with_exits or last  # the policy passes the exits on the way
        costs: list[float] = [getattr(exit_, cost) for exit_ in (*early, passed)]
        shares = list(zip(self.dynamic.policy.exit_fractions, costs, strict=True))
        if cost == "params":
            return max(value for share, value in shares if share)
        return sum(share * value for share, value in shares)
