"""Options of exits that depend on each other: what follows from a regime, and what is refused with a reason."""

from typing import Any

import pytest
from pydantic import ValidationError

from phaze_ee.config.options import Options

FILES: dict[str, Any] = {"train_files": ["a.root"], "val_files": ["b.root"]}
FLOW: dict[str, Any] = {"exit_loss_strategy": "target_flow"}


def options(**values: Any) -> Options:
    return Options.model_validate({**FILES, **values})


@pytest.mark.parametrize(
    ("values", "zero_epochs", "schedule"),
    [
        ({"epochs": 20}, 4, "linear"),
        ({"epochs": 20, "training_regime": "joint", **FLOW}, 0, "switch"),
        ({"epochs": 20, "training_regime": "mixed", **FLOW}, 10, "switch"),
        ({"training_regime": "mixed", **FLOW}, 25, "switch"),
        ({"epochs": 20, "training_regime": "mixed", "zero_epochs": 3, **FLOW}, 3, "switch"),
        ({"epochs": 21, "training_regime": "disjoint"}, 10, "switch"),
        ({"epochs": 20, "training_regime": "boosted"}, 0, "switch"),
    ],
)
def test_a_regime_says_when_exits_learn(values: dict[str, Any], zero_epochs: int, schedule: str) -> None:
    read = options(**values)
    assert (read.zero_epochs, read.beta_schedule) == (zero_epochs, schedule)


def test_the_boosted_regime_brings_its_link_and_its_loss() -> None:
    read = options(training_regime="boosted")
    assert (read.exit_link, read.exit_loss_strategy) == ("boosted", "target_flow")


@pytest.mark.parametrize(("values", "frozen"), [({}, False), ({"freeze_backbone": True}, True)])
def test_whether_the_backbone_ends_frozen(values: dict[str, Any], frozen: bool) -> None:
    assert options(**values).ends_frozen is frozen
    assert options(training_regime="disjoint").ends_frozen


DETACHED = ["mimic_detached", "target_detached", "distill_detached"]
REFUSED = [
    *(({"training_regime": regime, "exit_loss_strategy": name}, f"{name}' keeps the exits' gradients")
      for regime in ("joint", "mixed") for name in DETACHED),
    ({"training_regime": "joint"}, "choose mimic_flow, target_flow or distill_flow"),
    *(({"training_regime": "disjoint", "exit_loss_strategy": name}, "freezes the backbone before the exits learn")
      for name in ("mimic_flow", "target_flow", "distill_flow")),
    *(({"training_regime": "boosted", "exit_loss_strategy": name}, "cross-entropy of boosted answers")
      for name in ("target_detached", "distill_flow", "mimic_flow")),
    *(({"training_regime": name, "freeze_backbone": True, **FLOW}, "freeze_backbone trains exits alone")
      for name in ("joint", "mixed", "disjoint", "boosted")),
    *(({"training_regime": name, "num_exit_points": 0, "beta_max": [], **FLOW}, "this network has none")
      for name in ("joint", "mixed", "disjoint", "boosted")),
    ({"freeze_backbone": True, "fresh_layers": ["mod.fc"]}, "they would stay at random weights; remove one"),
    ({"training_regime": "boosted", "exit_link": "cascade"}, "set both to 'boosted', or neither"),
    ({"training_regime": "boosted", "exit_link": "independent"}, "set both to 'boosted', or neither"),
    ({"exit_link": "boosted"}, "boosted exits are trained by the regime 'boosted'"),
    ({"training_regime": "joint", "exit_link": "boosted", **FLOW}, "boosted exits are trained by the regime"),
    ({"freeze_backbone": True, "exit_link": "boosted"}, "boosted exits are trained by the regime"),
    ({"training_regime": "joint", "zero_epochs": 2, **FLOW}, "exits from the first epoch; remove zero_epochs = 2"),
    ({"training_regime": "boosted", "zero_epochs": 2}, "trains exits from the first epoch; remove zero_epochs = 2"),
    ({"training_regime": "mixed", "zero_epochs": 0, **FLOW}, "at least 1, or choose 'joint'"),
    ({"training_regime": "disjoint", "zero_epochs": 0}, "at least 1, or choose freeze_backbone"),
    ({"training_regime": "disjoint", "epochs": 1}, "zero_epochs = 0 leaves no epoch for that"),
    ({"training_regime": "mixed", "epochs": 4, "zero_epochs": 4, **FLOW}, "leaves no epoch of 4 to train the exits in"),
    *(({"training_regime": name, "beta_schedule": "linear", **FLOW}, "remove beta_schedule = 'linear'")
      for name in ("joint", "mixed", "boosted")),
    ({"training_regime": "disjoint", "beta_schedule": "cosine"}, "remove beta_schedule = 'cosine'"),
    ({"training_regime": "boosted", "beta_max": [1, 0, 1]}, "later answers build on it"),
    ({"exit_link": "cascade", "beta_max": [1, 0, 1]}, "later answers build on it"),
    *(({"exit_link": "cascade", "exit_loss_strategy": f"reject_{way}"}, "set exit_link = 'independent'")
      for way in ("detached", "flow")),
]  # fmt: skip


@pytest.mark.parametrize(("values", "reason"), REFUSED, ids=str)
def test_combinations_that_make_no_sense_are_refused_with_a_reason(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError) as caught:
        options(**values)
    message = caught.value.errors()[0]["msg"]
    assert reason in message
    assert "\n" not in message


@pytest.mark.parametrize("regime", ["ramp", "joint", "mixed", "disjoint"])
def test_a_cascade_goes_with_every_regime_but_the_boosted(regime: str) -> None:
    strategy = "target_flow" if regime in ("joint", "mixed") else "target_detached"
    assert options(training_regime=regime, exit_link="cascade", exit_loss_strategy=strategy).exit_link == "cascade"


@pytest.mark.parametrize("regime", ["joint", "mixed", "disjoint", "boosted"])
def test_the_schedule_that_a_regime_has_may_be_written_out(regime: str) -> None:
    strategy = {} if regime == "disjoint" else FLOW
    assert options(training_regime=regime, beta_schedule="switch", **strategy).training_regime == regime


@pytest.mark.parametrize("value", ["jointly", None, 3, ["joint"]])
def test_an_unknown_regime_is_refused(value: Any) -> None:
    with pytest.raises(ValidationError, match="training_regime"):
        options(training_regime=value)
