"""Every option of a configuration file: its type, its default and its meaning, stated once.

The sections are classes of their own, so that a library takes only what it uses; a configuration is all of them in one
flat namespace, as ``set_config(c)`` writes it.
"""

from typing import Any, Self

from pydantic import model_validator

from phaze_ee.config.sections.base import Section
from phaze_ee.config.sections.calibration import CalibrationOptions
from phaze_ee.config.sections.data import DataOptions
from phaze_ee.config.sections.exits import ExitOptions
from phaze_ee.config.sections.hardware import HardwareOptions
from phaze_ee.config.sections.logs import LoggingOptions
from phaze_ee.config.sections.network import NetworkOptions
from phaze_ee.config.sections.training import TrainingOptions
from phaze_ee.errors import UsageError

__all__ = [
    "SECTIONS",
    "CalibrationOptions",
    "DataOptions",
    "ExitOptions",
    "HardwareOptions",
    "LoggingOptions",
    "NetworkOptions",
    "Options",
    "Section",
    "TrainingOptions",
]


class Options(
    DataOptions, NetworkOptions, ExitOptions, TrainingOptions, HardwareOptions, CalibrationOptions, LoggingOptions
):
    """A whole configuration."""

    @model_validator(mode="after")
    def _exits_have_weights(self) -> Self:
        if self.exit_count is not None:
            try:
                self.weights(self.exit_count)
            except UsageError as error:
                raise ValueError(str(error)) from error
        return self

    @model_validator(mode="before")
    @classmethod
    def _exits_start_in_time(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if values.get("freeze_backbone") is True:
            return {"zero_epochs": 0, "beta_schedule": "switch", **values}
        epochs = values.get("epochs")
        if not isinstance(epochs, int):
            return values
        return {"zero_epochs": min(cls.model_fields["zero_epochs"].default, epochs // 5), **values}

    @model_validator(mode="after")
    def _exits_get_trained(self) -> Self:
        if self.exit_count != 0 and not any(self.beta_max):
            raise ValueError(
                "beta_max is 0 for every exit, so that none would learn; raise it, or set num_exit_points = 0 and "
                "beta_max = [] for a network without exits"
            )
        if self.exit_count != 0 and self.zero_epochs >= self.epochs:
            raise ValueError(
                f"zero_epochs = {self.zero_epochs} leaves no epoch of {self.epochs} to train the exits in; "
                "lower zero_epochs or raise epochs"
            )
        return self

    @model_validator(mode="after")
    def _something_learns(self) -> Self:
        if self.freeze_backbone and self.exit_count == 0:
            raise ValueError("freeze_backbone leaves nothing to train in a network without exits; give it exits")
        if self.freeze_backbone and self.zero_epochs:
            raise ValueError(
                f"zero_epochs = {self.zero_epochs} with freeze_backbone: nothing would learn then; set it to 0"
            )
        return self


SECTIONS: tuple[type[Section], ...] = (
    DataOptions,
    NetworkOptions,
    ExitOptions,
    TrainingOptions,
    HardwareOptions,
    CalibrationOptions,
    LoggingOptions,
)
