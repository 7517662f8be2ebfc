"""The report page: complete, self-contained, and harmless whatever the names in it are."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from math import inf
from typing import Any

import pytest

from phaze_ee.report.content import Content, Promise
from phaze_ee.report.page import comparison_page, project_page
from phaze_ee.report.slider import thresholds_text
from phaze_ee.results.policy import DynamicResults, RealisedFigures
from phaze_ee.results.project import ProjectResults
from tests.plots.dynamic_examples import dynamic_results, example_sequence, mass_audit, timed_benchmark
from tests.plots.examples import evaluation_results, training_history
from tests.plots.ood_examples import ood_results
from tests.plots.placement_examples import placement_results

EVIL = "</script><script>alert(1)</script>"


def command(mode: str) -> str:
    return f"phaze_ee -m {mode} -p W mine"


def content(evil: str = "") -> Content:
    evaluation = evaluation_results(classes=("QCD", "Hbb", evil or "Hcc"))
    classes = ("label_QCD", "label_Hbb", f"label_{evil or 'Hcc'}")
    dynamic = dynamic_results(classes)
    judged = dynamic.model_copy(update={"mixture": evaluation.exits["full_model"]})
    files = evaluation.model_copy(update={"files": [f"{evil}test.root"], "notes": [f"a note{evil}"]})
    return Content(
        title=f"W/mine{evil}",
        command=command,
        results=ProjectResults(f"mine{evil}", files, timed_benchmark(), judged),
        promise=Promise(f"At most 0.02 of all jets{evil}", True, "accuracy drop", testing=360, shaping=240),
        ood=ood_results(),
        placement=placement_results(),
        history=training_history("distill_uniform"),
        card=f"# ParticleNet\n\n| exit | after |\n|---|---|\n| exit 0 | {evil} |\n\n![x](https://a.example/x.png)",
        configuration=f"c.background = '{evil}'",
        left_out=[f"Left out: the times{evil}"],
    )


class Reader(HTMLParser):
    """Collects what a page is made of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.blocks: dict[str, str] = {}
        self.text: list[str] = []
        self._block: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._block = (dict(attrs).get("id") or "") if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._block:
            self.blocks[self._block] = data
        else:
            self.text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._block = None

    @property
    def ids(self) -> list[str]:
        return [name for _, attributes in self.tags if (name := attributes.get("id"))]

    def count(self, tag: str) -> int:
        return [name for name, _ in self.tags].count(tag)


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


def of_policy(**changes: Any) -> Content:
    """Return a content whose results of the policy have other values."""
    given = content()
    assert given.results is not None
    assert given.results.dynamic is not None
    dynamic: DynamicResults = given.results.dynamic.model_copy(update=changes)
    return replace(given, results=replace(given.results, dynamic=dynamic))


def tile_texts(page: str) -> list[str]:
    found = re.findall(r"<div><b>(.*?)</b><span>(.*?)</span></div>", page)
    return [f"{figure}: {meaning}".replace("\u00a0", " ") for figure, meaning in found]


def text_of(page: str) -> str:
    return "".join(Reader(page).text).replace("\u00a0", " ")


PRIOR = RealisedFigures(
    class_shares={"label_QCD": 0.999, "label_Hbb": 0.001},
    macs=6e5,
    full_macs=1e7,
    cost_share=0.06,
    cost_share_error=0.003,
    accuracy=0.9,
    accuracy_error=0.004,
    full_accuracy=0.91,
    exit_shares={},
)


def test_tiles_are_of_the_class_prior_first_and_name_both_mixes() -> None:
    cost, _, accuracy, lost = tile_texts(project_page(of_policy(prior=PRIOR)))
    assert cost == (
        "6.00 ± 0.30 %: of the full model&#x27;s MACs, for 99.9 % QCD, 0.1 % Hbb; 40.0 % for the mix of the test jets"
    )
    assert accuracy.startswith("90.00 ± 0.40 %: accuracy, for 99.9 % QCD, 0.1 % Hbb (full model 91.0 %); 77.00")
    assert lost.startswith("1.00 ± 0.20 %")
    assert "for the mix of the test jets; 1.00 % for 99.9 % QCD" in lost


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


def with_sequence() -> Content:
    """Return a content with a policy of score window, whose calibration stored the sequence that it tested."""
    given = content()
    assert given.results is not None
    assert given.results.dynamic is not None
    dynamic = given.results.dynamic
    sequence = example_sequence(dynamic)
    policy = dynamic.policy.model_copy(
        update={"score": "window", "target": "signal_efficiency: epsilon 0.02", "risks": sequence[2].risks}
    )
    return of_policy(policy=policy, sequence=sequence, prior=PRIOR)


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
    macs = 3.3e6 if known else None
    exits = {name: one.model_copy(update={"mean_macs": macs}) for name, one in given.results.evaluation.exits.items()}
    evaluation = given.results.evaluation.model_copy(update={"exits": exits})
    mixture = given.results.dynamic.mixture.model_copy(update={"mean_macs": macs})
    dynamic = given.results.dynamic.model_copy(update={"mixture": mixture})
    results = replace(given.results, evaluation=evaluation, dynamic=dynamic)
    exits_text = project_page(replace(given, results=results)).partition('id="exits"')[2].partition("</section>")[0]
    assert exits_text.count("<td>3.3</td>") == (len(exits) + 1 if known else 0)
    assert ("each with its own number of particles" in exits_text) is known
    assert ("padded to" in exits_text) is not known


def test_numbers_do_not_break_from_their_errors_and_percent_signs() -> None:
    figures = re.findall(r"<b>(.*?)</b>", project_page(of_policy(prior=PRIOR)).partition("</main>")[0])
    assert "6.00\u00a0±\u00a00.30\u00a0%" in figures


def test_pages_use_the_words_of_the_field() -> None:
    text = text_of(project_page(content())).lower()
    for word in ("judged", "another kind", "audit"):
        assert word not in text
