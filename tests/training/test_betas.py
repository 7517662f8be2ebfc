"""The weights of the exit losses over the epochs."""

from typing import Any

import pytest

from phaze_ee.training.losses import BETA_SCHEDULES, beta_at


def betas(schedule: str, *, zero_epochs: int = 3, epochs: int = 10) -> list[tuple[float, ...]]:
    options: dict[str, Any] = {
        "beta_max": [0.3, 1.0],
        "schedule": schedule,
        "zero_epochs": zero_epochs,
        "epochs": epochs,
    }
    return [beta_at(epoch, **options) for epoch in range(epochs)]


@pytest.mark.parametrize("schedule", BETA_SCHEDULES)
def test_zero_then_rising_to_the_maximum_in_the_last_epoch(schedule: str) -> None:
    values = betas(schedule)
    assert values[:3] == [(0.0, 0.0)] * 3
    assert all(beta > 0 for beta in values[3])
    assert values[-1] == pytest.approx((0.3, 1.0))
    assert values == sorted(values)


@pytest.mark.parametrize("schedule", BETA_SCHEDULES)
@pytest.mark.parametrize(("zero_epochs", "epochs"), [(0, 1), (9, 10), (0, 7)])
def test_the_last_epoch_has_the_maximum(schedule: str, zero_epochs: int, epochs: int) -> None:
    assert betas(schedule, zero_epochs=zero_epochs, epochs=epochs)[-1] == pytest.approx((0.3, 1.0))


def test_linear_ramp_takes_all_remaining_epochs() -> None:
    assert [second for _, second in betas("linear")] == pytest.approx([0, 0, 0, *(step / 7 for step in range(1, 8))])


def test_cosine_is_half_a_wave_from_bottom_to_top() -> None:
    curve = [second for _, second in betas("cosine", zero_epochs=1, epochs=5)]
    assert curve == pytest.approx([0, (1 - 0.5**0.5) / 2, 0.5, (1 + 0.5**0.5) / 2, 1])


def test_switch_is_at_its_maximum_at_once() -> None:
    assert betas("switch")[3] == (0.3, 1.0)
