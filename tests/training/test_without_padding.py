"""The loss curve of a training without padding against that of the padded form, which is weaver's."""

import pytest
import torch

from phaze_ee.training.module import TaggerModule
from phaze_ee.training.optim import build_optimizer
from phaze_ee.types import JetBatch
from tests.jets import labelled_batch, small_tagger
from tests.training.interrupted import options
from tests.training.test_mixed_precision import DEVICES

STEPS = 200


def curve(device: torch.device, *, packed: bool) -> list[float]:
    """The losses of the steps of a training in float32, without dropout.

    The jets are not trimmed: where a jet has fewer padded slots than neighbours, weaver's choice is a tie in float32.
    """
    wanted = options(optimizer="adamw", lr=1e-3, zero_epochs=0, exit_stages=[0, 1, 2], beta_max=[1.0] * 3)
    tagger = small_tagger(seed=2, fc_params=[(16, 0.0)]).float().to(device)
    module = TaggerModule(tagger.fastest_form(device) if packed else tagger, wanted, wanted, total_steps=STEPS).train()
    assert module.tagger.backbone.packs_particles == packed
    optimizer, schedule = build_optimizer(module.tagger, wanted, STEPS)
    losses = []
    for step in range(STEPS):
        batch = labelled_batch(8, seed=step % 20, shift=0.7)
        optimizer.zero_grad()
        total = module.terms(JetBatch(batch.inputs.to(device), batch.label_N.to(device))).total
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(total.item())
    return losses


@pytest.mark.parametrize("device", DEVICES)
def test_each_of_200_steps_has_the_loss_of_the_padded_form(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaggerModule, "beta", property(lambda module: (1.0, 1.0, 1.0)))
    padded, packed = (curve(torch.device(device), packed=packed) for packed in (False, True))
    assert padded[-1] < 0.8 * padded[0]
    assert packed == pytest.approx(padded, abs=1e-4)
