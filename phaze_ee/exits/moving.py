"""Moves of a policy to safer ones of its calibrated sequence, when the evidence says that it loses too much.

The steps of the sequence, from the calibrated policy 0 to the full model, are watched at the same time on the same
audited jets: the answers at all exits tell what each of them would lose. Step k has the share δ/((k+1)(k+2)) of δ, and
its evidence that more than ε is lost (:func:`phaze_ee.exits.sequence.log_evidence`). The policy leaves a step when this
evidence exceeds one over the share. It moves to the first later step without such evidence that would have lost at most
ε of the jets since the bet began which won most: these are the jets since a change. It never moves back.

**Promised**, for any jets, which may change at any time: with a probability of at least 1 − δ, no step is ever left
that has always lost each jet with a probability of at most ε. The shares add up to δ, and each evidence exceeds one
over its share with a probability of at most the share (Ville's inequality).

**Not promised**: that no jet is lost until a move, or that the next step is fast enough or safe enough; it is watched
like the one before. But what is lost until a move is bounded. If a share ε + d of n jets is lost, and audits have the
rate q, a bet λ has won at least n·(λd − λ²·(ε + d)/(q·(1 − b))) − log(1/α) with a probability of at least 1 − α, where
b = λε/q < 1 (Markov's inequality for the inverse of its capital, with 1/(1 + y) ≤ 1 − y + y²/(1 − b) for y ≥ −b). If
there was no move, it has won less than log(40·(k + 1)(k + 2)/δ) + log(2c(c + 1)), where it began after look c. With L,
the sum of the three logarithms, the best bet gives d ≤ 2·√((ε + d)·L/(q·n)), but for the factor 1/√(1 − b). So a move
comes after at most 4(ε + d)·L/(q·d²) jets of a bet, and at the end of a look. A bet that is kept begins after a change,
when at most half of the jets since then have come.
"""

import numpy as np
import numpy.typing as npt

from phaze_ee.exits.sequence import log_capital
from phaze_ee.exits.starts import kept_starts, share_of
from phaze_ee.shapes import Float, Int


def share_of_step(step: int, delta: float) -> float:
    """Return the share of δ that a step has."""
    return delta / ((step + 1) * (step + 2))


def next_step(
    total_LXR4: Int[np.ndarray, "L ... R 4"],
    step_X: Int[np.ndarray, "..."],
    largest_XR: Float[np.ndarray, "... R"],
    rate: float,
    epsilon: float,
    delta: float,
) -> Int[np.ndarray, "..."]:
    """Return the steps to which policies move; those that they have, if there is no reason to move.

    Args:
        total_LXR4: what was seen up to each look, as for :func:`phaze_ee.exits.sequence.log_evidence_now`, for each of
            R steps, of which the last is the full model.
        step_X: the steps that the policies have.
        largest_XR: the logarithm of the largest evidence so far against each step.
        rate: the probability with which jets are drawn.
        epsilon: the share ε.
        delta: the probability of a move without a reason.
    """
    steps = np.arange(largest_XR.shape[-1])
    own_X1 = np.asarray(step_X)[..., None]
    broken_XR = largest_XR >= -np.log([share_of_step(step, delta) for step in range(len(steps))])
    seen_XR4 = _since_change(total_LXR4, own_X1, rate, epsilon)
    lost_XR, jets_XR = (seen_XR4[..., place] + seen_XR4[..., place + 2] / rate for place in (1, 0))
    fit_XR = (steps > own_X1) & ~broken_XR & (lost_XR <= epsilon * jets_XR)
    fit_XR[..., -1] = True
    moved_X: npt.NDArray[np.int64] = np.where(
        np.take_along_axis(broken_XR, own_X1, axis=-1)[..., 0], fit_XR.argmax(axis=-1), step_X
    )
    return moved_X


def _since_change(
    total_LXR4: Int[np.ndarray, "L ... R 4"], own_X1: Int[np.ndarray, "... 1"], rate: float, epsilon: float
) -> Int[np.ndarray, "... R 4"]:
    """Return what was seen since the start of the bet against the own step that has won most."""
    starts = kept_starts(len(total_LXR4) - 1)
    seen_SXR4 = total_LXR4[-1] - total_LXR4[starts]
    own_SX4 = np.take_along_axis(seen_SXR4, own_X1[None, ..., None], axis=-2)[..., 0, :]
    part_S = np.array([share_of(start) for start in starts]).reshape(-1, *[1] * (own_X1.ndim - 1))
    best_X = (log_capital(own_SX4, rate, epsilon, above=True) + np.log(part_S)).argmax(axis=0)
    seen_XR4: npt.NDArray[np.int64] = np.take_along_axis(seen_SXR4, best_X[None, ..., None, None], axis=0)[0]
    return seen_XR4
