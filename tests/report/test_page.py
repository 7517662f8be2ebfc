"""The report page: complete, self-contained, and harmless whatever the names in it are."""

import json
import re
from dataclasses import replace
from math import inf

import pytest

from phaze_ee.report.content import Content
from phaze_ee.report.page import comparison_page, project_page
from phaze_ee.report.slider import thresholds_text
from tests.plots.dynamic_examples import mass_audit
from tests.plots.examples import with_targets
from tests.report.pages import (
    EVIL,
    PRIOR,
    Reader,
    command,
    content,
    of_policy,
    text_of,
    tile_texts,
)


@pytest.mark.parametrize("evil", ["", EVIL])
def test_a_page_is_whole_and_loads_nothing(evil: str) -> None:
    page = project_page(content(evil))
    reader = Reader(page)
    assert len(page) < 5_000_000
    assert len(reader.ids) == len(set(reader.ids))
    chapters = [attributes["id"] for tag, attributes in reader.tags if attributes.get("class") == "chapter"]
    assert chapters == ["promise", "physics", "model", "deployment", "dataset"]
    links = {value[1:] for _, attributes in reader.tags if (value := attributes.get("href"))}
    assert links == set(chapters)
    assert not any("src" in attributes for _, attributes in reader.tags)
    assert {"img", "link", "iframe", "object"}.isdisjoint(tag for tag, _ in reader.tags)
    assert reader.count("script") == len(reader.blocks) + 1
    assert not re.search(r"url\(|@import|fetch\(|eval\(", page)


def test_names_are_text_everywhere() -> None:
    page = project_page(content(EVIL))
    reader = Reader(page)
    assert "<script>alert" not in page
    assert all(json.loads(block) for block in reader.blocks.values())
    text = "".join(reader.text)
    for words in (f"W/mine{EVIL}", f"all jets{EVIL}", f"as {EVIL}", f"c.background = '{EVIL}'", f"the times{EVIL}"):
        assert words in text
    assert f"{EVIL} against QCD" in "".join(json.loads(block).get("title", "") for block in reader.blocks.values())


def test_the_policy_lets_only_the_script_of_the_page_run() -> None:
    page = project_page(content())
    policy = next(attributes["content"] for _, attributes in Reader(page).tags if "http-equiv" in attributes)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "'unsafe-inline'" not in policy.partition("script-src")[2]


def test_the_slider_has_the_stored_points_and_starts_at_the_policy() -> None:
    data = json.loads(Reader(project_page(content())).blocks["slider-data"])
    assert [point["share"] for point in data["points"]] == pytest.approx([0.1, 0.3, 0.4, 0.9])
    assert data["policy"] == 2
    assert dict(data["points"][2]["texts"])["thresholds"] == "0.5, 0.6, 0.7"
    assert dict(data["points"][0]["texts"])["QCD rejection at 50 % Hbb"] == "620 ± 62"
    assert dict(data["points"][2]["texts"])["QCD rejection at 50 % Hcc"] == "> 500 (68 %)"


def test_charts_hold_the_results() -> None:
    blocks = Reader(project_page(content())).blocks
    series = {one["name"]: one["points"] for one in json.loads(blocks["tradeoff-chart-data"])["series"]}
    assert series["policy"] == [[pytest.approx(0.4), 0.77, 0.004]]
    assert [point[1] for point in series["confidence"]] == pytest.approx([0.62, 0.66, 0.78])
    titles = [json.loads(block)["title"] for name, block in blocks.items() if name.startswith("training")]
    assert titles[0] == "Cross-entropy"
    assert titles[1].startswith("Exit loss")


def test_what_is_missing_names_the_mode_that_makes_it() -> None:
    page = project_page(Content(title="W/mine", command=command, left_out=["no results yet"]))
    text = "".join(Reader(page).text)
    for mode in ("calibrate", "train", "place", "benchmark", "export", "evaluate --ood", "chain"):
        assert f"phaze_ee -m {mode}".split(" --")[0] in text
    assert "no results yet" in text
    assert "figure" not in [tag for tag, _ in Reader(page).tags]


def test_a_promise_that_failed_is_not_shown_as_one() -> None:
    given = content()
    assert given.promise is not None
    page = project_page(replace(given, promise=replace(given.promise, holds=False)))
    assert 'class="promise"' not in page
    assert "Nothing is promised" in page


def test_shapes_of_few_jets_are_not_drawn() -> None:
    given = content()
    assert given.results is not None
    dynamic = given.results.dynamic
    assert dynamic is not None
    assert dynamic.mass is not None
    bins = len(dynamic.mass.edges) - 1
    few = dynamic.mass.mixture.model_copy(update={"jets": 9, "counts": [9, *[0] * (bins - 1)]})
    mass = dynamic.mass.model_copy(update={"mixture": few})
    results = replace(given.results, dynamic=dynamic.model_copy(update={"mass": mass}))
    reader = Reader(project_page(replace(given, results=results)))
    names = [one["name"] for one in json.loads(reader.blocks["mass-chart-data"])["series"]]
    assert names == ["before the cut", "full model"]
    text = "".join(reader.text)
    assert "Not drawn, since fewer than 10 jets pass: policy." in text
    assert "policy9---" in text


def test_a_comparison_has_the_promise_of_each_project_first() -> None:
    first, second = content(), replace(content(EVIL), promise=None)
    page = comparison_page("mine and other", [first, second])
    reader = Reader(page)
    assert reader.ids.index("promises") < reader.ids.index("comparison")
    assert "<script>alert" not in page
    names = [one["name"] for one in json.loads(reader.blocks["comparison-chart-data"])["series"]]
    assert names == ["mine, exits", "mine, policy", f"mine{EVIL}, exits", f"mine{EVIL}, policy"]
    assert "nothing is promised" in "".join(reader.text)
    points = {one["name"]: one["points"] for one in json.loads(reader.blocks["policies-chart-data"])["series"]}
    assert [len(points[f"mine, {name}"]) for name in ("confidence", "policy")] == [4, 1]


def test_bins_of_confidence_with_few_jets_are_not_drawn() -> None:
    found = json.loads(Reader(project_page(content())).blocks["reliability-chart-data"])
    points = {one["name"]: one["points"] for one in found["series"]}
    assert [x for x, _, _ in points["exit 0"]] == [0.6, 0.9]
    assert points["exit 0"][0][1:] == [pytest.approx(0.5), pytest.approx((0.25 / 600) ** 0.5)]
    assert points["calibrated"] == [[0.6, 0.6, 0], [0.9, 0.9, 0]]


def test_thresholds_where_no_jet_leaves() -> None:
    assert thresholds_text([0.5, inf, -inf]) == "0.5, never, -inf"


def test_the_policy_is_shown_in_three_figures_and_where_its_time_was_measured() -> None:
    text = text_of(project_page(content()))
    assert "40.0 %of the full model's MACs" in text
    assert "2.50 ×the full model's jets/s, for the mix of the test jets, in batches of 256 jets on Epyc 1 (cpu)" in text


def test_recommended_exits_are_in_the_chart_of_placements() -> None:
    found = json.loads(Reader(project_page(content())).blocks["placement-chart-data"])
    points = {one["name"]: one["points"] for one in found["series"]}
    assert points["recommended"] == [pytest.approx((0.1 + 0.8 * 2 / 3, 0.59, 0.004))]
    assert len(points["1 exit"]) == 3


def test_tiles_are_of_the_class_prior_first_and_name_both_mixes() -> None:
    cost, _, accuracy, lost = tile_texts(project_page(of_policy(prior=PRIOR)))
    assert cost == (
        "6.00 ± 0.30 %: of the full model&#x27;s MACs, for 99.9 % QCD, 0.1 % Hbb; 40.0 % for the mix of the test jets"
    )
    assert accuracy.startswith("90.00 ± 0.40 %: accuracy, for 99.9 % QCD, 0.1 % Hbb (full model 91.0 %); 77.00")
    assert lost.startswith("1.00 ± 0.20 %")
    assert "for the mix of the test jets; 1.00 % below for 99.9 % QCD" in lost


def test_a_policy_that_is_better_is_above_the_full_model() -> None:
    given = of_policy()
    assert given.results is not None
    assert given.results.dynamic is not None
    policy = given.results.dynamic.policy.model_copy(update={"accuracy_drop": -0.01})
    *_, gained = tile_texts(project_page(of_policy(policy=policy)))
    assert gained.startswith("1.00 ± 0.20 %: accuracy above the full model on the same jets")
    *_, gained = tile_texts(project_page(of_policy(policy=policy, prior=PRIOR)))
    assert gained.endswith(
        "above the full model on the same jets, for the mix of the test jets; 1.00 % below for 99.9 % QCD, 0.1 % Hbb"
    )


def test_without_a_prior_every_tile_is_of_the_test_jets() -> None:
    page = project_page(content())
    tiles = tile_texts(page)
    assert len(tiles) == 4
    assert all("for the mix of the test jets" in tile for tile in tiles)
    assert "Mix of the test jets: " in text_of(page)


def test_times_say_for_which_mix_they_are() -> None:
    given = of_policy(prior=PRIOR)
    assert given.results is not None
    latency = given.results.benchmark.latency
    assert latency is not None
    timed = latency.model_copy(update={"class_shares": {"label_QCD": 0.9, "label_Hbb": 0.1}})
    benchmark = given.results.benchmark.model_copy(update={"latency": timed})
    speed = tile_texts(project_page(replace(given, results=replace(given.results, benchmark=benchmark))))[1]
    assert "jets/s, for 90 % QCD, 10 % Hbb, in batches of 256 jets" in speed
    assert speed.endswith("no other mix was timed")


def test_the_promise_says_which_jets_tested_it() -> None:
    given = content()
    assert given.promise is not None
    assert "360 calibration jets tested the policy; 240 others chose it." in text_of(project_page(given))
    budget = replace(given.promise, holds=False, tested=False)
    text = text_of(project_page(replace(given, promise=budget)))
    assert "240 calibration jets chose the policy; no jet tested it." in text
    assert "360" not in text


def test_a_policy_with_a_score_of_no_curve_says_why_it_has_no_slider() -> None:
    given = content()
    assert given.results is not None
    assert given.results.dynamic is not None
    policy = given.results.dynamic.policy.model_copy(
        update={"score": "window", "target": "signal_efficiency: epsilon 0.01"}
    )
    page = project_page(of_policy(policy=policy))
    text = text_of(page)
    assert "The policy is not on the curves." in text
    assert "the target signal efficiency" in text
    assert "curves are stored only for the scores confidence, margin, and the policy has score window" in text
    assert "phaze_ee -m calibrate -p W mine --name NAME" in text
    assert "Score window: the distance of ln" in text
    blocks = Reader(page).blocks
    assert "slider-data" not in blocks
    assert "rejection-chart-data" not in blocks
    assert "Rejection against cost is not drawn" in text
    assert "The policy is not on the curves." not in text_of(project_page(content()))


def test_a_mass_shape_that_cannot_be_compared_is_not_drawn() -> None:
    assert "mass-chart-data" in Reader(project_page(content())).blocks
    page = project_page(of_policy(mass=mass_audit(passing=7)))
    assert "mass-chart-data" not in Reader(page).blocks
    assert "fewer than 10 jets pass: full model, policy." in text_of(page)


@pytest.mark.parametrize("known", [True, False])
def test_macs_of_a_table_follow_one_convention(known: bool) -> None:
    given = content()
    assert given.results is not None
    assert given.results.dynamic is not None
    assert given.results.dynamic.mixture is not None
    macs = 15_400 if known else None
    exits = {name: one.model_copy(update={"mean_macs": macs}) for name, one in given.results.evaluation.exits.items()}
    evaluation = given.results.evaluation.model_copy(update={"exits": exits})
    mixture = given.results.dynamic.mixture.model_copy(update={"mean_macs": macs})
    dynamic = given.results.dynamic.model_copy(update={"mixture": mixture})
    results = replace(given.results, evaluation=evaluation, dynamic=dynamic)
    exits_text = project_page(replace(given, results=results)).partition('id="exits"')[2].partition("</section>")[0]
    assert exits_text.count("<td>0.015</td>") == (len(exits) + 1 if known else 0)
    assert ("each with its own number of particles" in exits_text) is known
    assert ("padded to" in exits_text) is not known


def test_numbers_do_not_break_from_their_errors_and_percent_signs() -> None:
    figures = re.findall(r"<b>(.*?)</b>", project_page(of_policy(prior=PRIOR)).partition("</main>")[0])
    assert "6.00\u00a0±\u00a00.30\u00a0%" in figures


def test_pages_use_the_words_of_the_field() -> None:
    text = text_of(project_page(content())).lower()
    for word in ("judged", "another kind", "audit"):
        assert word not in text


def test_targets_of_a_regression_are_in_the_report() -> None:
    given = content()
    assert given.results is not None
    assert 'id="targets"' not in project_page(given)
    results = replace(given.results, evaluation=with_targets(given.results.evaluation))
    text = text_of(project_page(replace(given, results=results)))
    assert "Target jetMass: 20,000 jets with a spread of 42.56." in text
    assert "exit 00.50 ± 0.2520.00 ± 0.50--" in text
