"""The report of a project that was run with several seeds: means, spreads, and the figures of each seed."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from phaze_ee.evaluation.over_seeds import JudgedSeed, mean_results, summarise
from phaze_ee.names import FULL_MODEL
from phaze_ee.report.content import Content, OneSeed
from phaze_ee.report.page import comparison_page, seeds_page
from phaze_ee.results.project import ProjectResults
from phaze_ee.results.seeds import OverSeeds, SeedRun
from phaze_ee.tables.differences import OF_SEEDS
from phaze_ee.tables.regression import seeds_target_rows, target_tables
from tests.plots.examples import with_targets
from tests.report.pages import PRIOR, Reader, content, text_of, tile_texts, with_sequence
from tests.report.test_browser import BROWSER, opened

ACCURACIES, COSTS = (0.74, 0.77, 0.80), (0.04, 0.06, 0.08)


def seed_results(seed: int) -> ProjectResults:
    given = with_sequence().results
    assert given is not None
    assert given.dynamic is not None
    assert given.dynamic.mixture is not None
    accuracy = ACCURACIES[seed]
    policy = given.dynamic.policy.model_copy(update={"accuracy": accuracy, "macs_share": 0.3 + 0.1 * seed})
    prior = PRIOR.model_copy(update={"cost_share": COSTS[seed]})
    mixture = given.dynamic.mixture.model_copy(update={"accuracy": accuracy})
    dynamic = given.dynamic.model_copy(update={"policy": policy, "prior": prior, "mixture": mixture})
    return replace(given, name=f"mine_seed{seed}", dynamic=dynamic)


def of_seeds(evil: str = "") -> Content:
    """Return the content of three seeds and of one that waits."""
    states = ("evaluated", "evaluated", "evaluated", "waiting")
    runs = [SeedRun(seed=seed, project=f"mine_seed{seed}{evil}", state=state) for seed, state in enumerate(states)]
    found = [seed_results(seed) for seed in range(3)]
    judged = [JudgedSeed(one.with_policy, one.benchmark.latency, one.dynamic) for one in found]
    given = content(evil)
    own = [*((one, given.promise) for one in found), (None, None)]
    return replace(
        given,
        results=mean_results("mine", found),
        promise=None,
        over_seeds=summarise("mine", runs, judged),
        seeds=[
            OneSeed(run, f"phaze_ee -m report -p W {run.project}", results, promise)
            for run, (results, promise) in zip(runs, own, strict=True)
        ],
    )


def test_an_exit_of_several_seeds_has_the_mean_of_their_accuracies() -> None:
    found = []
    for seed in range(3):
        given = seed_results(seed)
        assert given.dynamic is not None
        full = given.dynamic.exits[FULL_MODEL]
        own = full.model_copy(update={"all_leave": full.all_leave.model_copy(update={"accuracy": ACCURACIES[seed]})})
        exits = {**given.dynamic.exits, FULL_MODEL: own}
        found.append(replace(given, dynamic=given.dynamic.model_copy(update={"exits": exits})))
    mean = mean_results("mine", found).dynamic
    assert mean is not None
    assert mean.exits[FULL_MODEL].all_leave.accuracy == pytest.approx(np.mean(ACCURACIES))


def test_tiles_are_means_over_the_seeds_with_their_spread() -> None:
    cost, speed, accuracy, lost = tile_texts(seeds_page(of_seeds()))
    assert cost.startswith(
        "6.0 ± 2.0 %: of the full model&#x27;s MACs, for 99.9 % QCD, 0.1 % Hbb; 40 ± 10 % for the mix"
    )
    assert speed.startswith("2.5 ×")
    assert accuracy.startswith("90 %: accuracy, for 99.9 % QCD, 0.1 % Hbb; the full model has 91 %; 77.0 ± 3.0 %")
    assert lost.startswith("1 %: accuracy below the full model")
    given = of_seeds()
    assert given.over_seeds is not None
    assert given.over_seeds.policy is not None
    drop = OverSeeds(values=[-0.02] * 3, mean=-0.02, spread=0.001)
    policy = given.over_seeds.policy.model_copy(update={"accuracy_drop": drop})
    better = replace(given, over_seeds=given.over_seeds.model_copy(update={"policy": policy}))
    assert tile_texts(seeds_page(better))[-1].startswith("2.00 ± 0.10 %: accuracy above the full model")


def test_each_seed_has_its_own_figures_and_its_report() -> None:
    page = seeds_page(of_seeds())
    text = text_of(page)
    assert "Mean of 3 seeds" in text
    assert "Seeds 0, 1, 2, each with a policy of its own." in text
    rows = re.findall(r'<tr><th scope="row">(\d)</th>(.*?)</tr>', page.partition('id="seeds"')[2])[:4]
    cells = [[cell.replace("\u00a0", " ") for cell in re.findall(r"<td>(.*?)</td>", row)] for _, row in rows]
    assert [row[1] for row in cells] == ["74.00 ± 0.40 %", "77.00 ± 0.40 %", "80.00 ± 0.40 %", "-"]
    assert [row[4] for row in cells] == ["4.00 ± 0.30 %", "6.00 ± 0.30 %", "8.00 ± 0.30 %", "-"]
    assert cells[3][-1] == "none (waiting)"
    assert "phaze_ee -m report -p W mine_seed0" in text
    assert "There is no slider here" in text
    assert "slider-data" not in Reader(page).blocks


def test_the_page_is_whole(tmp_path: Path) -> None:
    page = seeds_page(of_seeds())
    reader = Reader(page)
    assert len(reader.ids) == len(set(reader.ids))
    chapters = [attributes["id"] for _, attributes in reader.tags if attributes.get("class") == "chapter"]
    assert chapters == ["promise", "physics", "model", "deployment", "dataset"]
    names = {"tradeoff", "leaving", "rejections", "exits", "differences", "times", "hashes"}
    assert names <= set(reader.ids)
    if BROWSER:
        document, console = opened(page, tmp_path)
        assert console == []
        assert document.count("<svg") == page.count('class="chart"') == 2


def test_seeds_with_other_promises_are_told_apart() -> None:
    given = of_seeds()
    first, second, *others = given.seeds
    assert first.promise is not None
    failed = replace(first, promise=replace(first.promise, statement="the policy is the full model", holds=False))
    page = seeds_page(replace(given, seeds=[failed, second, *others]))
    assert 'class="no-promise">the policy is the full model' in page
    text = text_of(page)
    assert "Seed 0. Nothing is promised." in text
    assert "Seeds 1, 2, each with a policy of its own." in text


def test_policies_with_other_limits_have_no_mean_risk() -> None:
    found = [seed_results(seed) for seed in range(2)]
    judged = [JudgedSeed(one.with_policy, one.benchmark.latency, one.dynamic) for one in found]
    alike = summarise("mine", [], judged)
    assert alike.policy is not None
    assert alike.policy.risks["signal lost"].values == [0.014, 0.014]
    assert alike.notes == []
    assert judged[1].dynamic is not None
    policy = judged[1].dynamic.policy
    risks = [risk.model_copy(update={"epsilon": 0.5}) for risk in policy.risks]
    other = judged[1].dynamic.model_copy(update={"policy": policy.model_copy(update={"risks": risks})})
    results = summarise("mine", [], [judged[0], replace(judged[1], dynamic=other)])
    assert results.policy is not None
    assert (results.policy.risks, results.policy.limits) == ({}, {})
    assert "different targets" in results.notes[0]
    page = seeds_page(replace(of_seeds(), over_seeds=results))
    assert "the policies of the seeds have different targets" in text_of(page)
    assert 'id="outcome"' not in page


def test_seeds_that_are_not_evaluated_have_no_figures() -> None:
    given = of_seeds()
    runs = [SeedRun(seed=seed, project=f"mine_seed{seed}", state="trained") for seed in range(2)]
    seeds = [OneSeed(run, f"phaze_ee -m report -p W {run.project}") for run in runs]
    page = seeds_page(replace(given, results=None, over_seeds=summarise("mine", runs, []), seeds=seeds))
    text = text_of(page)
    assert "No seed has an exit policy: nothing is promised." in text
    assert "phaze_ee -m chain -p W mine" in text
    assert "none (trained)" in text
    assert "accuracy lost" not in text  # nor any other column without a figure
    assert "accuracy lost" in text_of(seeds_page(given))


def test_a_comparison_shows_the_mean_of_the_seeds_and_their_promises() -> None:
    page = comparison_page("mine and other", [of_seeds(), content()])
    text = text_of(page)
    assert "mine: mean of 3 seeds; ±: standard deviation over them" in text
    assert "each with a policy of its own" in text
    assert "minepolicy77.0 ± 3.0 %" in text


@pytest.mark.parametrize("evil", ["<script>alert(1)</script>"])
def test_names_of_seeds_are_text(evil: str) -> None:
    assert evil not in seeds_page(of_seeds(evil))


def test_targets_of_a_regression_are_means_over_the_seeds() -> None:
    given = of_seeds()
    assert given.over_seeds is not None
    seeds = [replace(seed_results(seed), dynamic=None) for seed in range(3)]
    judged = [JudgedSeed(with_targets(one.evaluation, bias=float(seed)), None) for seed, one in enumerate(seeds)]
    found = summarise("mine", given.over_seeds.runs, judged)
    assert found.exits[FULL_MODEL].targets["jetMass"].bias.values == [0, 1, 2]
    text = text_of(seeds_page(replace(given, over_seeds=found)))
    assert "full model1.0 ± 1.020--" in text
    assert 'id="targets"' not in seeds_page(given)
    (table,) = target_tables(seeds_target_rows(found.exits), OF_SEEDS)
    assert list(table.columns[1].cells) == ["1.0 ± 1.0"] * len(found.exits)
    assert str(table.caption).endswith(OF_SEEDS)
    without = JudgedSeed(seeds[0].evaluation, None)
    assert summarise("mine", given.over_seeds.runs, [*judged, without]).exits[FULL_MODEL].targets == {}
