"""Question 4: whether exits help to notice jets of a class that the training did not have."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from scipy.stats import norm, t
from sklearn.covariance import LedoitWolf

from benchmarks.ood import FILES_OF_CLASS
from benchmarks.study.cells import Cell
from benchmarks.study.frozen import DATA_CONFIG
from benchmarks.study.jets import JUDGED, of_class
from benchmarks.study.numbers import mark_significant, markdown, over_seeds, points
from benchmarks.study.project import Study
from benchmarks.study.scratch import network_options
from phaze_ee.evaluation.ood import auroc
from phaze_ee.evaluation.ood_scores import OOD_SCORES
from phaze_ee.exits.answers import Answers
from phaze_ee.names import class_title
from phaze_ee.stats import share_below

QUESTION = 4
SEEDS = range(3)
RECIPE = {"exit_head": "deep_sets", "exit_loss_strategy": "distill_detached", "exit_stages": ["input", 0, 1]}
BASELINE, COMBINED = "energy, full model", "combined"
Array = npt.NDArray[np.float64]


def cells(study: Study) -> Iterator[Cell]:
    """Yield a training without each class, for each seed."""
    for seed, label in product(SEEDS, FILES_OF_CLASS):
        options = {**network_options(study.size), **RECIPE, "seed": seed, "beta_max": [1.0]}
        name = f"{class_title(label)}_{seed}"
        yield Cell(QUESTION, name, {**options, "held_out": label}, partial(_cell, study, name, label, options))


def scores(calibration: Answers, answers: Answers) -> dict[str, Array]:
    """Return OOD scores of jets: of the full model, of all exits, and a combination of these.

    The combination is the Mahalanobis distance of energies and largest probabilities of all exits, and of the distance
    of their answers, from those of the calibration jets, which are all of known classes (arXiv:1807.03888 does so with
    features). It is learned without OOD jets.
    """
    known_ME, own_NE = (_all_exits(found.logits_ENK.astype(np.float64)) for found in (calibration, answers))
    spread = LedoitWolf().fit(known_ME)
    logits_ENK = answers.logits_ENK.astype(np.float64)
    full = len(logits_ENK) - 1
    return {
        BASELINE: OOD_SCORES["energy"](logits_ENK, full),
        "largest probability, full model": OOD_SCORES["max_probability"](logits_ENK, full),
        "energy, first exit": OOD_SCORES["energy"](logits_ENK, 0),
        "disagreement of the exits": OOD_SCORES["disagreement"](logits_ENK, full),
        COMBINED: np.sqrt(spread.mahalanobis(own_NE)),
    }


def paired_auroc(own_2N: Array, ood_2M: Array) -> dict[str, float]:
    """Return the AUROC of the second score minus that of the first on the same jets, with its error.

    The error is that of DeLong et al. (Biometrics 44 (1988) 837) for correlated curves.
    """
    below_2M = [share_below(own_N, ood_M) for own_N, ood_M in zip(own_2N, ood_2M, strict=True)]
    below_2N = [share_below(ood_M, own_N) for own_N, ood_M in zip(own_2N, ood_2M, strict=True)]
    ood_M, own_N = below_2M[1] - below_2M[0], below_2N[1] - below_2N[0]
    variance = ood_M.var(ddof=1) / len(ood_M) + own_N.var(ddof=1) / len(own_N)
    return {"value": float(ood_M.mean()), "error": float(np.sqrt(variance))}


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return for each kind of jets the AUROC of each score, and the combination minus the full model's energy."""
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        for kind, found in record["result"].items():
            kinds.setdefault(record["parameters"]["held_out"] if kind == "held_out" else kind, []).append(found)
    found = {
        kind: {
            "auroc": {name: over_seeds([one["auroc"][name] for one in seeds]) for name in seeds[0]["auroc"]},
            "gain": _gain([one["gain"] for one in seeds]),
        }
        for kind, seeds in kinds.items()
    }
    mark_significant([one["gain"] for one in found.values()])
    return {"kinds": found}


def tables(summary: Mapping[str, Any]) -> str:
    """Return one row for each kind of jets."""
    kinds = summary["kinds"]
    names = list(next(iter(kinds.values()))["auroc"])
    rows = [
        [
            class_title(kind),
            *(f"{found['auroc'][name]['mean']:.3f}" for name in names),
            points(found["gain"]),
            str(found["auroc"][names[0]]["seeds"]),
        ]
        for kind, found in kinds.items()
    ]
    return markdown(["jets", *names, "combined − energy [%]", "trainings"], rows)


def _all_exits(logits_ENK: Array) -> Array:
    full = len(logits_ENK) - 1
    each = [OOD_SCORES[name](logits_ENK, exit_) for name in ("energy", "max_probability") for exit_ in range(full + 1)]
    return np.stack([*each, OOD_SCORES["disagreement"](logits_ENK, full)], axis=1)


def _cell(study: Study, name: str, label: str, options: Mapping[str, Any]) -> dict[str, Any]:
    stem = FILES_OF_CLASS[label]
    known = {
        part: [str(path) for path in paths if path not in of_class(paths, stem)]
        for part, paths in study.jets.files.items()
    }
    data_config = study.folder / "data_configs" / f"without_{class_title(label)}.yaml"
    data_config.parent.mkdir(exist_ok=True)
    values = yaml.safe_load(DATA_CONFIG.read_text(encoding="utf-8"))
    values["labels"]["value"].remove(label)
    data_config.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    files = {f"{part}_files": known[part] for part in ("train", "val", "calibration")}
    project = study.trained("ood", name, {**options, **files, "data_config": str(data_config)})
    calibration, own = (study.answers(project, part, without=stem) for part in ("calibration", "test"))
    kinds = {"held_out": study.answers(project, "test", only=stem)}
    kinds |= {part: study.answers(project, part, without=stem) for part in JUDGED if part != "test"}
    return {kind: _compared(calibration, own, ood) for kind, ood in kinds.items()}


def _compared(calibration: Answers, own: Answers, ood: Answers) -> dict[str, Any]:
    own_scores, ood_scores = scores(calibration, own), scores(calibration, ood)
    pair = [np.stack([found[BASELINE], found[COMBINED]]) for found in (own_scores, ood_scores)]
    return {
        "auroc": {name: auroc(own_scores[name], ood_scores[name])[0] for name in own_scores},
        "gain": paired_auroc(*pair),
    }


def _gain(gains: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return the mean gain over trainings. Its error has the jets' part once, since they are the same each time."""
    values = [gain["value"] for gain in gains]
    jets_error = float(np.mean([gain["error"] for gain in gains]))
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    error = sqrt(jets_error**2 + spread**2 / len(values))
    seeds = t(len(values) - 1) if len(values) > 1 else norm
    p_value = 2 * float(seeds.sf(abs(np.mean(values)) / error)) if error else 1.0
    return {"value": float(np.mean(values)), "error": error, "spread": spread, "p_value": p_value, "seeds": len(values)}
