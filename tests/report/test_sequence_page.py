"""The sequence that the calibration tested, on the report page: slider, limits and words."""

import json
from dataclasses import replace
from typing import Any

import pytest

from phaze_ee.report.page import project_page
from tests.report.pages import (
    PRIOR,
    Reader,
    content,
    of_policy,
    text_of,
    with_sequence,
)


def test_the_slider_moves_along_the_tested_sequence_whatever_the_score() -> None:
    page = project_page(with_sequence())
    blocks = Reader(page).blocks
    data = json.loads(blocks["slider-data"])
    assert [point["share"] for point in data["points"]] == [0.2, 0.3, 0.4, 0.6, 1.0]
    assert data["policy"] == 2
    fastest, _, own, safer, full = (dict(point["texts"]) for point in data["points"])
    assert own["signal lost, limit 2 %"] == "1.40 ± 0.10 % (calibration jets: at most 1.9 %)"
    assert fastest["signal lost, limit 2 %"].startswith("5.00 ± 0.10 %")
    assert safer["cost"] == (
        "6.0 % for 99.9 % QCD, 0.1 % Hbb; 60.0 % of the full model's MACs for the mix of the test jets"
    )
    assert full["thresholds"] == "never, never, never"
    assert "QCD rejection at 50 % Hbb" in own
    kinds = [point["kind"] for point in data["points"]]
    assert ["promises nothing" in kind for kind in kinds] == [True, True, False, False, False]
    assert kinds[2] == "This is the policy."
    assert "same promise" in kinds[3]
    text = text_of(page)
    assert "There is no slider" not in text
    assert "The policy is not on the curves." not in text


def test_the_promised_limit_is_drawn_beside_what_is_lost() -> None:
    blocks = Reader(project_page(with_sequence())).blocks
    series = {one["name"]: one["points"] for one in json.loads(blocks["risk-0-data"])["series"]}
    assert [y for _, y, _ in series["promised limit"]] == [0.02, 0.02]
    assert [y for _, y, _ in series["on the test jets"]] == [0.0, 0.01, 0.014, 0.021, 0.05]
    assert [y for _, y, _ in series["upper limit from the calibration jets"]] == pytest.approx(
        [0.005, 0.015, 0.019, 0.026, 0.055]
    )
    assert series["policy"] == [[pytest.approx(0.04), 0.014, 0.001]]  # the cost for the class prior
    slider = json.loads(blocks["slider-data"])["points"]
    assert [x for x, _, _ in series["on the test jets"]] == [point["cost"] for point in reversed(slider)]
    assert json.loads(blocks["risk-0-data"])["x"]["title"].endswith("for 99.9 % QCD, 0.1 % Hbb")
    tradeoff = {one["name"]: one["points"] for one in json.loads(blocks["tradeoff-chart-data"])["series"]}
    assert len(tradeoff["sequence of the calibration"]) == 5
    assert "risk-0-data" not in Reader(project_page(content())).blocks


def test_the_words_of_the_promise_are_explained() -> None:
    given = with_sequence()
    assert given.promise is not None
    promise = replace(given.promise, statement="of the label_Hbb at most 0.02 is lost", confidence=0.9)
    text = text_of(project_page(replace(given, promise=promise)))
    assert "of the Hbb at most 0.02 is lost" in text
    assert "Confidence 0.9: at most 10 % of such calibrations break their promise." in text
    assert "Signal lost: signal jets that the full model accepts and the policy does not" in text
    assert "threshold at exit 1" in text


def test_of_many_risks_those_for_all_jets_and_the_nearest_to_their_limits_are_drawn() -> None:
    given = with_sequence()
    assert given.results is not None
    assert given.results.dynamic is not None
    dynamic = given.results.dynamic
    (whole,) = dynamic.policy.risks
    limits = {"signal lost": 0.001, **{f"signal lost, jet_pt {part}": 0.01 + 0.001 * part for part in range(5)}}
    risks = [whole.model_copy(update={"name": name}) for name in reversed(limits)]
    policy = dynamic.policy.model_copy(update={"risks": risks})
    sequence = [step.model_copy(update={"risks": risks, "upper_limits": limits}) for step in dynamic.sequence]
    blocks = Reader(project_page(of_policy(policy=policy, sequence=sequence, prior=PRIOR))).blocks
    titles = [json.loads(blocks[f"risk-{number}-data"])["title"] for number in range(4)]
    assert titles == ["Signal lost against cost", *(f"Signal lost, jet_pt {part} against cost" for part in (4, 3, 2))]
    assert "risk-4-data" not in blocks


def test_the_page_says_how_the_sequence_was_tested() -> None:
    given = with_sequence()
    assert given.results is not None
    assert given.results.dynamic is not None
    steps = given.results.dynamic.sequence

    def said(**changes: list[Any]) -> str:
        changed = [
            step.model_copy(update={name: values[place] for name, values in changes.items()})
            for place, step in enumerate(steps)
        ]
        return text_of(project_page(of_policy(sequence=changed, prior=PRIOR)))

    assert "The policy is the last that passed." in said()
    assert "The policy is one that passed, but not the last." in said(is_policy=[False, True, False, False, False])
    first = [True, False, False, False, False]
    text = said(is_policy=first, passed=first)
    assert "None passed, so the policy is the full model." in text
    text = said(upper_limits=[{}] * 5, passed=first)
    assert "among which the calibration chose; no jet tested them." in text
    kinds = json.loads(Reader(project_page(with_sequence())).blocks["slider-data"])["points"][0]["kind"]
    assert "did not pass its test" in kinds


def test_a_sequence_without_the_policy_that_is_shown_is_not_used() -> None:
    given = with_sequence()
    assert given.results is not None
    assert given.results.dynamic is not None
    dynamic = given.results.dynamic
    others = [step.model_copy(update={"is_policy": False}) for step in dynamic.sequence]
    for sequence in (others, dynamic.sequence[2:3]):
        changed = replace(given.results, dynamic=dynamic.model_copy(update={"sequence": sequence}))
        text = text_of(project_page(replace(given, results=changed)))
        assert "There is no slider" in text
