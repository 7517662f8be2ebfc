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
from benchmarks.study.numbers import TITLES, mark_significant, markdown, over_seeds
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
BASELINE, MEAN, DISTANCE = "energy, full model", "mean energy of all", "distance"
COMBINED = (MEAN, DISTANCE)  # what uses all exits, and is compared with the baseline
Array = npt.NDArray[np.float64]


def cells(study: Study) -> Iterator[Cell]:
    """Yield a training without each class, for each seed."""
    for seed, label in product(SEEDS, FILES_OF_CLASS):
        options = {**network_options(study.size), **RECIPE, "seed": seed, "beta_max": [1.0]}
        name = f"{class_title(label)}_{seed}"
        parameters = {**options, "held_out": label, "combined": COMBINED}
        yield Cell(QUESTION, name, parameters, partial(_cell, study, name, label, options))


def scores(calibration: Answers, answers: Answers) -> dict[str, Array]:
    """Return OOD scores of jets: of the full model, of all exits, and two combinations of these.

    The first is the mean over exits and full model of the energy, less its mean on the calibration jets, in units of
    its standard deviation there. The second is the Mahalanobis distance of energies and largest probabilities of all
    exits, and of the distance of their answers, from those of the calibration jets (arXiv:1807.03888 does so with
    features).
    Calibration jets are all of known classes: no OOD jet teaches the combinations. The first takes jets as OOD that
    have high energies, the second those that are unusual in either direction.
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
        MEAN: ((own_NE - known_ME.mean(axis=0)) / known_ME.std(axis=0))[:, : full + 1].mean(axis=1),
        DISTANCE: np.sqrt(spread.mahalanobis(own_NE)),
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
    """Return for each kind of jets the AUROC of each score, and those of the combinations less the baseline's."""
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        for kind, found in record["result"].items():
            kinds.setdefault(record["parameters"]["held_out"] if kind == "held_out" else kind, []).append(found)
    found = {
        kind: {
            "auroc": {name: over_seeds([one["auroc"][name] for one in seeds]) for name in seeds[0]["auroc"]},
            "gain": {name: _gain([one["gain"][name] for one in seeds]) for name in seeds[0]["gain"]},
        }
        for kind, seeds in kinds.items()
    }
    mark_significant([gain for one in found.values() for gain in one["gain"].values()])
    return {"kinds": found}


def tables(summary: Mapping[str, Any]) -> str:
    """Return one row for each kind of jets."""
    kinds = summary["kinds"]
    names = list(next(iter(kinds.values()))["auroc"])
    rows = [
        [
            TITLES.get(kind) or class_title(kind),
            *(f"{found['auroc'][name]['mean']:.3f}" for name in names),
            *(_auroc(gain) for gain in found["gain"].values()),
            str(found["auroc"][names[0]]["seeds"]),
        ]
        for kind, found in kinds.items()
    ]
    gains = [f"{name} − energy of the full model" for name in next(iter(kinds.values()))["gain"]]
    return markdown(["jets", *names, *gains, "trainings"], rows)


def _auroc(gain: Mapping[str, Any]) -> str:
    """Return a difference of two AUROCs with its error, in bold if it is significant."""
    text = f"{gain['value']:+.3f} ± {gain['error']:.3f}".replace("-", "−")
    return f"**{text}**" if gain["significant"] else text


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
    data_config.parent.mkdir(parents=True, exist_ok=True)
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
    pairs = {
        name: [np.stack([found[BASELINE], found[name]]) for found in (own_scores, ood_scores)] for name in COMBINED
    }
    return {
        "auroc": {name: auroc(own_scores[name], ood_scores[name])[0] for name in own_scores},
        "gain": {name: paired_auroc(*pair) for name, pair in pairs.items()},
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
