"""What a sweep maximises.

Objectives are accuracies on the validation jets at the best epoch of the training. Test jets, which ``evaluate`` and
``compare`` use, must not choose a trial: its accuracy on them would be biased.
"""

import re
from dataclasses import dataclass
from statistics import fmean

from phaze_ee.errors import UsageError
from phaze_ee.models.checkpoint import load_checkpoint
from phaze_ee.names import FULL_MODEL
from phaze_ee.results.benchmark import BenchmarkResults
from phaze_ee.workspace import Project

_MACS = re.compile(r"(\d+(?:\.\d+)?)([kMG])")
_UNITS = {"k": 1e3, "M": 1e6, "G": 1e9}


@dataclass(frozen=True)
class Objective:
    """An objective by its name.

    ``full_model``: the accuracy of the full model. ``exits``: the mean accuracy of all exits and the full model. A
    number of MACs (``50M``): the accuracy of the best exit that costs at most this, 0 if there is none; it compares
    networks of different sizes at the same cost.
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in (FULL_MODEL, "exits") and self._most_macs <= 0:
            raise UsageError(f"--objective {self.name!r} is neither {FULL_MODEL} nor exits nor MACs (500k, 50M, 1.5G)")

    @property
    def described(self) -> str:
        """The objective in words."""
        if self.name == FULL_MODEL:
            return "by the validation accuracy of the full model"
        if self.name == "exits":
            return "by the mean validation accuracy of exits and full model"
        return f"by the validation accuracy of the best exit of at most {self.name} MACs"

    @property
    def _most_macs(self) -> float:
        match = _MACS.fullmatch(self.name)
        return float(match[1]) * _UNITS[match[2]] if match else 0.0

    def of(self, project: Project) -> float:
        """Return the objective of a trained, evaluated and benchmarked project.

        Raises:
            CheckpointError: its best model cannot be read.
            UsageError: its benchmark cannot be read.
        """
        checkpoint = load_checkpoint(project.best_model)
        accuracies = {name: checkpoint.metrics[f"val/accuracy/{name}"] for name in checkpoint.tagger.exit_names}
        if self.name == FULL_MODEL:
            return accuracies[FULL_MODEL]
        if self.name == "exits":
            return fmean(accuracies.values())
        costs = BenchmarkResults.read(project.benchmark_results, made_by="benchmark").exits
        affordable = [accuracies[name] for name, cost in costs.items() if cost.macs <= self._most_macs]
        return max(affordable, default=0.0)
