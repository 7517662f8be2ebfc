"""Typed results of a tagger whose jets leave at the exit that a policy chooses."""

from phaze_ee.results.base import Record, ResultsFile
from phaze_ee.results.evaluation import Rejection


class Fraction(Record):
    """A fraction of ``jets`` jets, with the binomial standard error."""

    value: float
    error: float
    jets: int


class OperatingPoint(Record):
    """One way to choose the exits of the judged jets: what it costs, and how well the merged answers do.

    ``mean_macs`` are multiply-accumulates per jet up to its exit, each with its own number of particles, heads visited
    on the way included. (The engine works on jets together and may spend a little more: what it does spend stands in
    the times of mode benchmark.) ``macs_share`` is their ratio to those of the full model without any head.
    ``exit_fractions`` are the shares of the jets that leave at each exit, the full model last.
    """

    mean_macs: float
    macs_share: float
    accuracy: float
    accuracy_error: float
    rejections: list[Rejection]
    exit_fractions: list[float]


class CurvePoint(OperatingPoint):
    """A policy of a cost-accuracy curve."""

    thresholds: list[float]


class ScoreCurve(Record):
    """The policies of one exit score, by rising cost; their thresholds were fitted on calibration jets.

    ``area`` is the area under accuracy against share of the full model's MACs, by trapezoids from the cheapest exit
    (every jet leaves there) to the full model, divided by that range of costs: the mean accuracy along the curve. None
    where no exit is cheaper than the full model.
    """

    score: str
    points: list[CurvePoint]
    area: float | None


class RealisedRisk(Record):
    """A risk that the policy's target holds down: allowed, and how many of the judged jets that count are lost."""

    name: str
    epsilon: float
    rate: Fraction


class PolicyEvaluation(CurvePoint):
    """The policy of exit_policy.json on the judged jets.

    ``accuracy_drop`` is the accuracy of the full model minus that of the mixture, its error that of a difference of
    paired answers; ``disagreement`` the share of jets whose assigned class differs; ``risks`` are those of the target
    (none for a budget). ``exits_per_class[class][exit]`` counts jets.
    """

    score: str
    target: str
    expected_calibration_error: float
    accuracy_drop: float
    accuracy_drop_error: float
    disagreement: Fraction
    risks: list[RealisedRisk]
    exits_per_class: dict[str, list[int]]


class ExitBehaviour(Record):
    """One exit on its own, as a part of a dynamic tagger.

    ``all_leave`` is the operating point where every jet leaves here. The expected calibration error is given for all
    jets, and for those that the policy lets leave here (None: none does). ``failure_auroc`` is the area under the ROC
    curve of the confidence as a sign that the answer is right (None: all answers are right, or none is).
    ``change_of_mind`` is the share of jets that the next exit assigns to another class (None for the full model).
    """

    all_leave: OperatingPoint
    expected_calibration_error: float
    leaving_jets: int
    leaving_calibration_error: float | None
    failure_auroc: float | None
    change_of_mind: Fraction | None


class Bounds(Record):
    """What no policy with these exits can beat.

    ``oracle``: each jet leaves at the earliest exit that is right, at the first where none is.
    ``label_free_oracle``: at the earliest exit that agrees with the full model. ``overthinking``: the share of jets
    for which some early exit is right and the full model wrong.
    """

    oracle: OperatingPoint
    label_free_oracle: OperatingPoint
    overthinking: Fraction


class ExitRates(Record):
    """How the choice of the exit depends on a property of the jet, in bins of about equal numbers of jets.

    ``jets`` counts the jets of each bin, ``centres`` are their medians; ``rates[exit][bin]`` is the share of the bin's
    jets that leave at the exit, with binomial errors. ``association`` is Cramér's V of exit and bin: 0 where the exit
    does not depend on the property, 1 where the property decides it. ``p_value`` is that of the χ² test for this.
    """

    observable: str
    sample: str
    edges: list[float]
    centres: list[float]
    jets: list[int]
    rates: list[list[float]]
    errors: list[list[float]]
    association: float
    p_value: float


class MassShape(Record):
    """The mass of background jets behind the cut, in the bins of the audit.

    ``divergence`` is the Jensen-Shannon divergence (base 2, between 0 and 1) from the shape before the cut.
    ``floor`` and ``floor_95`` are the mean and the 95 % quantile of this divergence for random subsets of the uncut
    background with the same number of jets: what the finite sample alone gives. ``p_value`` is the share of such
    subsets that diverge as much or more. All four are None where no jet passes the cut.
    """

    jets: int
    counts: list[int]
    divergence: float | None = None
    floor: float | None = None
    floor_95: float | None = None
    p_value: float | None = None


class MassAudit(Record):
    """Does the cut shape the mass of the background, and does leaving early shape it more?

    The cut is on p_signal / (p_signal + p_background), where ``signal_efficiency`` of the signal passes, found for the
    full model and for the mixture each on its own. Bins are of equal width between the 1 % and 99 % quantiles of the
    uncut background; jets beyond them count in the first and last bin.
    """

    signal: str
    background: str
    signal_efficiency: float
    observable: str
    edges: list[float]
    uncut_counts: list[int]
    full_model: MassShape
    mixture: MassShape


class DynamicResults(ResultsFile):
    """``dynamic_results.json``: the policy of exit_policy.json on the judged jets, its rivals and its bounds.

    ``exits`` come in the order of the network, the full model last. ``model_hash`` as in
    :class:`phaze_ee.results.evaluation.EvaluationResults`.
    """

    project: str
    model: str
    model_hash: str | None
    classes: list[str]
    jets: int
    files: list[str]
    policy: PolicyEvaluation
    exits: dict[str, ExitBehaviour]
    curves: list[ScoreCurve]
    bounds: Bounds
    exit_rates: list[ExitRates]
    mass: MassAudit | None
    notes: list[str]
