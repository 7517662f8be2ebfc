"""The report page: complete, self-contained, and harmless whatever the names in it are."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from math import inf

import pytest

from phaze_ee.report.content import Content, Promise
from phaze_ee.report.page import comparison_page, project_page
from phaze_ee.report.slider import thresholds_text
from phaze_ee.results.project import ProjectResults
from tests.plots.dynamic_examples import dynamic_results, timed_benchmark
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
        promise=Promise(f"At most 0.02 of all jets{evil}", True, "accuracy drop", 600),
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
    assert "Not drawn, for fewer than 10 jets pass: policy." in text
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
    text = "".join(Reader(project_page(content())).text)
    assert "40.0 %of the full model's MACs" in text
    assert "2.50 ×the full model's jets/s, in batches of 256 jets on Epyc 1 (cpu), 1 thread, float32" in text


def test_recommended_exits_are_in_the_chart_of_placements() -> None:
    found = json.loads(Reader(project_page(content())).blocks["placement-chart-data"])
    points = {one["name"]: one["points"] for one in found["series"]}
    assert points["recommended"] == [pytest.approx((0.1 + 0.8 * 2 / 3, 0.59, 0.004))]
    assert len(points["1 exit"]) == 3
