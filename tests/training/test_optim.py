"""Learning rates step by step, and weight decay where it belongs."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from weaver import train as weaver_train

from phaze_ee.config.options import TrainingOptions
from phaze_ee.training.optim import (
    LR_SCHEDULES,
    OPTIMIZERS,
    WARM_UP_SCHEDULES,
    build_optimizer,
    cosine,
    flat_cosine,
    flat_decay,
    flat_linear,
    one_cycle,
    parameter_groups,
)
from tests.jets import small_tagger

STEPS = 200


def learning_rates(schedule: str, steps: int, lr: float = 0.4, warm_up: float = 0.25) -> list[float]:
    """The rate that each step of a training really uses."""
    layer = nn.Linear(2, 2)
    options: Any = TrainingOptions.model_validate(
        {"lr_schedule": schedule, "lr": lr, "optimizer": "adam", "warm_up": warm_up}
    )
    optimizer, scheduler = build_optimizer(layer, options, steps)
    rates = []
    for _ in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        layer(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        scheduler.step()
    return rates


def test_flat_decay_is_flat_for_70_percent_and_ends_at_1_percent() -> None:
    rates = learning_rates("flat_decay", STEPS)
    assert rates[:140] == [0.4] * 140
    assert rates[-1] == pytest.approx(0.004)
    ratios = [after / before for before, after in itertools.pairwise(rates[140:])]
    assert rates[140] < 0.4
    assert ratios == pytest.approx([0.01 ** (1 / 60)] * 59)  # exponential


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 10])
def test_flat_decay_of_short_trainings_ends_at_1_percent_too(steps: int) -> None:
    assert flat_decay(steps - 1, steps) == pytest.approx(0.01)
    assert flat_decay(steps + 5, steps) == pytest.approx(0.01)


def test_cosine_is_half_a_cosine() -> None:
    rates = learning_rates("cosine", STEPS, lr=1.0)
    assert rates[0] == 1.0
    assert rates[100] == pytest.approx(0.5)
    assert rates[150] == pytest.approx(0.5 * (1 - math.sqrt(0.5)))
    assert 0 < rates[-1] < 1e-3
    assert cosine(STEPS, STEPS) == pytest.approx(0)


def test_one_cycle_rises_for_30_percent_and_falls_to_nearly_nothing() -> None:
    rates = learning_rates("one_cycle", STEPS, lr=1.0)
    assert rates[0] == pytest.approx(0.04)
    assert max(rates) == rates[60] == pytest.approx(1.0)
    assert rates[:60] == sorted(rates[:60])
    assert rates[60:] == sorted(rates[60:], reverse=True)
    assert rates[30] == pytest.approx((0.04 + 1) / 2)
    assert rates[15] == pytest.approx(0.04 + 0.96 * (1 - math.sqrt(0.5)) / 2)
    assert rates[130] == pytest.approx(0.5)
    assert rates[95] == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert rates[-1] < 1e-3
    assert one_cycle(STEPS, STEPS) == pytest.approx(1e-4)


def test_no_schedule_is_constant() -> None:
    assert set(learning_rates("none", 10)) == {0.4}


def weaver_rates(lr_scheduler: str, epochs: int, steps_per_epoch: int, warmup_steps: float) -> list[float]:
    """The rates of the first steps of weaver's own training."""
    command = ["--lr-scheduler", lr_scheduler, "--num-epochs", str(epochs), "--warmup-steps", str(warmup_steps)]
    command += ["--steps-per-epoch", str(steps_per_epoch), "--start-lr", "0.4", "--optimizer", "adam"]
    layer = nn.Linear(2, 2)
    optimizer, scheduler = weaver_train.init_opt(weaver_train.parser.parse_args(command), layer)
    rates = []
    for _ in range(epochs * steps_per_epoch):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        layer(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("warm_up", [0, 0.25, 1, 7])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("flat_linear", "flat+linear"), ("flat_cosine", "flat+cos"), ("warm_up_cosine", "warmup+cos")],
)
def test_schedules_that_warm_up_are_those_of_weaver(ours: str, theirs: str, warm_up: float) -> None:
    expected = weaver_rates(theirs, 4, 10, warm_up)
    assert learning_rates(ours, 40, warm_up=warm_up) == pytest.approx(expected, rel=1e-12)
    assert len(set(expected)) > 10


def test_steps_divides_by_ten_after_each_third_as_weaver_does() -> None:
    # weaver changes the rate after whole epochs: with one step in each of them, the rates are the same.
    assert learning_rates("steps", 12) == pytest.approx(weaver_rates("steps", 12, 1, 0.25), rel=1e-12)
    assert learning_rates("steps", 12) == pytest.approx([0.4] * 4 + [0.04] * 4 + [0.004] * 4)
    assert learning_rates("steps", 10) == pytest.approx(weaver_rates("steps", 10, 1, 0.25), rel=1e-12)
    assert learning_rates("steps", 3) == pytest.approx(weaver_rates("steps", 3, 1, 0.25), rel=1e-12)


@pytest.mark.parametrize("schedule", [flat_linear, flat_cosine])
def test_a_long_training_ends_at_a_thousandth_of_the_rate(schedule: Callable[[int, int, float], float]) -> None:
    assert schedule(99_999, 100_000, 0) == 0.001


@pytest.mark.parametrize("schedule", [*LR_SCHEDULES, *WARM_UP_SCHEDULES])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_every_schedule_survives_a_training_of_a_few_steps(schedule: str, steps: int) -> None:
    first, *others = learning_rates(schedule, steps)
    assert 0 <= first <= 0.4
    assert first > 0 or schedule in WARM_UP_SCHEDULES  # weaver's warm-up begins with a rate of 0
    assert all(0 < rate <= 0.4 for rate in others)


def test_biases_and_normalisations_have_no_weight_decay() -> None:
    tagger = small_tagger()
    decayed, spared = parameter_groups(tagger, 0.3, 1)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.3, 0.0)
    ids = {id(parameter): name for name, parameter in tagger.named_parameters()}
    names = {ids[id(parameter)] for parameter in spared["params"]}
    expected = {
        f"{prefix}.{name}"
        for prefix, module in tagger.named_modules()
        for name, _ in module.named_parameters(recurse=False)
        if name == "bias" or isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    }
    assert names == expected
    assert len(decayed["params"]) + len(spared["params"]) == len(ids)


class WithToken(nn.Module):
    """A part that names a parameter to spare."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.weight = nn.Parameter(torch.ones(1, 1, 4)), nn.Parameter(torch.ones(4, 4))

    def no_weight_decay(self) -> set[str]:
        return {"token"}


def test_what_a_part_names_has_no_weight_decay() -> None:
    part = WithToken()
    decayed, spared = parameter_groups(nn.Sequential(part), 0.3, 1)
    assert decayed["params"] == [part.weight]
    assert spared["params"] == [part.token]


def test_frozen_parameters_are_left_out() -> None:
    layer = nn.Linear(2, 2)
    layer.weight.requires_grad_(False)
    decayed, spared = parameter_groups(layer, 0.3, 1)
    assert (decayed["params"], spared["params"]) == ([], [layer.bias])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimiser_fits_a_line(name: str) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(2, 1)
    options = TrainingOptions.model_validate({"optimizer": name, "lr": 0.1, "lr_schedule": "none", "weight_decay": 0})
    optimizer, _ = build_optimizer(layer, options, 600)
    x = torch.rand(64, 2) - 0.5
    target = 3 * x[:, :1] - 3 * x[:, 1:] - 1  # slopes that add up to 0: Ranger takes the mean out of each gradient
    for _ in range(600):
        optimizer.zero_grad()
        loss = ((layer(x) - target) ** 2).mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-3


@pytest.mark.parametrize("name", ["ranger", "adamw"])
def test_weight_decay_is_decoupled_from_the_gradient(name: str) -> None:
    """Where the gradient is zero, decay alone shrinks the weights, by lr × weight_decay each step; biases stay."""
    layer = nn.Linear(3, 3)
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    options = TrainingOptions.model_validate({"optimizer": name, "lr": 0.1, "weight_decay": 0.5})
    optimizer, _ = build_optimizer(layer, options, 100)
    for _ in range(5):  # fewer than Lookahead's six steps, which would pull the weights back
        optimizer.zero_grad()
        (0 * layer(torch.ones(1, 3)).sum()).backward()
        optimizer.step()
    torch.testing.assert_close(layer.weight, before["weight"] * 0.95**5)
    torch.testing.assert_close(layer.bias, before["bias"])
