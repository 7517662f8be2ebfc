"""Plans of a calibration: what they say comes true."""

import numpy as np
import pytest

from phaze_ee.errors import UsageError
from phaze_ee.exits.calibrate import Settings, calibrate
from phaze_ee.exits.conditions import Conditions
from phaze_ee.exits.plan import plan
from phaze_ee.exits.targets import AccuracyDrop, Budget, NetAccuracyDrop, SignalEfficiency, Target
from tests.exits.synthetic import CLASSES, synthetic_answers

PILOT = synthetic_answers(3000)


@pytest.mark.parametrize("target", [AccuracyDrop(epsilon=0.01), NetAccuracyDrop(epsilon=0.01)], ids=lambda t: t.name)
def test_calibrations_pass_as_often_and_save_as_much_as_planned(target: Target) -> None:
    settings = Settings(target, temperatures=False)
    few, middle, many = plan(PILOT, settings, (300, 1200, 20_000))
    assert few.promised < 0.5
    assert many.promised == 1
    assert few.cost > middle.cost > many.cost
    results = [calibrate(synthetic_answers(1200, seed), settings) for seed in range(10, 18)]
    assert np.mean([result.reason is None for result in results]) == pytest.approx(middle.promised, abs=0.4)
    others = synthetic_answers(4000, 99)
    found = calibrate(synthetic_answers(20_000, 5), settings)
    assert others.costs.mean(others.exit_index(found.policy)) == pytest.approx(many.cost, abs=0.05)


def test_the_share_of_calibrations_that_pass_comes_true_where_chance_decides() -> None:
    # A policy that loses nothing passes with 59 jets of the signal above the cut: those of some 590 jets, of which 60 %
    # test.
    target = SignalEfficiency(
        epsilon=0.05, signal=CLASSES[1], background=CLASSES[0], efficiency=0.5, background_growth=0.05, form="reject"
    )
    settings = Settings(target, temperatures=False)
    sizes = (400, 600, 650, 900)
    for size, planned in zip(sizes, plan(PILOT, settings, sizes), strict=True):
        passed = np.mean([calibrate(synthetic_answers(size, seed), settings).reason is None for seed in range(10, 40)])
        assert planned.promised == pytest.approx(passed, abs=0.3)
        assert 0 < planned.promised < 1 or size in {400, 900}


def test_parts_are_tested_as_soon_as_they_have_enough_jets() -> None:
    settings = Settings(AccuracyDrop(epsilon=0.02), temperatures=False, conditions=Conditions(per_class=True))
    few, many = plan(PILOT, settings, (300, 20_000))
    assert (few.parts, few.promised, few.cost) == (0, 0.0, 1.0)
    assert (many.parts, many.promised) == (3, 1.0)


def test_what_promises_nothing_has_no_plan() -> None:
    with pytest.raises(UsageError, match="set another exit_target than 'budget'"):
        plan(PILOT, Settings(Budget(cost=0.5)))
    useless = synthetic_answers(1000, sharpness=(0.0, 0.0, 5.0))
    assert plan(useless, Settings(AccuracyDrop(epsilon=0.0001), temperatures=False)) == []
