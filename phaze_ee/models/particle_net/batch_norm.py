"""BatchNorm over weighted rows: padding enters the statistics without being stored."""

from typing import Any, NamedTuple, Self, final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import batch_norm, linear

from phaze_ee.machine import process_count, summed
from phaze_ee.shapes import Float


class WeightedRows(NamedTuple):
    """Rows that count once each, and a few extra rows that count ``weight_R`` times each."""

    row_EC: Float[Tensor, "E C"]
    extra_RC: Float[Tensor, "R C"]
    weight_R: Float[Tensor, " R"]

    def linear(self, weight: Tensor) -> Self:
        """Apply a layer without bias to all rows."""
        return self._replace(row_EC=linear(self.row_EC, weight), extra_RC=linear(self.extra_RC, weight))


def normalise(rows: WeightedRows, norm: nn.modules.batchnorm._BatchNorm, *, relu: bool = False) -> WeightedRows:
    """Apply a BatchNorm layer, and a ReLU after it if ``relu`` is set.

    In training, mean and variance are weighted, and update the running statistics as in ``nn.BatchNorm``. With several
    processes they are computed over the rows of all of them, as in ``nn.SyncBatchNorm``, so the result does not depend
    on how a batch is split.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    if not norm.training:
        constants = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        row_EC = batch_norm(rows.row_EC, *constants, eps=norm.eps)
        # In evaluation, nothing depends on the extra rows.
        return rows._replace(row_EC=row_EC.relu() if relu else row_EC)
    outputs = _WeightedBatchNorm.apply(*rows, norm.weight, norm.bias, norm.eps, relu)  # type: ignore[no-untyped-call]
    row_EC, extra_RC, mean_C, variance_C, count = outputs
    _update_running_statistics(norm, mean_C, variance_C, float(count))
    return WeightedRows(row_EC, extra_RC, rows.weight_R)


@torch.no_grad()
def _update_running_statistics(
    norm: nn.modules.batchnorm._BatchNorm, mean_C: Tensor, variance_C: Tensor, count: float
) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked += 1
    share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean_C, share)
    norm.running_var.lerp_(variance_C * (count / (count - 1)), share)


@final
class _WeightedBatchNorm(torch.autograd.Function):
    """y = γ (z − μ)/√(σ² + ε) + β on all rows, with weighted μ and σ². Kernels of ATen handle the rows of weight 1."""

    @staticmethod
    def forward(
        ctx: Any,
        row_EC: Tensor,
        extra_RC: Tensor,
        weight_R: Tensor,
        scale_C: Tensor,
        shift_C: Tensor,
        epsilon: float,
        relu: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        mean_C, variance_C, count = _of_all_processes(*_statistics(row_EC, extra_RC, weight_R))
        outputs = [batch_norm(value, mean_C, variance_C, scale_C, shift_C, eps=epsilon) for value in (row_EC, extra_RC)]
        if relu:
            outputs = [output.relu_() for output in outputs]
        ctx.save_for_backward(row_EC, extra_RC, weight_R, scale_C, mean_C, variance_C, *(outputs if relu else ()))
        ctx.epsilon, ctx.count = epsilon, float(count)
        ctx.mark_non_differentiable(mean_C, variance_C, count)
        return outputs[0], outputs[1], mean_C, variance_C, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        row_EC, extra_RC, weight_R, scale_C, mean_C, variance_C, *outputs = ctx.saved_tensors
        if outputs:
            gradients = tuple(
                torch.ops.aten.threshold_backward(gradient, output, 0)
                for gradient, output in zip(gradients, outputs, strict=False)
            )
        d_scale_C, d_shift_C = (
            first + second
            for first, second in zip(
                *(
                    _parameter_gradients(value, gradient, scale_C, mean_C, variance_C, ctx.epsilon)
                    for value, gradient in zip((row_EC, extra_RC), gradients, strict=False)
                ),
                strict=True,
            )
        )
        # The gradient through μ and σ² is linear in each row: slope · z + offset, times the weight of the row.
        direct_C = scale_C * torch.rsqrt(variance_C + ctx.epsilon)
        all_d_scale_C, all_d_shift_C = summed(torch.stack([d_scale_C, d_shift_C]))
        slope_C = -direct_C * all_d_scale_C / (ctx.count * (variance_C + ctx.epsilon).sqrt())
        offset_C = -direct_C * all_d_shift_C / ctx.count - slope_C * mean_C
        d_row_EC = torch.addcmul(offset_C, row_EC, slope_C).addcmul_(gradients[0], direct_C)
        d_extra_RC = weight_R[:, None] * torch.addcmul(offset_C, extra_RC, slope_C) + gradients[1] * direct_C
        return d_row_EC, d_extra_RC, None, d_scale_C, d_shift_C, None, None


def _statistics(row_EC: Tensor, extra_RC: Tensor, weight_R: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean, the biased variance, and the sum of all weights."""
    count = len(row_EC) + weight_R.sum()
    share_R1 = weight_R[:, None] / count
    row_share = 1 - share_R1.sum()
    if len(row_EC):
        row_mean_C, row_variance_C = torch.ops.aten.batch_norm_update_stats(row_EC, None, None, 0.0)
    else:  # no jet of the batch has a particle
        row_mean_C, row_variance_C = row_EC.new_zeros(2, row_EC.shape[1])
    mean_C = row_share * row_mean_C + (share_R1 * extra_RC).sum(dim=0)
    variance_C = row_share * (row_variance_C + (row_mean_C - mean_C).square())
    return mean_C, variance_C + (share_R1 * (extra_RC - mean_C).square()).sum(dim=0), count


def _of_all_processes(mean_C: Tensor, variance_C: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if process_count() == 1:
        return mean_C, variance_C, count
    # In double precision, because a variance is a small difference of large sums.
    own = torch.stack([torch.ones_like(mean_C), mean_C, variance_C + mean_C.square()]).double() * count.double()
    total_C, sum_C, square_C = summed(own)
    all_mean_C = sum_C / total_C
    all_variance_C = (square_C / total_C - all_mean_C.square()).clamp(min=0)
    return all_mean_C.to(mean_C), all_variance_C.to(mean_C), total_C[0].to(mean_C)


def _parameter_gradients(
    value: Tensor, gradient: Tensor, scale_C: Tensor, mean_C: Tensor, variance_C: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Return the contributions of rows to the gradients of scale and shift."""
    if not len(value):  # torch would divide by their number, which crashes the process
        return torch.zeros_like(scale_C), torch.zeros_like(scale_C)
    # Statistics twice: CPUs read the running ones in evaluation, CUDA devices want those that a forward pass saved.
    statistics = (mean_C, variance_C, mean_C, torch.rsqrt(variance_C + epsilon))
    _, d_scale_C, d_shift_C = torch.ops.aten.native_batch_norm_backward(
        gradient.contiguous(), value, scale_C, *statistics, False, epsilon, [False, True, True]
    )
    return d_scale_C, d_shift_C
