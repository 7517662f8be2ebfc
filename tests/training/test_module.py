"""What a training minimises, averages, clips and judges by, against numbers written out here."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from phaze_ee.config.options import Options
from phaze_ee.models.tagger import Tagger
from phaze_ee.training.losses import WorkingPoint
from phaze_ee.training.module import RunningMeans, TaggerModule
from phaze_ee.types import JetBatch
from tests.jets import labelled_batch, small_tagger
from tests.training.test_run import QUICK

BATCH = labelled_batch(16, seed=3)
BETA = [0.25, 2.0]
POINT = WorkingPoint(signal=1, background=0, efficiency=0.5, lost=0.01)


def module_of(tagger: Tagger, **changes: Any) -> TaggerModule:
    own = {"exit_stages": list(tagger.exit_stages), "beta_max": BETA, "zero_epochs": 0, "beta_schedule": "switch"}
    options = Options(**{**QUICK, **own, "exit_loss_strategy": "target_flow", **changes})
    return TaggerModule(tagger, options, options, total_steps=10, point=POINT)


def with_targets() -> tuple[Tagger, JetBatch]:
    """Return a tagger of three classes and one target, and a batch for it."""
    tagger = Tagger(small_tagger().backbone, (0, 1), targets=1).float().eval()
    assert tagger.targets is not None
    tagger.targets.set_scales([80.0], [25.0])
    target_NR = 80 + 40 * torch.randn(len(BATCH), 1, generator=torch.Generator().manual_seed(1))
    return tagger, replace(BATCH, label_N=BATCH.label_N % 3, target_NR=target_NR)


def test_the_total_is_the_loss_of_the_full_model_and_of_the_exits_with_their_weights() -> None:
    tagger = small_tagger((0, 1)).float()
    terms = module_of(tagger).terms(BATCH)
    nll_E = torch.stack([cross_entropy(logits_NK, BATCH.label_N) for logits_NK in tagger(BATCH.inputs)])
    torch.testing.assert_close(terms.loss_E, nll_E.detach())
    torch.testing.assert_close(terms.total, nll_E[2] + 0.25 * nll_E[0] + 2 * nll_E[1])


def test_targets_add_their_weighted_loss_to_that_of_every_exit() -> None:
    tagger, batch = with_targets()
    terms = module_of(tagger, regression_loss_weight=3.0).terms(batch)
    logits_ENK, value_ENR = tagger.every_answer(batch.inputs)
    assert batch.target_NR is not None
    losses = []
    for logits_NK, value_NR in zip(logits_ENK, value_ENR, strict=True):
        scaled_NR = (value_NR - batch.target_NR) / 25
        losses.append(cross_entropy(logits_NK, batch.label_N) + 3 * scaled_NR.cosh().log().mean())
    torch.testing.assert_close(terms.loss_E, torch.stack(losses).detach(), rtol=1e-4, atol=0)
    torch.testing.assert_close(terms.total, losses[2] + 0.25 * losses[0] + 2 * losses[1], rtol=1e-4, atol=0)


def test_means_are_over_jets_not_batches() -> None:
    means = RunningMeans()
    for value, jets in ((1.0, 30), (5.0, 10), (2.0, 0)):
        means.add({"loss": torch.tensor(value), "accuracy": torch.tensor(value / 10)}, jets)
    assert means.jets == 40
    assert {name: value.item() for name, value in means.means.items()} == pytest.approx({"loss": 2, "accuracy": 0.2})


def norm_of(gradients: list[Tensor | None]) -> float:
    return math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients if gradient is not None))


@pytest.mark.parametrize("limit", [0.0, 1e-3, 1e3])
def test_gradients_of_backbone_and_exits_are_shortened_each_to_the_limit(limit: float) -> None:
    tagger = Tagger(small_tagger().backbone, (0, 1), link="cascade").float()
    module: Any = module_of(tagger, gradient_clip=limit)
    module.terms(BATCH).total.backward()
    parts = ([tagger.backbone], [tagger.heads, tagger.link])

    def norms() -> list[float]:
        return [norm_of([weight.grad for own in part for weight in own.parameters()]) for part in parts]

    before = norms()
    module.configure_gradient_clipping(torch.optim.SGD(tagger.parameters(), lr=1))
    assert 1e-3 < min(before) < max(before) < 1e3
    assert norms() == pytest.approx([limit, limit] if limit == 1e-3 else before, rel=1e-2)


def test_the_best_epoch_is_judged_by_what_is_trained() -> None:
    metrics = {f"val/accuracy/{name}": value for name, value in (("exit_0", 0.2), ("exit_1", 0.4), ("full", 0.9))}
    metrics |= {f"val/loss/{name}": value for name, value in (("exit_0", 0.5), ("exit_1", 1.5), ("full", 7.0))}
    names = small_tagger((0, 1)).exit_names
    metrics = {key.replace("full", names[-1]): value for key, value in metrics.items()}
    assert names[:2] == ("exit_0", "exit_1")
    frozen = {"freeze_backbone": True}
    assert module_of(small_tagger((0, 1))).judged(metrics) == 0.9
    assert module_of(small_tagger((0, 1)), **frozen).judged(metrics) == pytest.approx(0.3)
    of_point = module_of(small_tagger((0, 1)), exit_loss_strategy="reject_detached", **frozen)
    assert of_point.judged(metrics) == 1 / (1 + 1.0), "exits for one working point have no accuracy"
