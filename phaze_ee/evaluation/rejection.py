"""Background rejection at the working points of jet tagging."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from phaze_ee.data.schema import DEFAULT_BACKGROUND
from phaze_ee.results.evaluation import Rejection, RocCurve
from phaze_ee.shapes import Float, Int
from phaze_ee.stats import roc_curve

DEFAULT_EFFICIENCY = 0.5
# Signal efficiencies at which JetClass rejections are quoted (arXiv:2202.03772, table 1).
JETCLASS_EFFICIENCIES = {
    "label_Hbb": 0.5,
    "label_Hcc": 0.5,
    "label_Hgg": 0.5,
    "label_H4q": 0.5,
    "label_Hqql": 0.99,
    "label_Zqq": 0.5,
    "label_Wqq": 0.5,
    "label_Tbqq": 0.5,
    "label_Tbl": 0.995,
}
LIMIT_CONFIDENCE = 0.68
MAX_CURVE_POINTS = 200


@dataclass(frozen=True)
class Discrimination:
    """The ROC curve of one signal class against the background, with R points, from no jets passing to all.

    Attributes:
        signal: the signal class.
        background: the background class.
        background_count: the number of background jets.
        signal_efficiency: fraction of the signal that passes, at each point.
        background_efficiency: fraction of the background that passes, at each point.
    """

    signal: str
    background: str
    background_count: int
    signal_efficiency: Float[np.ndarray, " R"]
    background_efficiency: Float[np.ndarray, " R"]


def working_points(class_names: Sequence[str], background: str) -> dict[str, float]:
    """Return the signal efficiency at which the rejection is quoted, for each class but the background.

    For the ten JetClass classes against label_QCD these are the efficiencies of arXiv:2202.03772; otherwise 50 %.
    """
    jetclass = background == DEFAULT_BACKGROUND and set(class_names) == {background, *JETCLASS_EFFICIENCIES}
    chosen = JETCLASS_EFFICIENCIES if jetclass else {}
    return {name: chosen.get(name, DEFAULT_EFFICIENCY) for name in class_names if name != background}


def discriminate(
    logits_NK: Float[np.ndarray, "N K"],
    label_N: Int[np.ndarray, " N"],
    class_names: Sequence[str],
    signal: str,
    background: str,
) -> Discrimination | None:
    """Return the ROC curve of one class against the background; None if one of the two has no jets.

    Only jets of the two classes count. The discriminant is p_signal / (p_signal + p_background). Jets are ranked by the
    difference of the two logits, which gives the same order and does not round to 1 for confident jets.
    """
    signal_index, background_index = class_names.index(signal), class_names.index(background)
    pair_N = np.isin(label_N, (signal_index, background_index))
    is_signal_N = label_N[pair_N] == signal_index
    if is_signal_N.all() or not is_signal_N.any():
        return None
    score_N = logits_NK[pair_N, signal_index] - logits_NK[pair_N, background_index]
    background_efficiency, signal_efficiency = roc_curve(is_signal_N, score_N)
    return Discrimination(signal, background, int((~is_signal_N).sum()), signal_efficiency, background_efficiency)


def rejection_at(curve: Discrimination, efficiency: float) -> Rejection:
    """Return the background rejection at a signal efficiency, as defined for JetClass (arXiv:2202.03772).

    Jets of the signal and the background class are cut on p_signal / (p_signal + p_background) so that the fraction
    ``efficiency`` of the signal passes. If the fraction ε of the background passes, the rejection is 1/ε. ε is
    interpolated linearly between neighbouring points of the ROC curve; if several points have this signal efficiency,
    it is the smallest. The order of jets with equal scores does not matter.

    The error is the binomial standard error √(ε(1-ε)/n) of ε for n background jets, propagated to 1/ε, without the
    uncertainty of the cut. If no background jet passes, the result is a lower limit at 68 % confidence: the inverse of
    the ε for which n jets fail with a probability of 32 %.
    """
    point = int(np.searchsorted(curve.signal_efficiency, efficiency, side="left"))
    around = slice(point - 1, point + 1)
    passing = float(np.interp(efficiency, curve.signal_efficiency[around], curve.background_efficiency[around]))
    count = curve.background_count
    rejection = partial(Rejection, signal=curve.signal, background=curve.background, signal_efficiency=efficiency)
    if passing == 0:
        excluded = -np.expm1(np.log1p(-LIMIT_CONFIDENCE) / count)
        return rejection(value=None, error=None, lower_limit=float(1 / excluded))
    error = np.sqrt(passing * (1 - passing) / count) / passing**2
    return rejection(value=1 / passing, error=float(error))


def thinned(curve: Discrimination) -> RocCurve:
    """Return at most 200 points of a curve, evenly in signal efficiency and in the log of background efficiency."""
    x, y = curve.signal_efficiency, curve.background_efficiency
    keep = np.arange(len(x))
    if len(x) > MAX_CURVE_POINTS:
        half = MAX_CURVE_POINTS // 2
        steps = np.searchsorted(x, np.linspace(0, 1, half))
        decades = np.searchsorted(y, np.geomspace(y[y > 0][0], 1, half))
        keep = np.union1d(steps, decades)
    return RocCurve(
        signal=curve.signal,
        background=curve.background,
        signal_efficiency=_eight_digits(x[keep]),
        background_efficiency=_eight_digits(y[keep]),
    )


def _eight_digits(values: Float[np.ndarray, " R"]) -> list[float]:
    return [float(f"{value:.8g}") for value in values]
