"""Tables of docs/STUDY.md are those of docs/study, and a claim needs jets and seeds."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.study import q1_losses, q2_betas, q3_places, q4_ood
from benchmarks.study.cells import Cell, CellStore
from benchmarks.study.jets import JUDGED
from benchmarks.study.numbers import pack_costs, pack_rights
from benchmarks.study.report import FOLDER, PAGE, with_tables, write

JETS = 4000
Rights = npt.NDArray[np.bool_]


def test_the_page_shows_what_the_files_hold() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert with_tables(page) == page
    for path in FOLDER.glob("q*.json"):
        assert f"<!-- study:{path.stem} -->\n*Size" in page


def test_the_results_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 5_000_000


def answered(accuracies: tuple[float, ...], seed: int) -> list[Rights]:
    """Return which jets exits have right; the same jets are hard for all trainings."""
    hardness_N = np.random.default_rng(0).random(JETS)
    noise = np.random.default_rng([1, seed]).normal(0, 0.02, (len(accuracies), JETS))
    return [hardness_N + noise_N < accuracy for accuracy, noise_N in zip(accuracies, noise, strict=True)]


def sample(accuracies: tuple[float, ...], seed: int) -> dict[str, Any]:
    right = answered(accuracies, seed)
    return {
        "jets": JETS,
        "accuracy": [float(right_N.mean()) for right_N in right],
        "ece": [0.02] * (len(right) - 1),
        "cross_entropy": [1.0] * (len(right) - 1),
        "cost": 0.5 + 0.01 * seed,
        "cost_error": 0.002,
        "leaving": [0.5, 0.5],
        "right": pack_rights(np.stack(right)),
    }


def record(name: str, parameters: dict[str, Any], result: Any) -> dict[str, Any]:
    return {"name": name, "parameters": parameters, "result": result}


def q1_records(gain: float, regime: str = "frozen") -> list[dict[str, Any]]:
    records = []
    for seed in range(3):
        for number, (loss, exit_) in enumerate((("distill_detached", 0.6), ("target_detached", 0.6 + gain))):
            samples = {name: sample((exit_, 0.8, 0.79), 10 * seed + number) for name in JUDGED}
            parameters = {"exit_head": "mlp", "exit_loss_strategy": loss, "seed": seed}
            records.append(record(f"{regime}/{loss}_{seed}", parameters, {"samples": samples}))
    return records


def test_a_better_loss_is_found_and_marked() -> None:
    summary = q1_losses.summarise(q1_records(gain=0.03))
    found = [one for one in summary["differences"] if one["sample"] == "test"]
    assert [one["answer"] for one in found] == ["exits"]
    assert found[0]["value"] == pytest.approx(0.03, abs=0.005)
    assert found[0]["significant"]
    assert "**+" in q1_losses.tables(summary)


def test_detached_losses_from_scratch_share_the_network_of_a_seed() -> None:
    """All trainings of a seed are better or worse together, which says nothing about the loss."""
    records = q1_records(gain=0.0, regime="scratch")
    for one in records:
        accuracy = 0.6 + 0.1 * one["parameters"]["seed"]
        same = one["parameters"]["exit_loss_strategy"] == "distill_detached"
        for name in JUDGED:
            one["result"]["samples"][name] = sample((accuracy - 0.01 * (not same), accuracy, accuracy), seed=3)
    found = q1_losses.summarise(records)["differences"]
    exits = next(one for one in found if (one["sample"], one["answer"]) == ("test", "exits"))
    full = next(one for one in found if (one["sample"], one["answer"]) == ("test", "full model"))
    assert full["value"] == full["error"] == 0
    assert exits["value"] == pytest.approx(-0.01, abs=0.002)
    assert exits["error"] < 0.004  # not 0.1, the spread of the seeds


def test_equal_losses_are_not_marked_and_the_full_model_counts_from_scratch() -> None:
    summary = q1_losses.summarise(q1_records(gain=0.0, regime="scratch"))
    assert {one["answer"] for one in summary["differences"]} == {"exits", "full model"}
    assert not any(one["significant"] for one in summary["differences"])
    assert "**" not in q1_losses.tables(summary)


def test_nothing_is_claimed_from_one_seed() -> None:
    one_seed = [one for one in q1_records(gain=0.03) if one["parameters"]["seed"] == 0]
    assert not any(one["significant"] for one in q1_losses.summarise(one_seed)["differences"])


def test_betas_are_compared_with_the_switch_at_the_same_beta() -> None:
    records = []
    for schedule, full in (("switch", 0.75), ("linear", 0.8)):
        for seed in range(3):
            parameters = {"beta_schedule": schedule, "zero_share": 0.0, "beta_max": [1.0], "seed": seed}
            found = {"samples": {"test": sample((0.6, full, 0.79), seed + 10 * (schedule == "linear"))}}
            records.append(record(f"{schedule}_{seed}", parameters, found))
    switch, linear = q2_betas.summarise(records)["settings"]
    assert "full_to_switch" not in switch
    assert linear["full_to_switch"]["significant"]
    assert linear["full_to_switch"]["value"] == pytest.approx(0.05, abs=0.005)
    assert not linear["exits_to_switch"]["significant"]


@pytest.mark.parametrize("missing", [0, 1])
def test_a_largest_beta_is_compared_when_all_its_trainings_are_there(missing: int) -> None:
    records = []
    for number, (beta, zero, schedule, seed) in enumerate(
        product((1.0, 0.1), q2_betas.ZERO_SHARES, q2_betas.SCHEDULES, q2_betas.SEEDS)
    ):
        parameters = {"beta_schedule": schedule, "zero_share": zero, "beta_max": [beta], "seed": seed}
        found = {"samples": {"test": sample((0.6, 0.75 if beta == 1 else 0.78, 0.79), number)}}
        records.append(record(f"{number}", parameters, found))
    largest = q2_betas.summarise(records[: len(records) - missing])["largest"]
    assert [one["beta"] for one in largest] == [1.0, 0.1][: 2 - missing]
    assert "full_to_one" not in largest[0]
    if not missing:
        assert largest[1]["full_to_one"]["significant"]
        assert largest[1]["full_to_one"]["value"] == pytest.approx(0.03, abs=0.005)
        assert not largest[1]["exits_to_one"]["significant"]


def test_the_smallest_set_within_one_error_of_the_best_is_named() -> None:
    costs = {"input": 0.9, "0": 0.6002, "input, 0": 0.6, "0, 1": 0.61}
    records = []
    noise = dict(zip(costs, np.random.default_rng(4).normal(scale=0.05, size=(4, JETS)), strict=True))
    for network, factor in (("ParticleNet_middle", 1.0), ("ParticleNet_small", 1.1)):
        for seed in range(3):
            right = pack_rights(np.stack(answered((0.8, 0.79), seed)))
            sets: dict[str, Any] = {}
            for name, cost in costs.items():
                spent_N = factor * cost + 0.001 * seed + noise[name] - noise[name].mean()
                one = {"cost": float(spent_N.mean()), "cost_error": 0.003, "spent": pack_costs(spent_N)}
                sets[name] = {"jets": JETS, "right": right, **one}
            records.append(record(f"{network}/{seed}", {}, {"sets": sets}))
    summary = q3_places.summarise(records)
    found = summary["networks"]["ParticleNet_middle"]
    assert (found["best"], found["smallest"]) == ("input, 0", "0")
    assert [one["rank_correlation"] for one in summary["transfer"]] == pytest.approx([1.0, 1.0])
    assert "0 (smallest)" in q3_places.tables(summary)
    above = {one["stages"]: one.get("to_best", {"significant": None})["significant"] for one in found["sets"]}
    assert above == {"input": True, "0": False, "input, 0": None, "0, 1": True}


def test_a_gain_in_auroc_needs_more_than_one_training_in_three() -> None:
    def found(gain: float) -> dict[str, Any]:
        return {"auroc": {"energy": 0.6, "combined": 0.6 + gain}, "gain": {"combined": {"value": gain, "error": 0.005}}}

    gains = {"label_Hbb": (0.05, 0.052, 0.049), "label_QCD": (0.001, 0.15, -0.001)}
    records = [
        record(f"{label}_{seed}", {"held_out": label}, {"held_out": found(gain)})
        for label, values in gains.items()
        for seed, gain in enumerate(values)
    ]
    kinds = q4_ood.summarise(records)["kinds"]
    assert kinds["label_Hbb"]["gain"]["combined"]["significant"]
    assert not kinds["label_QCD"]["gain"]["combined"]["significant"]


@pytest.mark.parametrize(("size", "name"), [("middle", "q1"), ("full", "q1_full")])
def test_a_report_has_files_and_figure_of_the_cells_that_are_there(tmp_path: Path, size: str, name: str) -> None:
    store = CellStore(tmp_path / "cells", {"test": JETS}, "abc", 1)
    cells = [Cell(1, one["name"], one["parameters"], lambda: None) for one in q1_records(0.03)]
    for cell, one in zip(cells[:4], q1_records(0.03), strict=False):
        store.write(cell, one["result"], 1.0)
    folder = tmp_path / "study"
    paths = write(store, {1: cells, 2: []}, size, folder)
    assert [path.name for path in paths] == [f"{name}.json", f"{name}.png"]
    content = json.loads((folder / f"{name}.json").read_text())
    assert content["cells"]["there"] == 4
    assert content["cells"]["planned"] == 6
    elsewhere = CellStore(tmp_path / "elsewhere", {"test": JETS}, "abc", 1, folder / size)
    kept = [store.read(cell) if size == "middle" else None for cell in cells]
    assert [elsewhere.read(cell) for cell in cells] == kept
    page = f"before\n<!-- study:{name} -->\nold\n<!-- /study:{name} -->\nafter"
    made = with_tables(page, folder)
    assert made.startswith(f"before\n<!-- study:{name} -->\n*Size {size}: 4 of 6 cells")
    assert made.endswith(f"<!-- /study:{name} -->\nafter")
    assert "old" not in made
    assert with_tables(made, folder) == made
