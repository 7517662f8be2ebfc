"""Exit policies for a project with a best model, without a calibration."""

from collections.abc import Sequence

import torch
from torch import Tensor

from phaze_ee.exits.drift import DriftReference
from phaze_ee.exits.policies import ThresholdPolicy, exit_index, temper
from phaze_ee.exits.policy_file import CalibrationSample, ExitPolicyFile, Guarantee
from phaze_ee.exits.targets import Budget
from phaze_ee.names import exit_names
from phaze_ee.workspace import Project


def write_policy(
    project: Project,
    policy: ThresholdPolicy,
    logits_ENK: Tensor | None = None,
    classes: Sequence[str] = ("is_qcd", "is_top"),
) -> None:
    """Write exit_policy.json for the project's model; its reference are jets with these logits, else random ones."""
    exits = len(policy.thresholds) + 1
    logits_ENK = torch.randn(exits, 50, len(classes)) if logits_ENK is None else logits_ENK
    logits_ENK = temper(logits_ENK, policy.temperatures)
    ExitPolicyFile(
        project=str(project),
        model="best_model.pt",
        model_hash=project.model_hash,
        classes=list(classes),
        exit_names=list(exit_names(exits)),
        score=policy.score,
        thresholds=list(policy.thresholds),
        temperatures=None if policy.temperatures is None else list(policy.temperatures),
        target=Budget(cost=0.5),
        guarantee=Guarantee(method="none", delta=0.05, holds=False, statement="nothing is promised", risks=[]),
        calibration=CalibrationSample(
            files=[], held_out_of_validation=True, jets=0, shaping=0, testing=0, seed=0, jets_per_class=None
        ),
        realised={},
        curves=[],
        reference=DriftReference.of(policy, logits_ENK, exit_index(policy, logits_ENK), classes),
        notes=[],
    ).write(project.exit_policy)
