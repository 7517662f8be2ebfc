"""The results of one project side by side: its exits, its policy, and what they cost."""

from dataclasses import dataclass
from math import inf
from statistics import stdev
from typing import Literal

from phaze_ee.names import POLICY
from phaze_ee.results.benchmark import BenchmarkResults
from phaze_ee.results.evaluation import EvaluationResults
from phaze_ee.results.policy import DynamicResults

Cost = Literal["flops", "params", "macs"]


@dataclass(frozen=True)
class ProjectResults:
    """The evaluation and the benchmark of one project, which have the same exits, and the judged policy if any.

    ``seeds`` are the results of the single seeds, if these are their means (:func:`phaze_ee.evaluation.over_seeds`).
    """

    name: str
    evaluation: EvaluationResults
    benchmark: BenchmarkResults
    dynamic: DynamicResults | None = None
    seeds: "tuple[ProjectResults, ...]" = ()

    @property
    def with_policy(self) -> EvaluationResults:
        """The evaluation with the judged policy, if there is one, after the full model."""
        return with_policy(self.evaluation, self.dynamic)

    def spread(self, name: str, score: Literal["accuracy", "roc_auc"]) -> float | None:
        """Return the standard deviation over seeds of a score of an exit; None without seeds."""
        values = [getattr(seed.with_policy.exits[name], score) for seed in self.seeds]
        return stdev(values) if len(values) > 1 and None not in values else None

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


def with_policy(evaluation: EvaluationResults, dynamic: DynamicResults | None) -> EvaluationResults:
    """Return an evaluation with the judged policy, if there is one, after the full model."""
    mixture = None if dynamic is None else dynamic.mixture
    own = {} if mixture is None else {POLICY: mixture}
    return evaluation.model_copy(update={"exits": {**evaluation.exits, **own}})
