"""The drift alarm: silent on the same distribution, loud on another, and adding up over files."""

import math
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import chi2_contingency
from torch import Tensor

from phaze_ee.errors import UsageError
from phaze_ee.exits.drift import ANSWER, EXIT, Distribution, DriftReference
from phaze_ee.exits.evidence import DriftEvidence
from phaze_ee.exits.observables import FRACTIONS, JET_PT, MULTIPLICITY, OBSERVABLES, input_observables
from phaze_ee.exits.policies import ThresholdPolicy, exit_index
from phaze_ee.prediction.drift_report import DriftReport, DriftTest, judged, no_jets_yet
from phaze_ee.prediction.writers import InputFile
from phaze_ee.types import RaggedJets

CLASSES = ("label_QCD", "label_Hbb", "label_Tbqq")
POLICY = ThresholdPolicy("confidence", [0.8, math.inf, 0.6])


def logits(jets: int, seed: int, *, scale: float = 1.0, prior: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Tensor:
    """Answers of three exits and a full model that know more and more about the class of each jet."""
    random = torch.Generator().manual_seed(seed)
    label_N = torch.multinomial(torch.tensor(prior), max(jets, 1), replacement=True, generator=random)[:jets]
    truth_NK = torch.nn.functional.one_hot(label_N, 3)
    noise_ENK = torch.randn(4, jets, 3, generator=random)
    return scale * (torch.tensor([1.0, 1.5, 2.0, 3.0]).view(-1, 1, 1) * truth_NK + noise_ENK)


def reference(logits_ENK: Tensor, policy: ThresholdPolicy = POLICY) -> DriftReference:
    return DriftReference.of(policy, logits_ENK, exit_index(policy, logits_ENK), CLASSES)


def looked(
    known: DriftReference, logits_ENK: Tensor, significance: float = 1e-3, policy: ThresholdPolicy = POLICY
) -> DriftReport:
    """The report after one look."""
    observed = known.count(policy, logits_ENK, exit_index(policy, logits_ENK))
    state = DriftEvidence.begin(known).having(observed, "a file")
    update = {"jets": observed.jets, "observed": observed, "state": state}
    tests = judged(known, observed, state, significance)
    return no_jets_yet(known).model_copy(update={**update, "tests": tests, "significance": significance})


def test_p_values_of_one_look_are_below_a_level_as_often_as_it_says() -> None:
    everything_ENK = logits(6000, seed=0)
    random = torch.Generator().manual_seed(1)
    below = 0
    for _ in range(200):
        order = torch.randperm(6000, generator=random)
        known, other_ENK = reference(everything_ENK[:, order[:3000]]), everything_ENK[:, order[3000:]]
        observed = known.count(POLICY, other_ENK, exit_index(POLICY, other_ENK))
        tests = judged(known, observed, DriftEvidence.begin(known), 0.1)
        below += any(test.p_value < 0.1 / len(tests) for test in tests)
    assert 3 <= below <= 32, "at most 10 % of 200, within three standard deviations; Bonferroni errs on the safe side"


def test_answers_that_are_less_sure_raise_an_alarm() -> None:
    report = looked(reference(logits(4000, seed=1)), logits(4000, seed=2, scale=0.9))
    assert {"exit", "confidence at exit_0"} <= {test.name for test in report.alarms}
    assert not report.only_class_prior
    change = next(test.change for test in report.tests if test.name == "confidence at exit_0")
    assert 0.3 < float(change.split("lies at ")[1].split("%")[0]) / 100 < 0.49, "less sure: lower"


def test_another_class_prior_is_told_as_such() -> None:
    separated = ThresholdPolicy("confidence", [0.8, math.inf, 0.6])
    sure_ENK, other_ENK = (8 * logits(3000, seed=3, prior=prior) for prior in ((1.0, 1.0, 1.0), (1.0, 2.0, 1.0)))
    known = reference(sure_ENK, separated)
    report = looked(known, other_ENK, policy=separated)
    assert ANSWER in {test.name for test in report.alarms}
    assert report.only_class_prior
    assert "label_Hbb" in next(test.change for test in report.alarms if test.name == ANSWER)


def test_what_stands_behind_the_exit_of_a_jet_is_not_looked_at() -> None:
    logits_ENK = logits(500, seed=4)
    index_N = exit_index(POLICY, logits_ENK)
    visited_ENK = logits_ENK.clone()
    visited_ENK[torch.arange(4)[:, None] > index_N] = math.nan
    visited_ENK[1, index_N != 1] = math.nan  # not offered, not evaluated
    assert DriftReference.of(POLICY, visited_ENK, index_N, CLASSES) == reference(logits_ENK)


def test_files_add_up() -> None:
    logits_ENK = logits(700, seed=5)
    known = reference(logits_ENK)
    parts = [logits_ENK[:, :300], logits_ENK[:, 300:300], logits_ENK[:, 300:]]
    first, *others = (known.count(POLICY, part, exit_index(POLICY, part)) for part in parts)
    assert sum(others, start=first) == known
    assert known.jets == 700


@pytest.mark.parametrize("together", [True, False])
def test_files_of_one_class_each_are_no_change_if_they_come_together(*, together: bool) -> None:
    known, other_ENK = reference(logits(4000, seed=1)), logits(4000, seed=2)
    answer_N = other_ENK[-1].argmax(dim=1)
    files = [manifest(known, other_ENK[:, answer_N == label], f"{label}.root") for label in range(3)]
    report = no_jets_yet(known)
    for some in [files] if together else [[file] for file in files]:
        report = report.having(known, some, 1e-3)
    assert report.jets == 4000
    assert [file.path for file in report.files] == ["0.root", "1.root", "2.root"]
    assert bool(report.alarms) is not together
    assert report.having(known, files, 1e-3) == report, "files that come again count once"


def manifest(known: DriftReference, logits_ENK: Tensor, name: str) -> Any:
    drift = known.count(POLICY, logits_ENK, exit_index(POLICY, logits_ENK))
    return SimpleNamespace(drift=drift, input=InputFile(path=name, size=1, changed_ns=0))


def test_each_distribution_counts_what_its_name_says() -> None:
    logits_ENK = torch.zeros(4, 6, 3)
    for jet, (left, answer) in enumerate([(0, 0), (0, 0), (2, 0), (2, 1), (3, 1), (3, 2)]):
        logits_ENK[left, jet, answer] = 9.0
    found = reference(logits_ENK).distributions
    assert {name: own.counts for name, own in found.items() if own.labels} == {
        EXIT: [2, 0, 2, 2],
        ANSWER: [3, 2, 1],
        "exit of label_QCD": [2, 0, 1, 0],
        "exit of label_Hbb": [0, 0, 1, 1],
        "exit of label_Tbqq": [0, 0, 0, 1],
    }
    assert sum(found["confidence at exit_0"].counts) == 6
    assert sum(found["confidence at exit_2"].counts) == 4, "two jets left before"
    assert "confidence at exit_1" not in found, "no jet leaves there"
    many = reference(logits(20_000, seed=6)).distributions["score of label_Hbb"].counts
    assert len(many) == 20
    assert min(many) == max(many) == 1000


@pytest.mark.parametrize(
    "wrong",
    [{"edges": [2.0, 1.0]}, {"counts": [1, 2]}, {"labels": ["a"]}, {"counts": [1, 2, -3]}],
    ids=str,
)
def test_histograms_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    fields = {"edges": [1.0, 2.0], "counts": [1, 2, 3], "labels": []}
    assert Distribution.model_validate(fields).counts == [1, 2, 3]
    with pytest.raises(ValidationError, match=r"fit|rise|greater"):
        Distribution.model_validate(fields | wrong)


def test_it_can_be_stored() -> None:
    known = reference(logits(300, seed=6))
    assert DriftReference.model_validate_json(known.model_dump_json()) == known
    report = looked(known, logits(300, seed=7))
    assert DriftReport.model_validate_json(report.model_dump_json()) == report


def test_a_score_that_most_jets_share_is_stable_under_rounding() -> None:
    logits_ENK = 30 * logits(2000, seed=8)
    moved_ENK = logits_ENK * (1 + 1e-6)
    assert not looked(reference(logits_ENK), moved_ENK, 0.5).alarms


@pytest.mark.parametrize("jets", [0, 1, 15])
def test_too_few_jets_are_no_ground_for_an_alarm(jets: int) -> None:
    known = reference(logits(2000, seed=9))
    report = looked(known, logits(jets, seed=10))
    assert report.jets == jets
    assert not report.alarms
    assert all(test.p_value == 1 for test in looked(known, logits(jets, seed=10, scale=0.1)).tests)
    assert looked(reference(logits(jets, seed=10)), logits(100, seed=11)).reference_jets == jets


def test_a_policy_that_offers_no_exit() -> None:
    none = ThresholdPolicy("confidence", [math.inf] * 3)
    known = reference(logits(500, seed=12), none)
    assert known.distributions[EXIT].counts == [0, 0, 0, 500]
    assert not any(" at exit_" in name for name in known.distributions)
    assert np.sum(known.distributions[ANSWER].counts) == 500


def momenta(*pt: float) -> Tensor:
    return torch.tensor([[value, 0.0, 0.0, value] for value in pt])


def test_the_observables_of_the_inputs() -> None:
    count_N = torch.tensor([4, 0, 1])
    vectors_V4 = momenta(1.0, 5.0, 2.0, 2.0, 3.0)
    vectors_V4[1] = torch.tensor([0.0, 5.0, 0.0, 5.0])
    jets = RaggedJets(torch.zeros(5, 2), torch.zeros(5, 1), vectors_V4, count_N)
    seen = input_observables(jets)
    assert list(seen) == list(OBSERVABLES)
    assert seen[MULTIPLICITY].tolist() == [4, 0, 1]
    assert seen[JET_PT].tolist() == pytest.approx([50**0.5, 0, 3])
    fractions = [seen[name].tolist() for name in FRACTIONS]
    assert fractions == [[0.5, 0, 1], [0.2, 0, 0], [0.2, 0, 0]]
    padded = input_observables(jets.padded())
    assert {name: value_N.tolist() for name, value_N in padded.items()} == {
        name: value_N.tolist() for name, value_N in seen.items()
    }
    assert list(input_observables(jets.without_vectors())) == [MULTIPLICITY]


def test_inputs_have_half_of_the_significance() -> None:
    logits_ENK = logits(600, seed=13)
    inputs = {MULTIPLICITY: torch.arange(600) % 50}
    known = DriftReference.of(POLICY, logits_ENK, exit_index(POLICY, logits_ENK), CLASSES, inputs)
    assert known.untested == [JET_PT, *FRACTIONS]
    other = known.count(POLICY, logits_ENK, exit_index(POLICY, logits_ENK), {MULTIPLICITY: inputs[MULTIPLICITY] + 10})
    tests = judged(known, other, DriftEvidence.begin(known).having(other, "a file"), 0.02)
    assert [test.name for test in tests if test.alarm] == [MULTIPLICITY]
    assert sum(test.share for test in tests) == pytest.approx(0.02)
    assert {test.name: test.share for test in tests}[MULTIPLICITY] == 0.01
    with pytest.raises(UsageError, match=r"does not fit the policy \('multiplicity'\)"):
        known.count(POLICY, logits_ENK, exit_index(POLICY, logits_ENK))


def test_counts_that_no_sample_has_are_refused() -> None:
    known = reference(logits(100, seed=1))
    content = known.model_dump()
    content["distributions"]["exit"]["counts"][0] = 2**60
    with pytest.raises(ValidationError, match="less than or equal to"):
        DriftReference.model_validate(content)


def test_billions_of_jets() -> None:
    known = reference(logits(4000, seed=1))
    content = known.model_dump()
    for own in content["distributions"].values():
        own["counts"] = [count * 10**10 for count in own["counts"]]
    many = DriftReference.model_validate(content)
    evidence = DriftEvidence.begin(many).having(many, "jets.root").evidence
    assert all(math.isfinite(value) and value < 0 for value in evidence.values())


def test_histograms_of_others_are_refused() -> None:
    logits_ENK = logits(300, seed=1)
    rest = {name: own for name, own in reference(logits_ENK).distributions.items() if name != EXIT}
    partial = DriftReference(distributions=rest)
    assert no_jets_yet(partial).reference_jets == 0
    with pytest.raises(UsageError, match=r"does not fit the policy \('exit'\); run mode 'calibrate'"):
        partial.count(POLICY, logits_ENK, exit_index(POLICY, logits_ENK))
    other = SimpleNamespace(input=InputFile(path="a.root", size=1, changed_ns=0), drift=reference(logits(300, seed=2)))
    with pytest.raises(UsageError, match=r"a.root have other histograms than the policy; run again with --overwrite"):
        no_jets_yet(reference(logits(20, seed=3))).having(reference(logits(20, seed=3)), [cast(Any, other)], 1e-3)


def compared(before: list[int], after: list[int], labels: str = "") -> DriftTest:
    """Return the test of one histogram, whose bins may have letters as labels."""
    known, other = (
        reference(logits(300, seed=1)).model_copy(
            update={
                "distributions": {
                    EXIT: Distribution(edges=list(range(len(counts) - 1)), counts=counts, labels=list(labels))
                }
            }
        )
        for counts in (before, after)
    )
    (test,) = judged(known, other, DriftEvidence.begin(known), 0.1)
    return test


def test_bins_with_few_jets_are_counted_with_their_neighbours() -> None:
    test = compared([3, 40, 60, 4, 5], [2, 50, 45, 3, 4])
    expected = chi2_contingency([[43, 69], [52, 52]], correction=False)
    assert test.degrees_of_freedom == 1
    assert (test.chi_square, test.p_value) == pytest.approx((expected.statistic, expected.pvalue))
    few = compared([3, 4], [2, 5])
    assert (few.chi_square, few.degrees_of_freedom, few.p_value) == (0, 0, 1)


def test_the_three_categories_that_moved_most_are_named() -> None:
    test = compared([4000, 3000, 2000, 900, 100], [4000, 3100, 1800, 850, 250], "abcde")
    assert test.change == "e 1.00% → 2.50%, c 20.00% → 18.00%, b 30.00% → 31.00%", "in errors, largest first"
    assert compared([100, 200, 100], [100, 190, 110], "abc").change == "c 25.00% → 27.50%, b 50.00% → 47.50%"
    assert compared([100, 100], [50, 150]).change.startswith("the mean jet lies at 62.5% of the reference")
