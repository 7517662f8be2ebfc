"""A whole configuration: all sections in one flat namespace, as ``set_config(c)`` sets them.

A function that uses the options of one section takes that section only.
"""

from phaze_ee.config.data_section import DataOptions
from phaze_ee.config.exit_rules import ExitRules
from phaze_ee.config.logging_section import LoggingOptions
from phaze_ee.config.sections import (
    CalibrationOptions,
    ExitOptions,
    HardwareOptions,
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
