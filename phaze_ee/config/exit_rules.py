"""Rules between options: defaults that follow from other options, and combinations that make no sense."""

from collections.abc import Iterator, Mapping
from typing import Any, Self

from pydantic import field_validator, model_validator

from phaze_ee.config.sections import ExitOptions, NetworkOptions, TrainingOptions
from phaze_ee.errors import UsageError
from phaze_ee.registry import unknown_head


def regime_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults that follow from ``freeze_backbone`` or ``training_regime``, whatever else is set."""
    at_once = {"zero_epochs": 0, "beta_schedule": "switch"}
    fields = TrainingOptions.model_fields | ExitOptions.model_fields
    regime = "freeze" if values.get("freeze_backbone") is True else values.get("training_regime", "ramp")
    epochs = values.get("epochs", fields["epochs"].default)
    whole_epochs = epochs if isinstance(epochs, int) else 0
    defaults: dict[Any, dict[str, Any]] = {
        "ramp": {"zero_epochs": min(fields["zero_epochs"].default, whole_epochs // 5)},
        "freeze": at_once,
        "joint": at_once,
        "mixed": {**at_once, "zero_epochs": whole_epochs // 2},
        "disjoint": {**at_once, "zero_epochs": whole_epochs // 2},
        "boosted": {**at_once, "exit_link": "boosted", "exit_loss_strategy": "target_flow"},
    }
    return defaults.get(regime if isinstance(regime, str) else None, {})


class ExitRules(NetworkOptions, ExitOptions, TrainingOptions):
    """The options of the network, the exits and the training, with the rules between them."""

    @model_validator(mode="before")
    @classmethod
    def _regime_sets_defaults(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {**regime_defaults(values), **values}

    @field_validator("exit_head")
    @classmethod
    def _heads_are_known(cls, value: str | list[str]) -> str | list[str]:
        for name in [value] if isinstance(value, str) else value:
            if (problem := unknown_head(name)) is not None:
                raise ValueError(problem)
        return value

    @model_validator(mode="after")
    def _exits_have_weights(self) -> Self:
        if self.exit_count is not None:
            try:
                self.weights(self.exit_count)
            except UsageError as error:
                raise ValueError(str(error)) from error
        return self

    @model_validator(mode="after")
    def _make_sense(self) -> Self:
        conflicts = (*self._without_purpose(), *self._against_the_regime(), *self._against_the_link())
        for conflict, message in conflicts:
            if conflict:
                raise ValueError(message)
        return self

    def _without_purpose(self) -> Iterator[tuple[bool, str]]:
        has_exits = self.exit_count != 0
        yield (
            has_exits and not any(self.beta_max),
            "beta_max is 0 for every exit, so no exit would learn; raise it, or set num_exit_points = 0 and "
            "beta_max = [] for a network without exits",
        )
        yield (
            self.freeze_backbone and not has_exits,
            "freeze_backbone leaves nothing to train in a network without exits; give it exits",
        )
        yield (
            self.freeze_backbone and bool(self.fresh_layers),
            f"fresh_layers = {self.fresh_layers} with freeze_backbone: they would stay at random weights; remove one",
        )
        yield (
            self.freeze_backbone and self.training_regime != "ramp",
            f"freeze_backbone trains exits alone in every epoch, which training_regime = {self.training_regime!r} "
            "does not; remove one of them",
        )
        yield (
            self.freeze_backbone and self.zero_epochs > 0,
            f"zero_epochs = {self.zero_epochs} with freeze_backbone: nothing would learn in these epochs; set it to 0",
        )
        yield (
            has_exits and self.zero_epochs >= self.epochs,
            f"zero_epochs = {self.zero_epochs} leaves no epoch of {self.epochs} to train the exits in; "
            "lower zero_epochs or raise epochs",
        )

    def _against_the_regime(self) -> Iterator[tuple[bool, str]]:
        regime, strategy = f"training_regime = {self.training_regime!r}", self.exit_loss_strategy
        two_phases = self.training_regime in ("mixed", "disjoint")
        yield (
            self.training_regime != "ramp" and self.exit_count == 0,
            f"{regime} says how exits are trained, and this network has none; give it exits, or remove the regime",
        )
        yield (
            self.training_regime in ("joint", "mixed") and strategy.endswith("_detached"),
            f"{regime} trains backbone and exits together, and exit_loss_strategy = {strategy!r} keeps the exits' "
            "gradients from the backbone; choose mimic_flow, target_flow or distill_flow",
        )
        yield (
            self.training_regime == "disjoint" and strategy.endswith("_flow"),
            f"{regime} freezes the backbone before the exits learn, and exit_loss_strategy = {strategy!r} would train "
            "it by them; choose mimic_detached, target_detached or distill_detached",
        )
        yield (
            self.training_regime == "boosted" and strategy != "target_flow",
            f"{regime} minimises the cross-entropy of boosted answers; remove exit_loss_strategy = {strategy!r}, or "
            "make it 'target_flow'",
        )
        yield (
            self.training_regime in ("joint", "boosted") and self.zero_epochs > 0,
            f"{regime} trains exits from the first epoch; remove zero_epochs = {self.zero_epochs}, or choose 'mixed'",
        )
        yield (
            two_phases and self.zero_epochs == 0,
            f"{regime} trains the backbone alone first, and zero_epochs = 0 leaves no epoch for that; make it at "
            "least 1, or choose "
            + ("'joint'" if self.training_regime == "mixed" else "freeze_backbone for a backbone that is trained"),
        )
        yield (
            self.training_regime != "ramp" and self.beta_schedule != "switch",
            f"{regime} has beta at its maximum wherever exits learn; remove beta_schedule = {self.beta_schedule!r}",
        )

    def _against_the_link(self) -> Iterator[tuple[bool, str]]:
        strategy = self.exit_loss_strategy
        yield (
            (self.training_regime == "boosted") != (self.exit_link == "boosted"),
            f"exit_link = {self.exit_link!r} with training_regime = {self.training_regime!r}: boosted exits are "
            "trained by the regime 'boosted', which needs them; set both to 'boosted', or neither",
        )
        yield (
            self.exit_link != "independent" and 0 in self.beta_max,
            f"beta_max holds a 0: that exit would never learn, and with exit_link = {self.exit_link!r} later answers "
            "build on it; raise it, or drop the exit",
        )
        yield (
            self.exit_link == "cascade" and strategy.startswith("reject_"),
            f"exit_loss_strategy = {strategy!r} trains the score of one working point, and exit_link = 'cascade' "
            "averages class probabilities; set exit_link = 'independent'",
        )
