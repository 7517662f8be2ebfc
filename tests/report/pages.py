"""Contents of report pages, and what a page says."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

from phaze_ee.report.content import Content, Promise
from phaze_ee.results.policy import DynamicResults, RealisedFigures
from phaze_ee.results.project import ProjectResults
from tests.plots.dynamic_examples import dynamic_results, example_sequence, timed_benchmark
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
