"""Results of several seeds of a project."""

from typing import Literal

from pydantic import Field

from phaze_ee.results.base import Record, ResultsFile
from phaze_ee.results.differences import Differences

SeedState = Literal["waiting", "trained", "evaluated"]


class SeedRun(Record):
    """One seed: its project, and how far it is.

    ``state``: ``evaluated`` has results, ``trained`` has a model and no results of it, ``waiting`` is not trained.
    ``error``: why the last command failed, or why results do not count; None: neither.
    """

    seed: int
    project: str
    state: SeedState
    error: str | None = None


class OverSeeds(Record):
    """A quantity of all seeds, its mean and its standard deviation (n - 1 in the denominator; 0 for one seed)."""

    values: list[float]
    mean: float
    spread: float


class SeedsTarget(Record):
    """A target of a regression over all evaluated seeds, which have the same jets and so the same spread.

    The quantities are those of :class:`phaze_ee.results.evaluation.TargetEvaluation`; None where a seed lacks one.
    """

    jets: int
    target_spread: float
    bias: OverSeeds
    resolution: OverSeeds
    response: OverSeeds | None
    response_resolution: OverSeeds | None


class SeedsExit(Record):
    """An exit, the full model or the policy, over all evaluated seeds; None where a seed lacks the quantity.

    The quantities are those of :class:`phaze_ee.results.evaluation.ExitEvaluation`. ``rejections`` are by signal class.
    ``jets_per_second`` is for the largest batches of mode benchmark. ``targets`` are those that all seeds have; older
    files lack them.
    """

    accuracy: OverSeeds
    roc_auc: OverSeeds | None
    loss: OverSeeds
    expected_calibration_error: OverSeeds
    mean_macs: OverSeeds | None
    macs_share: OverSeeds | None
    rejections: dict[str, OverSeeds]
    jets_per_second: OverSeeds | None
    targets: dict[str, SeedsTarget] = Field(default_factory=dict)


class SeedsPolicy(Record):
    """The policies of all seeds on the test jets; None where a seed lacks the quantity.

    Each seed has a policy of its own. ``accuracy_drop`` is the accuracy of the full model minus that of the policy.
    ``speed`` is the policy's jets/s in the largest batches as a multiple of the full model's. ``risks`` are those of
    the target, by name, and ``limits`` their limits; both are empty if the limits differ from seed to seed.
    ``class_shares`` is the class prior of the calibrations; ``prior_share`` (cost as a share of the full model's),
    ``prior_accuracy`` and ``prior_full_accuracy`` are for it.
    """

    macs_share: OverSeeds
    accuracy_drop: OverSeeds
    disagreement: OverSeeds
    speed: OverSeeds | None
    risks: dict[str, OverSeeds]
    limits: dict[str, float]
    class_shares: dict[str, float] | None
    prior_share: OverSeeds | None
    prior_accuracy: OverSeeds | None
    prior_full_accuracy: OverSeeds | None


class SeedsResults(ResultsFile):
    """``seeds_results.json``. ``exits`` are in the order of the network, then the policy if all seeds have one.

    ``differences`` are those to the full model; None if there are no exits. Both are of the evaluated seeds. ``policy``
    is None unless all of them have one; older files lack it.
    """

    project: str
    runs: list[SeedRun]
    jets: int
    exits: dict[str, SeedsExit]
    differences: Differences | None
    policy: SeedsPolicy | None = None
    notes: list[str]
