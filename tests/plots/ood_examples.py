"""Made-up results on jets of another kind, for tests of figures, tables and of the modes that show them."""

from collections.abc import Sequence

from phaze_ee.results.ood import OODDetection, OODPolicy, OODResults
from phaze_ee.results.policy import Fraction
from tests.plots.examples import EXITS

SCORES = ("energy", "max_probability", "disagreement", "disagreement_so_far")


def found(auroc: float) -> OODDetection:
    return OODDetection(
        auroc=auroc, auroc_error=0.00751, mean=0.1, edges=[-1, 0, 1], counts=[600, 400], ood_counts=[50, 150]
    )


def ood_results(exits: Sequence[str] = EXITS, policy: bool = True) -> OODResults:
    """Return results of all scores; the first exit has no earlier one, and a policy knows but two scores."""
    areas = {name: {score: found(0.6 + 0.05 * index) for score in SCORES} for index, name in enumerate(exits)}
    del areas[exits[0]]["disagreement_so_far"]
    shares = {name: Fraction(value=1 / len(exits), error=0.01, jets=1000) for name in exits}
    mixed = {name: found(0.7) for name in SCORES[:2]}
    return OODResults(
        project="W/mine",
        model="best_model.pt",
        model_hash=None,
        jets=1_000,
        files=["test.root"],
        ood_jets=200,
        ood_files=["other.root"],
        exits=areas,
        policy=OODPolicy(score="confidence", exits=shares, ood_exits=shares, scores=mixed) if policy else None,
        notes=[],
    )
