"""BatchNorm over weighted rows: padding enters the statistics without being stored."""

from typing import Any, NamedTuple, Self, final

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import batch_norm, linear

from phaze_ee.kernels.availability import runs_kernels
from phaze_ee.machine import process_count, summed
from phaze_ee.models.precision import widened
from phaze_ee.shapes import Float


class WeightedRows(NamedTuple):
    """Rows that count once each, and a few extra rows that count ``weight_R`` times each."""

    row_EC: Float[Tensor, "E C"]
    extra_RC: Float[Tensor, "R C"]
    weight_R: Float[Tensor, " R"]

    def linear(self, weight: Tensor) -> Self:
        """Apply a layer without bias to all rows. Extra rows are never of half precision.

        Their gradients are large by their weights, and would overflow.
        """
        with torch.autocast(weight.device.type, enabled=False):
            extra_RC = linear(widened(self.extra_RC), weight)
        return self._replace(row_EC=linear(self.row_EC, weight), extra_RC=extra_RC)


class Statistics(NamedTuple):
    """The weighted mean and biased variance of each channel, and the sum of all weights."""

    mean_C: Float[Tensor, " C"]
    variance_C: Float[Tensor, " C"]
    total: Float[Tensor, ""]


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
    row_EC, extra_RC, *statistics = outputs
    update_running_statistics(norm, Statistics(*statistics))
    return WeightedRows(row_EC, extra_RC, rows.weight_R)


@torch.no_grad()
def update_running_statistics(norm: nn.modules.batchnorm._BatchNorm, statistics: Statistics) -> None:
    """Update the running statistics as ``nn.BatchNorm`` does, without waiting for the device.

    One row has no variance: it changes nothing, and neither does none.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked += 1
    if runs_kernels(norm.running_mean):
        from phaze_ee.kernels.normalisation import update_running

        update_running(*statistics, norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.momentum)
        return
    kind, total = norm.running_mean.dtype, statistics.total
    share = norm.num_batches_tracked.to(kind).reciprocal() if norm.momentum is None else norm.momentum
    share = share * (total > 1).to(kind)
    unbiased_C = statistics.variance_C * (total / (total - 1).clamp(min=1))
    norm.running_mean.lerp_(statistics.mean_C.to(kind), share)
    norm.running_var.lerp_(unbiased_C.to(kind), share)


def of_all_processes(own: Statistics) -> Statistics:
    """Return the statistics over the rows of all processes; each process must call this."""
    if process_count() == 1:
        return own
    mean_C, variance_C, count = own
    # In double precision, because a variance is a small difference of large sums.
    sums = torch.stack([torch.ones_like(mean_C), mean_C, variance_C + mean_C.square()]).double() * count.double()
    total_C, sum_C, square_C = summed(sums)
    counted_C = total_C.clamp(min=1)
    all_mean_C = sum_C / counted_C
    all_variance_C = (square_C / counted_C - all_mean_C.square()).clamp(min=0)
    return Statistics(all_mean_C.to(mean_C), all_variance_C.to(mean_C), total_C[0].to(mean_C))


def gradient_factors(
    statistics: Statistics, scale_C: Tensor, d_scale_shift_2C: Float[Tensor, "2 C"], epsilon: float
) -> tuple[Float[Tensor, " C"], Float[Tensor, " C"], Float[Tensor, " C"]]:
    """Return factors of the gradient of a row z: direct · gradient of y + weight of the row · (slope · z + offset).

    The second part is that through μ and σ² of all processes; each process must call this.
    """
    mean_C, variance_C, total = statistics
    direct_C = scale_C * torch.rsqrt(variance_C + epsilon)
    all_d_scale_C, all_d_shift_C = summed(d_scale_shift_2C)
    slope_C = -direct_C * all_d_scale_C / (total * (variance_C + epsilon).sqrt())
    return direct_C, slope_C, -direct_C * all_d_shift_C / total - slope_C * mean_C


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
        mean_C, variance_C, count = of_all_processes(_statistics(row_EC, extra_RC, weight_R))
        outputs = [batch_norm(value, mean_C, variance_C, scale_C, shift_C, eps=epsilon) for value in (row_EC, extra_RC)]
        if relu:
            outputs = [output.relu_() for output in outputs]
        ctx.save_for_backward(
            row_EC, extra_RC, weight_R, scale_C, mean_C, variance_C, count, *(outputs if relu else ())
        )
        ctx.epsilon = epsilon
        ctx.mark_non_differentiable(mean_C, variance_C, count)
        return outputs[0], outputs[1], mean_C, variance_C, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        row_EC, extra_RC, weight_R, scale_C, mean_C, variance_C, count, *outputs = ctx.saved_tensors
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
        direct_C, slope_C, offset_C = gradient_factors(
            Statistics(mean_C, variance_C, count), scale_C, torch.stack([d_scale_C, d_shift_C]), ctx.epsilon
        )
        d_row_EC = torch.addcmul(offset_C, row_EC, slope_C).addcmul_(gradients[0], direct_C)
        d_extra_RC = weight_R[:, None] * torch.addcmul(offset_C, extra_RC, slope_C) + gradients[1] * direct_C
        return d_row_EC, d_extra_RC, None, d_scale_C, d_shift_C, None, None


def _statistics(row_EC: Tensor, extra_RC: Tensor, weight_R: Tensor) -> Statistics:
    weight_R, extra_RC = weight_R.to(widened(extra_RC).dtype), widened(extra_RC)  # of a half, 1 + 2,048 is 2,048
    count = len(row_EC) + weight_R.sum()
    share_R1 = weight_R[:, None] / count
    row_share = 1 - share_R1.sum()
    if len(row_EC):
        # The type of running statistics is that of the results: rows of half precision have them in float32. With a
        # momentum of 0 they are not used.
        unused_2C = torch.zeros(2, row_EC.shape[1], dtype=widened(extra_RC).dtype, device=row_EC.device)
        row_mean_C, row_variance_C = torch.ops.aten.batch_norm_update_stats(row_EC, *unused_2C, 0.0)
    else:  # no jet of the batch has a particle
        row_mean_C, row_variance_C = widened(extra_RC).new_zeros(2, row_EC.shape[1])
    mean_C = row_share * row_mean_C + (share_R1 * extra_RC).sum(dim=0)
    variance_C = row_share * (row_variance_C + (row_mean_C - mean_C).square())
    return Statistics(mean_C, variance_C + (share_R1 * (extra_RC - mean_C).square()).sum(dim=0), count)


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
