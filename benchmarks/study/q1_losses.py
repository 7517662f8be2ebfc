"""Question 1: which exit loss generalises best."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from benchmarks.study.cells import Cell
from benchmarks.study.frozen import FrozenNetwork
from benchmarks.study.jets import JUDGED
from benchmarks.study.judge import judged
from benchmarks.study.numbers import TITLES, difference, mark_significant, markdown, over_seeds, percent, points, rights
from benchmarks.study.project import Study
from benchmarks.study.scratch import network_options
from phaze_ee.names import ExitStage

QUESTION = 1
HEADS = ("deep_sets", "linear", "mlp")
LOSSES = ("distill", "target", "mimic")
REFERENCE = "distill_detached"
SEEDS = range(5)
STAGES: tuple[ExitStage, ...] = ("input", 0, 1)


def cells(study: Study) -> Iterator[Cell]:
    """Yield losses with heads and seeds: on the frozen network, then from scratch, there all seeds of one head first.

    The backbone of the frozen network does not learn, so NAME_flow is NAME_detached there.
    """
    if study.frozen is not None:
        yield from _frozen_cells(study.frozen)
    for head, seed, loss, way in product(HEADS, SEEDS, LOSSES, ("detached", "flow")):
        recipe = {"exit_head": head, "exit_loss_strategy": f"{loss}_{way}", "exit_stages": STAGES, "seed": seed}
        options = {**network_options(study.size), **recipe, "beta_max": [1.0]}
        name = f"{loss}_{way}_{head}_{seed}"
        yield Cell(QUESTION, f"scratch/{name}", options, partial(_trained, study, name, options))


def _frozen_cells(network: FrozenNetwork) -> Iterator[Cell]:
    for seed, head, loss in product(SEEDS, HEADS, LOSSES):
        recipe = {"exit_head": head, "exit_loss_strategy": f"{loss}_detached"}
        parameters = {"weights": network.weights.name, "stages": STAGES, "seed": seed, "epochs": 8, **recipe}
        yield Cell(QUESTION, f"frozen/{loss}_{head}_{seed}", parameters, partial(_frozen, network, recipe, seed))


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return accuracies, calibration and costs over seeds, and differences to the reference with the same head."""
    groups = _groups(records)
    found = [
        {"regime": regime, "head": head, "loss": loss, "samples": {name: _sample(group, name) for name in JUDGED}}
        for (regime, head, loss), group in groups.items()
    ]
    differences = [
        {"regime": regime, "head": head, "loss": loss, "answer": answer, "sample": name, **compared}
        for (regime, head, loss), group in groups.items()
        if loss != REFERENCE and (regime, head, REFERENCE) in groups
        for name in JUDGED
        for answer, compared in _against(regime, group, groups[regime, head, REFERENCE], name).items()
    ]
    mark_significant(differences)
    return {"reference": REFERENCE, "methods": found, "differences": differences}


def tables(summary: Mapping[str, Any]) -> str:
    """Return a table of the methods on the test jets, and one of the differences on all samples."""
    exits = len(summary["methods"][0]["samples"]["test"]["ece"]) - 1
    header = ["regime", "head", "loss", *(f"exit {index}" for index in range(exits)), "full model", "ECE", "cost"]
    rows = []
    for method in summary["methods"]:
        found = method["samples"]["test"]
        numbers = [*map(percent, found["accuracy"][:-1]), percent(found["ece"][exits - 1]), percent(found["cost"])]
        name = [method["regime"], f"`{method['head']}`", f"`{method['loss']}`"]
        rows.append([*name, *numbers, str(found["cost"]["seeds"])])
    compared: dict[tuple[str, ...], dict[str, str]] = {}
    for one in summary["differences"]:
        key = (one["regime"], f"`{one['head']}`", f"`{one['loss']}`", one["answer"])
        compared.setdefault(key, {})[one["sample"]] = points(one)
    differing = [[*key, *(found[name] for name in TITLES)] for key, found in compared.items()]
    titles = ["regime", "head", f"loss, minus `{summary['reference']}`", "of", *TITLES.values()]
    return markdown([*header, "seeds"], rows, left=3) + "\n" + markdown(titles, differing, left=4)


def _frozen(network: FrozenNetwork, recipe: dict[str, Any], seed: int) -> Any:
    tagger = network.trained(STAGES, recipe, seed)
    samples = {name: network.answers(tagger, name) for name in JUDGED}
    return judged(network.answers(tagger, "calibration"), samples)


def _trained(study: Study, name: str, options: Mapping[str, Any]) -> Any:
    project = study.trained("losses", name, {**options, "exit_stages": list(STAGES)})
    samples = {sample: study.answers(project, sample) for sample in JUDGED}
    return judged(study.answers(project, "calibration"), samples)


def _groups(records: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, str], list[Mapping[str, Any]]]:
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for record in records:
        known = record["parameters"]
        key = (record["name"].split("/")[0], known["exit_head"], known["exit_loss_strategy"])
        groups.setdefault(key, []).append(record)
    return dict(sorted(groups.items(), key=lambda item: (HEADS.index(item[0][1]), item[0])))


def _sample(records: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    samples = [record["result"]["samples"][name] for record in records]

    def each(key: str) -> list[dict[str, Any]]:
        return [over_seeds(values) for values in zip(*(found[key] for found in samples), strict=True)]

    cost = over_seeds([found["cost"] for found in samples])
    return {
        "jets": samples[0]["jets"],
        **{key: each(key) for key in ("accuracy", "ece", "cross_entropy", "leaving")},
        "cost": {**cost, "jets_error": float(np.mean([found["cost_error"] for found in samples]))},
    }


def _against(
    regime: str, records: Sequence[Mapping[str, Any]], reference: Sequence[Mapping[str, Any]], name: str
) -> dict[str, dict[str, Any]]:
    """Return the difference of the mean accuracy of the exits, and from scratch that of the full model."""
    first, second = rights(records, name), rights(reference, name)
    shared = regime == "scratch" and _share_networks(records, reference)
    found = {"exits": difference(first[:, :-2].mean(axis=1), second[:, :-2].mean(axis=1), same_seeds=shared)}
    if regime == "scratch":
        found["full model"] = difference(first[:, -2], second[:, -2], same_seeds=shared)
    return found


def _share_networks(records: Sequence[Mapping[str, Any]], reference: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether trainings of one seed have the same network: detached losses leave it alone."""
    detached = all(one["parameters"]["exit_loss_strategy"].endswith("_detached") for one in (*records, *reference))
    seeds = [[one["parameters"]["seed"] for one in group] for group in (records, reference)]
    return detached and seeds[0] == seeds[1]
