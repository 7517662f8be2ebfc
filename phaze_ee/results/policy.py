"""Results of a tagger with an exit policy: cost, accuracy, risks and audits."""

from pydantic import Field

from phaze_ee.machine import Precision
from phaze_ee.results.base import Record, Traced
from phaze_ee.results.evaluation import ExitEvaluation, Rejection, TargetEvaluation


class Fraction(Record):
    """A fraction of ``jets`` jets, with the binomial standard error."""

    value: float
    error: float
    jets: int


class OperatingPoint(Record):
    """One choice of exits for the test jets: its cost, and how well the answers at these exits perform.

    ``mean_macs`` are multiply-accumulates per jet up to its exit, with its own number of particles and all heads up to
    there. (The engine works on chunks of jets and may spend slightly more; mode benchmark measures that.)
    ``macs_share`` is their ratio to the full model without heads. ``exit_fractions`` are the shares of the jets that
    leave at each exit, the full model last.
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
    """The policies of one exit score by rising cost, with thresholds fitted on calibration jets.

    ``area`` is the mean accuracy along the curve: the area under accuracy against share of the full model's MACs, by
    trapezoids from the cheapest exit (all jets leave there) to the full model, divided by this range of costs. None if
    no exit is cheaper than the full model.
    """

    score: str
    points: list[CurvePoint]
    area: float | None


class RealisedRisk(Record):
    """A risk that the policy's target limits to ``epsilon``, and the rate of lost jets among the test jets."""

    name: str
    epsilon: float
    rate: Fraction


class PolicyEvaluation(CurvePoint):
    """The policy of exit_policy.json on the test jets.

    ``accuracy_drop`` is the accuracy of the full model minus that of the policy; its error is that of a paired
    difference. ``disagreement`` is the share of jets whose assigned class differs. ``risks`` are those of the target (a
    budget has none). ``exits_per_class[class][exit]`` counts jets.
    """

    score: str
    target: str
    expected_calibration_error: float
    accuracy_drop: float
    accuracy_drop_error: float
    disagreement: Fraction
    risks: list[RealisedRisk]
    exits_per_class: dict[str, list[int]]


class StepEvaluation(CurvePoint):
    """A policy of the sequence that the calibration tested, on the test jets.

    ``passed``: it passed the tests of the calibration, as did all before it, so it has the promise of the calibrated
    policy. ``is_policy``: it is the policy itself. ``risks`` are those of the target on the test jets, ``upper_limits``
    the limits on the jets that tested the policies, by the names of the risks. ``prior_share`` is the mean cost for the
    class prior as a share of the full model's; None without a class prior.
    """

    passed: bool
    is_policy: bool
    risks: list[RealisedRisk]
    upper_limits: dict[str, float]
    prior_share: float | None = None


class ExitBehaviour(Record):
    """One exit of a tagger with a policy.

    ``all_leave`` is the operating point if all jets leave here. The expected calibration error is given for all jets,
    and for those that leave here by the policy (None: no jets). ``failure_auroc`` is the area under the ROC curve of
    the confidence for telling correct answers from wrong ones (None: all are correct, or all are wrong).
    ``change_of_mind`` is the share of jets that the next exit assigns to another class (None for the full model).
    ``leaving_targets`` compares predictions with targets for the jets that leave here (None: no targets, or no jets).
    """

    all_leave: OperatingPoint
    expected_calibration_error: float
    leaving_jets: int
    leaving_calibration_error: float | None
    failure_auroc: float | None
    change_of_mind: Fraction | None
    leaving_targets: dict[str, TargetEvaluation] | None = None


class Bounds(Record):
    """Bounds for every policy with these exits.

    ``oracle``: each jet leaves at the first correct exit, or at exit 0 if all are wrong. ``label_free_oracle``: each
    jet leaves at the first exit that agrees with the full model. ``overthinking``: the share of jets for which an early
    exit is correct and the full model is wrong.
    """

    oracle: OperatingPoint
    label_free_oracle: OperatingPoint
    overthinking: Fraction


class ExitRates(Record):
    """How the exit depends on an observable of the jet, in bins with about equal numbers of jets.

    ``jets`` counts the jets of each bin; ``centres`` are the medians. ``rates[exit][bin]`` is the share of the bin's
    jets that leave at the exit, with binomial errors. ``association`` is Cramér's V of exit and bin: 0 if the exit does
    not depend on the observable, 1 if the observable determines it. ``p_value`` is that of the χ² test of
    independence.
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
    """The mass of background jets after the cut, in the bins of the audit.

    ``divergence`` is the Jensen-Shannon divergence (base 2, from 0 to 1) from the shape before the cut. ``floor`` and
    ``floor_95`` are the mean and the 95 % quantile of this divergence for random subsets of the uncut background with
    the same number of jets: the effect of the finite sample alone. ``p_value`` is the share of these subsets with at
    least this divergence. All four are None if no jet passes the cut.
    """

    jets: int
    counts: list[int]
    divergence: float | None = None
    floor: float | None = None
    floor_95: float | None = None
    p_value: float | None = None


class MassAudit(Record):
    """Does the cut shape the mass of the background, and does leaving early shape it more?

    The cut is on p_signal / (p_signal + p_background) at ``signal_efficiency``, separately for the full model and for
    the policy. Bins have equal width between the 1 % and 99 % quantiles of the uncut background. Jets outside count in
    the first or last bin.
    """

    signal: str
    background: str
    signal_efficiency: float
    observable: str
    edges: list[float]
    uncut_counts: list[int]
    full_model: MassShape
    mixture: MassShape


class RealisedFigures(Record):
    """Mean cost and accuracy of a policy on some jets, for one class prior; errors are standard errors.

    ``class_shares`` is None for the shares that the classes have in the files. Costs are multiply-accumulates per jet.
    Accuracies are None if a true class is unknown.
    """

    class_shares: dict[str, float] | None
    macs: float
    full_macs: float
    cost_share: float
    cost_share_error: float
    accuracy: float | None
    accuracy_error: float | None
    full_accuracy: float | None
    exit_shares: dict[str, float]


class RelativeEfficiency(Record):
    """How many jets the policy keeps of those that the full model keeps, in bins [edge, next edge) of an observable.

    ``kept`` says in words what it means that a jet of ``sample`` is kept. Of the ``full_model`` jets that the full
    model keeps in a bin, the policy keeps ``both``, and ``added`` others. ``efficiency`` is their ratio both/full_model
    with the limits ``lower`` and ``upper`` of its central 68.3 % interval (Clopper and Pearson, Biometrika 26 (1934)
    404). ``ratio`` is (both + added)/full_model; the error √(full_model − both + added)/full_model is that of paired
    counts. A bin where the full model keeps no jet has None.
    """

    sample: str
    kept: str
    observable: str
    edges: list[float]
    full_model: list[int]
    both: list[int]
    added: list[int]
    efficiency: list[float | None]
    lower: list[float | None]
    upper: list[float | None]
    ratio: list[float | None]
    ratio_error: list[float | None]


class DynamicResults(Traced):
    """``dynamic_results.json``: a policy of the project on the test jets, other policies and the bounds.

    ``exits`` are in the order of the network, the full model last. ``mixture`` evaluates the answers at the exits where
    the policy lets the jets leave, divided by its temperatures, like those of one exit; None in files of version 0.1.
    ``prior`` has its cost and accuracy for the ``class_prior`` for which the policy was chosen; None without one.
    ``efficiencies`` relate the policy to the full model. ``sequence`` are the policies that its calibration tested,
    from the full model to the fastest; empty in older files, and for a policy of an older version.
    ``precision`` is that of the products of the network, for the policy and all curves; None in older files.
    ``moved`` says in words how far the policy has moved from the calibrated one; None: it has not.
    """

    project: str
    model: str
    precision: Precision | None = None
    classes: list[str]
    jets: int
    files: list[str]
    moved: str | None = None
    policy: PolicyEvaluation
    mixture: ExitEvaluation | None = None
    prior: RealisedFigures | None = None
    exits: dict[str, ExitBehaviour]
    curves: list[ScoreCurve]
    bounds: Bounds
    exit_rates: list[ExitRates]
    mass: MassAudit | None
    efficiencies: list[RelativeEfficiency] = Field(default_factory=list)
    sequence: list[StepEvaluation] = Field(default_factory=list)
    notes: list[str]
