"""Audits of the engine: which jets go on, what they weigh, and that nothing else changes."""

from typing import Any

import numpy as np
import pytest
import torch

from phaze_ee.engine import run as chunk_run
from phaze_ee.engine.audit import Audit, Audited, AuditReport, draws
from phaze_ee.engine.engine import Engine
from phaze_ee.engine.event_budget import EventBudget
from phaze_ee.errors import UsageError
from phaze_ee.exits.policies import ThresholdPolicy, temper
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetInputs
from tests.engine.test_engine import COUNTS, middle_policy
from tests.jets import random_jets, small_tagger

DRAW_N = torch.rand(len(COUNTS), generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.fixture
def jets() -> JetInputs:
    return random_jets(COUNTS, length=32)


@pytest.fixture(params=[True, False], ids=["dropping always", "never dropping"])
def _dropping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_run, "_SELECT_MACS", -1 if request.param else 10**15)
    monkeypatch.setattr(chunk_run, "_SELECT_MACS_PER_PARTICLE", 0)


def engine(tagger: Tagger, policy: ThresholdPolicy, **options: Any) -> Engine:
    return Engine(tagger, policy, backend="given", **options)


@pytest.mark.usefixtures("_dropping")
@pytest.mark.parametrize("form", ["padded", "packed"])
@pytest.mark.parametrize("score", ["confidence", "patience"])
@pytest.mark.parametrize(("threads", "chunk_size"), [(1, 512), (2, 9)])
def test_an_audit_adds_the_full_model_and_changes_no_answer(
    jets: JetInputs, form: str, score: str, threads: int, chunk_size: int
) -> None:
    tagger = small_tagger() if form == "padded" else small_tagger().packed()
    policy = middle_policy(tagger, score, jets)
    options = {"threads": threads, "chunk_size": chunk_size}
    plain = engine(tagger, policy, **options)(jets)
    result = engine(tagger, policy, audit=0.4, **options)(jets, draw_N=DRAW_N)
    assert plain.audit is None
    assert result.audit is not None
    torch.testing.assert_close(result.logits_NK, plain.logits_NK, rtol=0, atol=1e-11)
    torch.testing.assert_close(result.visited_NEK, plain.visited_NEK, rtol=0, atol=1e-11, equal_nan=True)
    assert torch.equal(result.exit_index_N, plain.exit_index_N)
    early_N, chosen_N = plain.exit_index_N < 3, DRAW_N < 0.4
    assert {*chosen_N[early_N].tolist()} == {False, True}
    assert score == "patience" or {*chosen_N[~early_N].tolist()} == {False, True}
    weight_N = torch.where(early_N, torch.where(chosen_N, 2.5, 0.0), 1.0).double()
    torch.testing.assert_close(result.audit.weight_N, weight_N)
    assert policy.temperatures is not None
    with torch.no_grad():
        every_ENK = temper(tagger(jets), policy.temperatures)
    every_ENK[:, weight_N == 0] = torch.nan
    torch.testing.assert_close(result.audit.logits_NK, every_ENK[-1], rtol=0, atol=1e-11, equal_nan=True)
    every_NEK = every_ENK.transpose(0, 1)
    torch.testing.assert_close(result.audit.every_NEK, every_NEK, rtol=0, atol=1e-11, equal_nan=True)


@pytest.mark.usefixtures("_dropping")
def test_the_cost_includes_the_audit(jets: JetInputs) -> None:
    tagger = small_tagger().packed()
    policy = middle_policy(tagger, "confidence", jets)
    result = engine(tagger, policy, audit=0.4, chunk_size=9)(jets, draw_N=DRAW_N)
    assert result.audit is not None
    macs_EN = tagger.exit_macs(jets.particle_count_N)
    at_exit_N = macs_EN[result.exit_index_N, torch.arange(len(COUNTS))]
    seen_N = result.audit.weight_N > 0
    assert torch.equal(result.macs_N[seen_N], macs_EN[-1][seen_N])
    assert torch.equal(result.audit.macs_N, (macs_EN[-1] - at_exit_N) * seen_N)
    assert (result.audit.macs_N > 0).any()


def test_jets_near_the_threshold_are_all_audited(jets: JetInputs) -> None:
    tagger = small_tagger().packed()
    policy = ThresholdPolicy("confidence", [0.4, 0.4, 0.4])
    result = engine(tagger, policy, audit=Audit(0.25, near=0.05))(jets, draw_N=DRAW_N)
    assert result.audit is not None
    early_N = result.exit_index_N < 3
    margin_N = result.logits_NK.softmax(dim=1).amax(dim=1) - 0.4
    near_N = early_N & (margin_N < 0.05)
    assert 0 < int(near_N.sum()) < int(early_N.sum())
    far_N = torch.where(DRAW_N < 0.25, 4.0, 0.0)
    torch.testing.assert_close(result.audit.weight_N, torch.where(near_N | ~early_N, 1.0, far_N).double())


def test_where_all_jets_leave_at_once_and_none_is_audited(jets: JetInputs) -> None:
    policy = ThresholdPolicy("confidence", [-torch.inf, torch.inf, torch.inf])
    result = engine(small_tagger(), policy, audit=0.5)(jets, draw_N=torch.full((len(COUNTS),), 0.5))
    assert result.audit is not None
    assert result.audit.logits_NK.isnan().all()
    assert not result.audit.weight_N.any()
    everything = engine(small_tagger(), policy, audit=1)(jets, draw_N=torch.full_like(DRAW_N, 1 - 2.0**-53))
    assert everything.audit is not None
    assert everything.audit.logits_NK.isfinite().all()


@pytest.mark.parametrize(("rate", "near"), [(0.0, 0.0), (-0.1, 0.0), (1.1, 0.0), (float("nan"), 0.0)])
def test_a_rate_that_is_no_probability(rate: float, near: float) -> None:
    with pytest.raises(UsageError, match="is not a probability"):
        Audit(rate, near)


@pytest.mark.parametrize("near", [-1.0, float("inf"), float("nan")])
def test_a_distance_that_makes_no_sense(near: float) -> None:
    with pytest.raises(UsageError, match="is not a distance"):
        Audit(0.1, near)


def test_an_engine_refuses_audits_that_cannot_be(jets: JetInputs) -> None:
    tagger, policy = small_tagger(), ThresholdPolicy("confidence", [0.5, 0.5, 0.5])
    with pytest.raises(UsageError, match="needs a policy"):
        Engine(tagger, audit=0.1)
    with pytest.raises(UsageError, match="do not go together"):
        Engine(tagger, policy, audit=0.1, event_budget=EventBudget(1e9))
    with pytest.raises(UsageError, match="needs draw_N"):
        Engine(tagger, policy, audit=0.1)(jets)
    for draw_N in (DRAW_N[1:], DRAW_N + 1, DRAW_N - 1, DRAW_N * torch.nan):
        with pytest.raises(UsageError, match=r"70 random numbers in \[0, 1\)"):
            Engine(tagger, policy, audit=0.1)(jets, draw_N=draw_N)


def test_draws_belong_to_the_rows_of_a_file() -> None:
    row_N = np.arange(100_000)
    draw_N = draws(1, "jets.root", 77, row_N)
    assert draw_N.min() >= 0
    assert draw_N.max() < 1
    # Each tenth has 10,000 of the numbers, with a standard deviation of 95.
    assert np.abs(np.histogram(draw_N, bins=10, range=(0, 1))[0] - 10_000).max() < 500
    some = np.array([70_001, 5, 99_999, 6])
    np.testing.assert_array_equal(draws(1, "jets.root", 77, some), draw_N[some])
    assert draws(1, "jets.root", 77, row_N[:0]).shape == (0,)
    for other in (draws(2, "jets.root", 77, row_N), draws(1, "j.root", 77, row_N), draws(1, "jets.root", 78, row_N)):
        assert abs(np.corrcoef(draw_N, other)[0, 1]) < 0.02  # 6 standard deviations


def test_the_estimate_is_unbiased_and_its_error_is_right() -> None:
    generator = torch.Generator().manual_seed(0)
    changed_N = torch.rand(5_000, generator=generator) < 0.1
    own_NK = torch.tensor([1.0, 0.0]).repeat(5_000, 1)
    full_NK = torch.where(changed_N[:, None], own_NK.flip(1), own_NK)
    index_N = (torch.arange(5_000) % 4 == 0).long()  # a quarter reaches the full model by itself
    full_NK[index_N == 1] = own_NK[index_N == 1]
    truth = float((changed_N & (index_N == 0)).float().mean())
    reports = []
    for _ in range(200):
        chosen_N = (torch.rand(5_000, generator=generator) < 0.2) & (index_N == 0)
        weight_N = torch.where(chosen_N, 5.0, 0.0).masked_fill(index_N == 1, 1.0)
        seen_NK = full_NK.masked_fill((weight_N == 0)[:, None], torch.nan)
        audited = Audited(seen_NK[:, None], weight_N, chosen_N.long() * 3)
        reports.append(AuditReport.of(own_NK, index_N, 1, audited))
    estimates = np.array([report.share for report in reports])
    assert abs(estimates.mean() - truth) < 5 * estimates.std() / 200**0.5
    # The error is that of the share of later jets, so it is a little larger than the spread for the same jets.
    assert 0.8 < estimates.std() / np.mean([report.share_error for report in reports]) < 1.1
    total = reports[0] + reports[1]
    assert total.jets == 10_000
    assert total.left == 7_500
    assert total.macs == 3 * total.audited
    assert total.share == pytest.approx(estimates[:2].mean())


def test_the_error_is_that_of_the_mean_of_the_weights() -> None:
    weight_N = np.array([0.0] * 60 + [5.0] * 8 + [1.0] * 12)
    report = AuditReport(
        jets=80, left=70, audited=20, macs=0, found=20, changed=weight_N.sum(), changed_squares=(weight_N**2).sum()
    )
    assert report.share == pytest.approx(weight_N.mean())
    assert report.share_error == pytest.approx(weight_N.std() / 80**0.5)
    nothing = report.model_copy(update={"jets": 0, "changed": 0.0, "changed_squares": 0.0})
    assert (nothing.share, nothing.share_error) == (0, 0)
