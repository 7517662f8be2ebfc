"""The loss of a cascade: its quantiles, what it trains, and that it lets exits reject background."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from phaze_ee.config.options import ExitOptions
from phaze_ee.errors import UsageError
from phaze_ee.exits.scores import log_odds
from phaze_ee.training.losses import WorkingPoint, make_loss
from phaze_ee.training.reject import MEMORY, SHARE_AT_THRESHOLD, TEMPERATURE, RejectLoss

SIGNAL, BACKGROUND, OTHER = 2, 0, 1
POINT = WorkingPoint(signal=SIGNAL, background=BACKGROUND, efficiency=0.6, lost=0.05)


def reject_loss(exits: int = 1) -> RejectLoss:
    loss = make_loss("reject_detached", ExitOptions(), POINT, exits)
    assert isinstance(loss, RejectLoss)
    return loss


def batch(jets: int = 400, *, seed: int = 0, exits: int = 1) -> tuple[Tensor, Tensor]:
    """Logits of some exits and of the full model, which separates the classes better."""
    generator = torch.Generator().manual_seed(seed)
    label_N = torch.randint(0, 3, (jets,), generator=generator)
    logits_ENK = torch.randn(exits + 1, jets, 3, generator=generator)
    logits_ENK[:, :, SIGNAL] += torch.linspace(1, 4, exits + 1)[:, None] * (label_N == SIGNAL)
    return logits_ENK, label_N


def test_cut_and_thresholds_are_quantiles_over_the_jets_of_all_batches() -> None:
    loss, batches = reject_loss(), [batch(seed=seed) for seed in range(6)]
    for _ in range(2):  # when first seen, a jet is judged by the cut so far
        for logits_ENK, label_N in batches:
            loss(logits_ENK, label_N)
    score_EN = torch.cat([log_odds(logits_ENK, SIGNAL, BACKGROUND) for logits_ENK, _ in batches], dim=1)
    signal_N = torch.cat([label_N for _, label_N in batches]) == SIGNAL
    cut = np.quantile(score_EN[1, signal_N], 1 - POINT.efficiency)
    assert loss.cut.item() == pytest.approx(cut, abs=0.03)
    kept_N = signal_N & (score_EN[1] >= cut)
    assert loss.thresholds.item() == pytest.approx(np.quantile(score_EN[0, kept_N], POINT.lost), abs=0.1)


def test_the_value_is_that_of_the_formula_with_equal_weights_of_signal_and_background() -> None:
    loss, (logits_ENK, label_N) = reject_loss(exits=2), batch(exits=2)
    found = loss(logits_ENK, label_N)
    score_EN, expected = log_odds(logits_ENK, SIGNAL, BACKGROUND).double().numpy(), []
    signal_N, background_N = (label_N.numpy() == index for index in (SIGNAL, BACKGROUND))
    kept_N, t = signal_N & (score_EN[-1] >= loss.cut.item()), TEMPERATURE
    target_N = 1 / (1 + np.exp(-score_EN[-1] / t))
    for score_N, threshold in zip(score_EN[:-1], loss.thresholds.tolist(), strict=True):
        bce_N = np.logaddexp(0, score_N / t) - target_N * score_N / t
        beyond_N = (score_N - threshold) / t
        lost = np.logaddexp(0, -beyond_N[kept_N]).sum() / (POINT.efficiency * signal_N.sum())
        passed = np.logaddexp(0, beyond_N[background_N]).mean()
        distilled = (bce_N[signal_N].mean() + bce_N[background_N].mean()) / 2
        expected.append(t**2 * ((1 - SHARE_AT_THRESHOLD) * distilled + SHARE_AT_THRESHOLD * (lost + passed) / 2))
    assert found.tolist() == pytest.approx(expected, rel=1e-5)


def test_only_the_score_of_signal_and_background_jets_learns_and_the_full_model_does_not() -> None:
    loss, (logits_ENK, label_N) = reject_loss(), batch()
    total: Any = loss(logits_ENK.requires_grad_(), label_N).sum()
    total.backward()
    assert logits_ENK.grad is not None
    learns_NK = logits_ENK.grad[0] != 0
    in_pair_N = label_N != OTHER
    assert learns_NK[in_pair_N][:, [SIGNAL, BACKGROUND]].all()
    assert not learns_NK[~in_pair_N].any()
    assert not learns_NK[:, OTHER].any()
    assert not logits_ENK.grad[1].any()


def test_an_exit_that_learns_rejects_more_background_at_the_same_loss_of_kept_signal() -> None:
    generator = torch.Generator().manual_seed(3)
    label_N = torch.randint(0, 3, (2000,), generator=generator)
    input_NF = torch.randn(2000, 6, generator=generator)
    input_NF[:, 0] += 2.0 * (label_N == SIGNAL)
    full_NK = torch.zeros(2000, 3)
    full_NK[:, SIGNAL] = 3 * input_NF[:, 0] - 3
    torch.manual_seed(0)
    head, loss = torch.nn.Linear(6, 3), reject_loss()
    passes: list[float] = []
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for step in range(120):
        logits_ENK = torch.stack([head(input_NF), full_NK])
        total: Any = loss(logits_ENK, label_N).sum()
        if step in (0, 119):
            score_N = log_odds(logits_ENK[0].detach(), SIGNAL, BACKGROUND)
            kept_N = (label_N == SIGNAL) & (log_odds(full_NK, SIGNAL, BACKGROUND) >= loss.cut)
            threshold = score_N[kept_N].quantile(POINT.lost)
            passes.append((score_N[label_N == BACKGROUND] >= threshold).float().mean().item())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    assert passes[1] < 0.08 < 0.5 < passes[0]  # the best score lets 4 % pass


def test_validation_uses_the_quantiles_and_leaves_them() -> None:
    loss, (logits_ENK, label_N) = reject_loss(), batch()
    loss(logits_ENK, label_N)
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    loss.eval()
    loss(*batch(seed=9))
    assert before.keys() == {"count_EB", "seen"}
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())


def test_old_jets_are_forgotten() -> None:
    loss = reject_loss()
    for seed in range(12):
        logits_ENK, label_N = batch(3000, seed=seed)
        logits_ENK[:, :, SIGNAL] += 5.0 * (seed >= 6)
        loss(logits_ENK, label_N)
    signal_N = label_N == SIGNAL
    score_N = log_odds(logits_ENK[1, signal_N], SIGNAL, BACKGROUND)
    assert loss.cut.item() == pytest.approx(np.quantile(score_N, 1 - POINT.efficiency), abs=0.1)
    assert loss.count_EB[1].sum().item() == pytest.approx(MEMORY, rel=1e-4)


@pytest.mark.parametrize("missing", [SIGNAL, BACKGROUND, OTHER, None])
def test_a_batch_that_lacks_a_class_has_a_finite_loss_and_gradient(missing: int | None) -> None:
    loss, (logits_ENK, label_N) = reject_loss(), batch(40)
    label_N = torch.full_like(label_N, OTHER) if missing is None else label_N.where(label_N != missing, OTHER)
    found: Any = loss(logits_ENK.requires_grad_(), label_N).sum()
    found.backward()
    assert logits_ENK.grad is not None
    assert found.isfinite()
    assert logits_ENK.grad.isfinite().all()


def test_jets_that_are_not_finite_give_no_finite_loss_and_are_not_remembered() -> None:
    loss, (logits_ENK, label_N) = reject_loss(), batch()
    loss(logits_ENK, label_N)
    before = loss.cut.item()
    broken_ENK = logits_ENK.clone()
    broken_ENK[0, label_N == SIGNAL] = torch.nan
    assert not loss(broken_ENK, label_N).isfinite().any()
    assert loss.cut.item() == before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_of_large_logits_is_computed_in_single(dtype: torch.dtype) -> None:
    logits_ENK, label_N = batch()
    halves_ENK = (logits_ENK + 100.0).to(dtype)
    assert torch.equal(reject_loss()(halves_ENK, label_N), reject_loss()(halves_ENK.float(), label_N))


def test_without_a_working_point_it_is_refused() -> None:
    with pytest.raises(UsageError, match=r"needs a working point: set c\.signal"):
        make_loss("reject_flow", ExitOptions(), None, 1)
