"""Question 2: how the weight β of the exit losses matters."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.study.cells import Cell
from benchmarks.study.judge import judged
from benchmarks.study.numbers import difference, mark_significant, markdown, over_seeds, percent, points, rights
from benchmarks.study.project import Study
from benchmarks.study.scratch import TRAININGS, network_options

Answered = npt.NDArray[np.float64]  # shape (2, S, N): by the exits in the mean, and by the full model

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
    """Return accuracies over seeds, of each setting and of the schedules together for each largest β.

    A setting is compared with β at its maximum from the first epoch on, and a largest β with that of 1.
    """
    groups: dict[tuple[str, float, float], list[Mapping[str, Any]]] = {}
    for record in records:
        known = record["parameters"]
        groups.setdefault((known["beta_schedule"], known["zero_share"], known["beta_max"][0]), []).append(record)
    answers = {setting: _mean_and_full(group) for setting, group in groups.items()}
    settings: list[dict[str, Any]] = []
    for (schedule, zero, beta), own in answers.items():
        switch = None if (schedule, zero) == REFERENCE else answers.get((*REFERENCE, beta))
        setting = {"schedule": schedule, "zero_share": zero, "beta": beta}
        settings.append({**setting, **_accuracies(own), **_differences(own, switch, "switch")})
    largest: list[dict[str, Any]] = []
    together = _over_schedules(answers)
    for beta, own in together.items():
        other = None if beta == BETAS[0] else together.get(BETAS[0])
        largest.append({"beta": beta, **_accuracies(own), **_differences(own, other, "one")})
    mark_significant([found for one in (*settings, *largest) for name, found in one.items() if "_to_" in name])
    return {"settings": settings, "largest": largest}


def tables(summary: Mapping[str, Any]) -> str:
    """Return one row for each setting, then one for each largest β."""
    settings = [
        [one["schedule"], f"{100 * one['zero_share']:.0f} %", f"{one['beta']:g}", *_cells(one, "switch")]
        for one in summary["settings"]
    ]
    largest = [[f"{one['beta']:g}", *_cells(one, "one")] for one in summary["largest"]]
    scores = ["exits", "full model"]
    header = ["schedule", "epochs at 0", "largest β", *scores, "exits − switch", "full − switch", "seeds"]
    found = markdown(header, settings)
    if largest:
        titles = ["largest β, mean over the schedules", *scores, "exits − those at 1", "full − that at 1", "seeds"]
        found += "\n" + markdown(titles, largest)
    return found


def _mean_and_full(group: Sequence[Mapping[str, Any]]) -> Answered:
    """Return for each seed and jet the share of the exits that have it right, and whether the full model has."""
    right_SEN = rights(group, "test")
    return np.stack([right_SEN[:, :-2].mean(axis=1), right_SEN[:, -2]])


def _over_schedules(answers: Mapping[tuple[str, float, float], Answered]) -> dict[float, Answered]:
    """Return the mean over all schedules for each largest β of which every training is there."""
    together: dict[float, list[Answered]] = {}
    for (_, _, beta), found in answers.items():
        if found.shape[1] == len(SEEDS):
            together.setdefault(beta, []).append(found)
    whole = len(SCHEDULES) * len(ZERO_SHARES)
    return {beta: np.mean(found, axis=0) for beta, found in together.items() if len(found) == whole}


def _accuracies(own: Answered) -> dict[str, Any]:
    exits, full = own.mean(axis=2)
    return {"exits": over_seeds(exits.tolist()), "full_model": over_seeds(full.tolist())}


def _differences(own: Answered, other: Answered | None, reference: str) -> dict[str, Any]:
    if other is None:
        return {}
    names = (f"exits_to_{reference}", f"full_to_{reference}")
    return {name: difference(*pair) for name, pair in zip(names, zip(own, other, strict=True), strict=True)}


def _cells(one: Mapping[str, Any], reference: str) -> list[str]:
    compared = [points(one[name]) if name in one else "" for name in (f"exits_to_{reference}", f"full_to_{reference}")]
    return [percent(one["exits"]), percent(one["full_model"]), *compared, str(one["exits"]["seeds"])]


def _cell(study: Study, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    project = study.trained("betas", name, options)
    return judged(study.answers(project, "calibration"), {"test": study.answers(project, "test")})
