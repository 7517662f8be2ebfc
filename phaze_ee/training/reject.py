"""The loss of a cascade that rejects background: the score of its cut, and where the exits reject jets."""

from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from phaze_ee.config.options import ExitOptions
from phaze_ee.exits.scores import log_odds
from phaze_ee.machine import summed
from phaze_ee.shapes import Bool, Float, Int
from phaze_ee.training.losses import ExitLoss, WorkingPoint

# Both were chosen on jets that no table in the documents uses.
TEMPERATURE = 3.0
SHARE_AT_THRESHOLD = 0.2
# Quantiles are over about this many of the last signal jets. The error of the cut is 1 % in signal efficiency.
MEMORY = 2000
# Scores are counted in bins between -_END and _END; a score beyond counts in the last bin.
_END, _BINS = 32.0, 4096


@final
class RejectLoss(ExitLoss, nn.Module):
    """What a cascade needs of an exit: background below a threshold that the kept signal exceeds.

    The score s_k = ln(p_signal / p_background) of exit k decides in a cascade (:class:`phaze_ee.exits.scores.Window`),
    and only s_k is trained. The loss is (1 - a) D_k + a R_k, with a = :data:`SHARE_AT_THRESHOLD`. Signal and background
    have the same weight in both terms, whatever their numbers; jets of other classes do not count.

    D_k = T² BCE(s_k / T, σ(s_K / T)) distils the score of the full model K (arXiv:1503.02531), T = :data:`TEMPERATURE`.
    R_k is a surrogate of Neyman and Pearson: T² ln(1 + exp(±(t_k - s_k) / T)), + for signal that the full model keeps,
    - for background. The threshold t_k is the one below which the fraction ``lost`` of the kept signal is. The full
    model keeps signal above a cut with the signal efficiency of the working point.

    A batch has few such jets. So cut, thresholds and the numbers of jets by which sums are divided are over the last
    :data:`MEMORY` signal jets, of all processes. Validation uses them and does not change them. The full model is a
    fixed target, detached or not.

    Attributes:
        count_EB: signal by score, in bins: for each exit the kept signal, for the full model all signal.
        seen: background jets and all jets, with the same memory.
    """

    name: ClassVar[str] = "reject"
    needs_working_point: ClassVar[bool] = True
    count_EB: Tensor
    seen: Tensor

    def __init__(self, options: ExitOptions, *, detach: bool) -> None:
        nn.Module.__init__(self)
        ExitLoss.__init__(self, options, detach=detach)
        self.point: WorkingPoint | None = None

    @property
    def title(self) -> str:
        return f"{1 - SHARE_AT_THRESHOLD:g}·BCE to full model + {SHARE_AT_THRESHOLD:g}·rejection"

    def at(self, point: WorkingPoint | None, exit_count: int) -> None:
        super().at(point, exit_count)
        self.point = point
        self.register_buffer("count_EB", torch.zeros(exit_count + 1, _BINS))
        self.register_buffer("seen", torch.zeros(2))

    def __call__(self, logits_ENK: Float[Tensor, "E N K"], label_N: Int[Tensor, " N"]) -> Float[Tensor, " E-1"]:
        assert self.point is not None
        # Half precision resolves the difference of large logits badly.
        logits_ENK = logits_ENK.to(torch.promote_types(logits_ENK.dtype, torch.float32))
        score_EN = log_odds(logits_ENK, self.point.signal, self.point.background)
        full_N, signal_N, background_N = (
            score_EN[-1].detach(),
            label_N == self.point.signal,
            label_N == self.point.background,
        )
        if self.training:
            self._see(score_EN.detach(), signal_N, background_N)
        kept_N = signal_N & (full_N >= self.cut)
        signal, (background, jets) = self.count_EB[-1].sum(), self.seen.unbind()
        share = self.point.efficiency * signal
        weight_N = background_N * _per(background, jets)
        kept_weight_N, signal_weight_N = kept_N * _per(share, jets), signal_N * _per(signal, jets)
        target_N = (full_N / TEMPERATURE).sigmoid().nan_to_num()
        distance_EN = (score_EN[:-1] - self.thresholds[:, None]) / TEMPERATURE
        distilled_EN = binary_cross_entropy_with_logits(
            score_EN[:-1] / TEMPERATURE, target_N.expand_as(distance_EN), reduction="none"
        )
        distilled_EN = (signal_weight_N + weight_N) * distilled_EN
        rejected_EN = kept_weight_N * softplus(-distance_EN) + weight_N * softplus(distance_EN)
        return TEMPERATURE**2 / 2 * torch.lerp(distilled_EN, rejected_EN, SHARE_AT_THRESHOLD).mean(dim=1)

    @property
    def cut(self) -> Float[Tensor, ""]:
        """The score above which the full model keeps a jet."""
        assert self.point is not None
        return _quantile(self.count_EB[-1:], 1 - self.point.efficiency)[0]

    @property
    def thresholds(self) -> Float[Tensor, " E-1"]:
        """The score at each exit below which jets are rejected."""
        assert self.point is not None
        return _quantile(self.count_EB[:-1], self.point.lost)

    @torch.no_grad()
    def _see(
        self, score_EN: Float[Tensor, "E N"], signal_N: Bool[Tensor, " N"], background_N: Bool[Tensor, " N"]
    ) -> None:
        """Count the jets of a batch, and forget as many of the earlier ones as are too many."""
        finite_N = score_EN.isfinite().all(dim=0)
        bin_EN = ((score_EN.nan_to_num() + _END) * (_BINS / (2 * _END))).long().clamp(0, _BINS - 1)
        counted_EN = (signal_N & finite_N).expand(score_EN.shape).clone()
        counted_EN[:-1] &= score_EN[-1] >= self.cut
        new_EB = torch.zeros_like(self.count_EB).scatter_add(1, bin_EN, counted_EN.to(self.count_EB.dtype))
        seen = torch.stack([(background_N & finite_N).sum(), finite_N.sum()]).to(self.seen.dtype)
        new = summed(torch.cat([new_EB.flatten(), seen]))
        new_EB, seen = new[:-2].view_as(self.count_EB), new[-2:]
        kept = ((MEMORY - new_EB[-1].sum()) / self.count_EB[-1].sum().clamp(min=1)).clamp(0, 1)
        self.count_EB.mul_(kept).add_(new_EB)
        self.seen.mul_(kept).add_(seen)


def _quantile(count_EB: Float[Tensor, "E B"], fraction: float) -> Float[Tensor, " E"]:
    """Return the score below which a fraction of the counted jets is, in each row; 0 in a row without jets."""
    total_E1 = count_EB.sum(dim=1, keepdim=True)
    below_EB, wanted_E1 = count_EB.cumsum(dim=1), fraction * total_E1
    bin_E1 = torch.searchsorted(below_EB, wanted_E1).clamp(max=_BINS - 1)
    count_E1 = count_EB.gather(1, bin_E1)
    inside_E1 = 1 - (below_EB.gather(1, bin_E1) - wanted_E1) / count_E1.clamp(min=1e-6)
    return ((bin_E1 + inside_E1) * (2 * _END / _BINS) - _END).where(total_E1 > 0, 0.0)[:, 0]


def _per(part: Float[Tensor, ""], jets: Float[Tensor, ""]) -> Float[Tensor, ""]:
    return jets / part.clamp(min=1)
