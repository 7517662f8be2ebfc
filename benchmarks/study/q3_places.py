"""Question 3: how many exits, and after which stages."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations, product
from math import sqrt
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from benchmarks.study.cells import Cell
from benchmarks.study.frozen import STAGES, FrozenNetwork
from benchmarks.study.judge import LOSS, judged
from benchmarks.study.numbers import (
    difference,
    mark_significant,
    markdown,
    over_seeds,
    pack_rights,
    percent,
    points,
    unpack_costs,
    unpack_rights,
)
from benchmarks.study.project import Study
from benchmarks.study.scratch import BACKBONES, network_options
from phaze_ee.exits.answers import Answers
from phaze_ee.names import ExitStage

QUESTION = 3
SEEDS = range(3)
MOST_EXITS = 3
RECIPE = {"exit_head": "deep_sets", "exit_loss_strategy": "distill_detached"}


def cells(study: Study) -> Iterator[Cell]:
    """Yield exits at all stages of the published network, and of networks trained here, for each seed."""
    if study.frozen is not None:
        for seed in SEEDS:
            parameters = {"weights": study.frozen.weights.name, "stages": STAGES, "seed": seed, "epochs": 8, **RECIPE}
            yield Cell(QUESTION, f"published/{seed}", parameters, partial(_published, study.frozen, seed))
    for seed, backbone in product(SEEDS, BACKBONES):
        options = {**network_options(study.size, backbone), **RECIPE, "seed": seed, "beta_max": [1.0]}
        options |= {"exit_stages": ["input", *range(BACKBONES[backbone].stages)]}
        yield Cell(QUESTION, f"{backbone}/{seed}", options, partial(_trained, study, backbone, options, seed))


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return for each network the sets of stages by cost at a loss of 1 %, and the smallest one near the best."""
    networks: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        networks.setdefault(record["name"].split("/")[0], []).append(record)
    found = {name: _network(group) for name, group in networks.items()}
    for name in ("to_full", "to_best"):
        mark_significant([one[name] for network in found.values() for one in network["sets"] if name in one])
    return {"networks": found, "transfer": _transfer(found)}


def tables(summary: Mapping[str, Any]) -> str:
    """Return the cheapest sets of each network, and how far the order of the sets agrees between networks."""
    rows = []
    for name, network in summary["networks"].items():
        of_two = min((one for one in network["sets"] if _size(one) == 2), key=_mean_cost)["stages"]
        marks = {of_two: " (best of two)", network["smallest"]: " (smallest)", network["best"]: " (best)"}
        shown = [one for one in network["sets"] if one["stages"] in marks or _size(one) == 1]
        for one in sorted(shown, key=_mean_cost):
            mark = marks.get(one["stages"], "")
            above = points(one["to_best"]) if "to_best" in one else ""
            cells = [percent(one["cost"]), above, percent(one["accuracy"]), points(one["to_full"])]
            rows.append([name, one["stages"] + mark, *cells, str(one["cost"]["seeds"])])
    header = ["network", "exits after", "cost", "cost − best", "accuracy", "accuracy − full model", "seeds"]
    text = markdown(header, rows, left=2)
    if not summary["transfer"]:
        return text
    rows = [
        [one["from"], one["to"], f"{one['rank_correlation']:.2f}", f"{100 * one['extra_cost']:.1f}"]
        for one in summary["transfer"]
    ]
    return text + "\n" + markdown(["best set of", "used in", "rank correlation", "extra cost"], rows, left=2)


def judged_sets(calibration: Answers, test: Answers, stages: Sequence[ExitStage]) -> dict[str, Any]:
    """Judge the cheapest policy that loses 1 % of accuracy on the calibration jets, for each set of up to 3 exits."""
    sets: dict[str, Any] = {}
    for size in range(1, MOST_EXITS + 1):
        for exits in combinations(range(len(stages)), size):
            some = {"test": test.with_exits(exits)}
            found = judged(calibration.with_exits(exits), some, each_cost=True)["samples"]["test"]
            kept = {name: found[name] for name in ("jets", "cost", "cost_error", "spent", "leaving")}
            right_RN = unpack_rights(found["right"], len(found["accuracy"]))[-2:]  # of the full model, of the policy
            sets[", ".join(str(stages[exit_]) for exit_ in exits)] = {**kept, "right": pack_rights(right_RN)}
    return {"loss": LOSS, "sets": sets}


def _published(network: FrozenNetwork, seed: int) -> dict[str, Any]:
    tagger = network.trained(STAGES, RECIPE, seed)
    return judged_sets(network.answers(tagger, "calibration"), network.answers(tagger, "test"), STAGES)


def _trained(study: Study, backbone: str, options: Mapping[str, Any], seed: int) -> dict[str, Any]:
    project = study.trained("places", f"{backbone}_{seed}", options)
    stages: Any = options["exit_stages"]
    return judged_sets(study.answers(project, "calibration"), study.answers(project, "test"), stages)


def _network(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    results = [record["result"]["sets"] for record in records]
    sets = [_set(name, [result[name] for result in results]) for name in results[0]]
    best = min(sets, key=_mean_cost)
    spent = {name: np.stack([unpack_costs(result[name]["spent"]) for result in results]) for name in results[0]}
    for one in sets:
        if one is not best:
            one["to_best"] = difference(spent[one["stages"]], spent[best["stages"]], same_seeds=True)
    near = [one for one in sets if one is best or one["to_best"]["value"] <= one["to_best"]["error"]]
    smallest = min(near, key=lambda one: (_size(one), _mean_cost(one)))
    return {"sets": sets, "best": best["stages"], "smallest": smallest["stages"]}


def _size(one: Mapping[str, Any]) -> int:
    return len(one["stages"].split(", "))


def _mean_cost(one: Mapping[str, Any]) -> float:
    return float(one["cost"]["mean"])


def _set(name: str, seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    full_SN, policy_SN = np.stack([unpack_rights(one["right"], 2) for one in seeds], axis=1)
    cost = over_seeds([one["cost"] for one in seeds])
    jets_error = float(np.mean([one["cost_error"] for one in seeds]))
    return {
        "stages": name,
        "cost": cost,
        "cost_error": sqrt(jets_error**2 + (cost["spread"] or 0.0) ** 2 / len(seeds)),
        "accuracy": over_seeds(policy_SN.mean(axis=1).tolist()),
        "to_full": difference(policy_SN, full_SN, same_seeds=True),
    }


def _transfer(networks: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return for pairs of networks with the same stages how the costs of their sets agree, by Spearman's correlation.

    ``extra_cost`` is what the best set of the first costs in the second, above the best set of the second.
    """
    found = []
    for first, second in product(networks, networks):
        costs = [{one["stages"]: one["cost"]["mean"] for one in networks[name]["sets"]} for name in (first, second)]
        if first == second or set(costs[0]) != set(costs[1]):
            continue
        ranks = spearmanr([costs[0][name] for name in costs[0]], [costs[1][name] for name in costs[0]])
        extra = costs[1][networks[first]["best"]] - min(costs[1].values())
        found.append(
            {"from": first, "to": second, "rank_correlation": float(ranks.statistic), "extra_cost": float(extra)}
        )
    return found
