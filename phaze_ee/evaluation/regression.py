"""How close the predictions of an exit come to the targets of a regression."""

from typing import NamedTuple

import numpy as np

from phaze_ee.exits.answers import ExitIndex, Predictions, at_exit
from phaze_ee.results.evaluation import TargetEvaluation
from phaze_ee.shapes import Bool, Float

_LOW, _HIGH = 0.16, 0.84  # the central 68 %
_CORRELATION = _LOW / _HIGH  # of the two quantiles of one sample: sqrt(p (1 - q) / (q (1 - p))) for p < q


class _Centre(NamedTuple):
    """The median, half of the span from the 16 % to the 84 % quantile, and their standard errors."""

    median: float
    median_error: float
    half_span: float
    half_span_error: float


def evaluate_targets(
    predictions: Predictions | None, exit_index_N: ExitIndex, chosen_N: Bool[np.ndarray, " N"] | None = None
) -> dict[str, TargetEvaluation] | None:
    """Compare the predictions at the exit where each jet leaves with the targets; None without targets or jets.

    Args:
        predictions: of all exits; None: there are no targets.
        exit_index_N: the exit where each jet leaves.
        chosen_N: the jets that count; None: all.
    """
    if predictions is None or (chosen_N is not None and not chosen_N.any()):
        return None
    chosen = slice(None) if chosen_N is None else chosen_N
    value_NR = at_exit(predictions.value_ENR, exit_index_N)[chosen].astype(np.float64)
    target_NR = predictions.target_NR[chosen].astype(np.float64)
    columns = zip(predictions.names, value_NR.T, target_NR.T, strict=True)
    return {name: _evaluated(value_N, target_N) for name, value_N, target_N in columns}


def _evaluated(value_N: Float[np.ndarray, " N"], target_N: Float[np.ndarray, " N"]) -> TargetEvaluation:
    difference = _centre(value_N - target_N)
    response = _centre(value_N / target_N) if bool((target_N > 0).all()) else None
    return TargetEvaluation(
        jets=len(target_N),
        target_spread=_centre(target_N).half_span,
        bias=difference.median,
        bias_error=difference.median_error,
        resolution=difference.half_span,
        resolution_error=difference.half_span_error,
        response=None if response is None else response.median,
        response_error=None if response is None else response.median_error,
        response_resolution=None if response is None else response.half_span,
        response_resolution_error=None if response is None else response.half_span_error,
    )


def _centre(value_N: Float[np.ndarray, " N"]) -> _Centre:
    """Return median and half span, with errors from the order statistics.

    The number of values below a quantile p is binomial, so the quantiles at p ± √(p (1 - p) / N) are one standard error
    away from that at p.
    """
    share_Q = np.array([_LOW, 0.5, _HIGH])
    step_Q = np.sqrt(share_Q * (1 - share_Q) / len(value_N))
    shares = np.clip([share_Q, share_Q - step_Q, share_Q + step_Q], 0, 1)
    value_Q, below_Q, above_Q = np.quantile(value_N, shares)
    low, median, high = ((above_Q - below_Q) / 2).tolist()
    span_error = float(np.sqrt(max(0.0, low**2 + high**2 - 2 * _CORRELATION * low * high)))
    return _Centre(float(value_Q[1]), median, float(value_Q[2] - value_Q[0]) / 2, span_error / 2)
