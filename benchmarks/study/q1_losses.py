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
from benchmarks.study.numbers import difference, mark_significant, markdown, over_seeds, percent, points, rights
from benchmarks.study.project import Study
from phaze_ee.names import ExitStage

QUESTION = 1
HEADS = ("deep_sets", "linear", "mlp")
LOSSES = ("distill", "target", "mimic")
REFERENCE = "distill"
SEEDS = range(5)
STAGES: tuple[ExitStage, ...] = ("input", 0, 1)


def cells(study: Study) -> Iterator[Cell]:
    """Yield three losses with three heads and five seeds on the frozen network, all losses of one seed first.

    The backbone does not learn, so NAME_flow is NAME_detached.
    """
    if study.frozen is not None:
        yield from _frozen_cells(study.frozen)


def _frozen_cells(network: FrozenNetwork) -> Iterator[Cell]:
    for seed, head, loss in product(SEEDS, HEADS, LOSSES):
        recipe = {"exit_head": head, "exit_loss_strategy": f"{loss}_detached"}
        parameters = {"weights": network.weights.name, "stages": STAGES, "seed": seed, "epochs": 8, **recipe}
        yield Cell(QUESTION, f"frozen/{loss}_{head}_{seed}", parameters, partial(_frozen, network, recipe, seed))


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return accuracies, calibration and costs over seeds, and the differences to ``distill`` with the same head."""
    groups = {name: list(found) for name, found in _groups(records).items()}
    found = [
        {"regime": regime, "head": head, "loss": loss, "samples": {name: _sample(group, name) for name in JUDGED}}
        for (regime, head, loss), group in groups.items()
    ]
    differences = [
        {"regime": regime, "head": head, "loss": loss, "sample": name, **_against(group, groups, name)}
        for (regime, head, loss), group in groups.items()
        if loss != REFERENCE and (regime, head, REFERENCE) in groups
        for name in JUDGED
    ]
    mark_significant(differences)
    return {"reference": REFERENCE, "methods": found, "differences": differences}


def tables(summary: Mapping[str, Any]) -> str:
    """Return the two tables of the page."""
    exits = len(summary["methods"][0]["samples"]["test"]["accuracy"]) - 1
    header = ["head", "loss", *(f"exit {index}" for index in range(exits)), "ECE of the last exit", "cost", "seeds"]
    rows = []
    for method in summary["methods"]:
        found = method["samples"]["test"]
        numbers = [percent(value) for value in found["accuracy"][:-1]]
        last = [percent(found["ece"][exits - 1]), percent(found["cost"]), str(found["cost"]["seeds"])]
        rows.append([f"`{method['head']}`", method["loss"], *numbers, *last])
    titles = {"test": "test jets", "other_mode": "other mode", "alpha_s": "α_s = 0.16", "tracks": "10 % of tracks lost"}
    compared: dict[tuple[str, str], dict[str, str]] = {}
    for one in summary["differences"]:
        compared.setdefault((one["head"], one["loss"]), {})[one["sample"]] = points(one)
    differing = [
        [f"`{head}`", f"{loss} − {summary['reference']}", *(found[name] for name in titles)]
        for (head, loss), found in compared.items()
    ]
    return markdown(header, rows, left=2) + "\n" + markdown(["head", "difference", *titles.values()], differing, left=2)


def _frozen(network: FrozenNetwork, recipe: dict[str, Any], seed: int) -> Any:
    tagger = network.trained(STAGES, recipe, seed)
    samples = {name: network.answers(tagger, name) for name in JUDGED}
    return judged(network.answers(tagger, "calibration"), samples)


def _groups(records: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, str], list[Mapping[str, Any]]]:
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for record in records:
        known = record["parameters"]
        loss = known["exit_loss_strategy"].removesuffix("_detached")
        groups.setdefault((record["name"].split("/")[0], known["exit_head"], loss), []).append(record)
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
    records: Sequence[Mapping[str, Any]], groups: Mapping[tuple[str, str, str], Sequence[Mapping[str, Any]]], name: str
) -> dict[str, Any]:
    """Return the difference of the mean accuracy of the exits, without the full model and the policy."""
    known = records[0]["parameters"]
    reference = groups[(records[0]["name"].split("/")[0], known["exit_head"], REFERENCE)]
    first_SN, second_SN = (rights(group, name)[:, :-2].mean(axis=1) for group in (records, reference))
    return difference(first_SN, second_SN)
