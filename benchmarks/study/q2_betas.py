"""Question 2: how the weight β of the exit losses matters."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

from benchmarks.study.cells import Cell
from benchmarks.study.judge import judged
from benchmarks.study.numbers import difference, mark_significant, markdown, over_seeds, percent, points, rights
from benchmarks.study.project import Study
from benchmarks.study.scratch import TRAININGS, network_options

QUESTION = 2
SCHEDULES = ("switch", "linear", "cosine")
ZERO_SHARES = (0.0, 0.2, 0.5)
BETAS = (1.0, 0.3, 0.1)
SEEDS = range(3)
REFERENCE = ("switch", 0.0)
# β changes the network itself only where gradients of the exits reach it.
RECIPE = {"exit_head": "deep_sets", "exit_loss_strategy": "distill_flow", "exit_stages": ["input", 0, 1]}


def cells(study: Study) -> Iterator[Cell]:
    """Yield trainings from scratch for each schedule, share of epochs without β and largest β, seed by seed."""
    for seed, beta, zero, schedule in product(SEEDS, BETAS, ZERO_SHARES, SCHEDULES):
        zero_epochs = round(zero * TRAININGS[study.size].epochs)
        options = {**network_options(study.size), **RECIPE, "seed": seed, "beta_max": [beta]}
        options |= {"beta_schedule": schedule, "zero_epochs": zero_epochs}
        name = f"{schedule}_{int(100 * zero)}_{beta}_{seed}"
        parameters = {**options, "zero_share": zero}
        yield Cell(QUESTION, name, parameters, partial(_cell, study, name.replace(".", "p"), options))


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return accuracies over seeds, and the differences to β at its maximum from the first epoch on."""
    groups: dict[tuple[str, float, float], list[Mapping[str, Any]]] = {}
    for record in records:
        known = record["parameters"]
        groups.setdefault((known["beta_schedule"], known["zero_share"], known["beta_max"][0]), []).append(record)
    found: list[dict[str, Any]] = []
    for (schedule, zero, beta), group in groups.items():
        own = rights(group, "test")
        one = {
            "schedule": schedule,
            "zero_share": zero,
            "beta": beta,
            "exits": over_seeds(own[:, :-2].mean(axis=(1, 2)).tolist()),
            "full_model": over_seeds(own[:, -2].mean(axis=1).tolist()),
        }
        if (schedule, zero) != REFERENCE and (*REFERENCE, beta) in groups:
            other = rights(groups[(*REFERENCE, beta)], "test")
            one["exits_to_switch"] = difference(own[:, :-2].mean(axis=1), other[:, :-2].mean(axis=1))
            one["full_to_switch"] = difference(own[:, -2], other[:, -2])
        found.append(one)
    names = ("exits_to_switch", "full_to_switch")
    mark_significant([one[name] for one in found for name in names if name in one])
    return {"settings": found}


def tables(summary: Mapping[str, Any]) -> str:
    """Return one row for each setting."""
    rows = []
    for one in summary["settings"]:
        compared = [points(one[name]) if name in one else "" for name in ("exits_to_switch", "full_to_switch")]
        accuracy = [percent(one["exits"]), percent(one["full_model"])]
        setting = [one["schedule"], f"{100 * one['zero_share']:.0f} %", f"{one['beta']:g}"]
        rows.append([*setting, *accuracy, *compared, str(one["exits"]["seeds"])])
    header = ["schedule", "epochs at 0", "largest β", "exits", "full model", "exits − switch", "full − switch", "seeds"]
    return markdown(header, rows)


def _cell(study: Study, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    project = study.trained("betas", name, options)
    return judged(study.answers(project, "calibration"), {"test": study.answers(project, "test")})
