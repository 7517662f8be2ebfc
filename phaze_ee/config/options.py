"""Every option of a configuration file: its type, its default and its meaning, stated once.

The sections are classes of their own, so that a library takes only what it uses; a configuration is all of them in one
flat namespace, as ``set_config(c)`` writes it.
"""

from phaze_ee.config.exit_rules import ExitRules
from phaze_ee.config.sections import (
    CalibrationOptions,
    DataOptions,
    ExitOptions,
    HardwareOptions,
    LoggingOptions,
    NetworkOptions,
    Section,
    TrainingOptions,
)

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


class Options(DataOptions, ExitRules, HardwareOptions, CalibrationOptions, LoggingOptions):
    """A whole configuration."""


SECTIONS: tuple[type[Section], ...] = (
    DataOptions,
    NetworkOptions,
    ExitOptions,
    TrainingOptions,
    HardwareOptions,
    CalibrationOptions,
    LoggingOptions,
)
