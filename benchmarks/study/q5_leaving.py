"""Question 5: which jets leave early, and whether a plain cut could replace the first exit."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.inspection import permutation_importance
from sklearn.metrics import log_loss, roc_auc_score

from benchmarks.study.cells import Cell
from benchmarks.study.cuts import first_exit_against_cuts
from benchmarks.study.frozen import FrozenNetwork
from benchmarks.study.judge import cheapest
from benchmarks.study.numbers import difference, mark_significant, markdown, over_seeds, percent, points
from benchmarks.study.observables import observables
from benchmarks.study.project import Study
from phaze_ee.exits.answers import Answers
from phaze_ee.names import ExitStage, class_title
from phaze_ee.paired import unpack_bits

QUESTION = 5
SEEDS = range(5)
STAGES: tuple[ExitStage, ...] = ("input", 0, 1)
RECIPE = {"exit_head": "deep_sets", "exit_loss_strategy": "distill_detached"}  # the defaults
_REPEATS = 5
Array = npt.NDArray[np.float64]


def cells(study: Study) -> Iterator[Cell]:
    """Yield one cell for each seed of the training of the exits."""
    network = study.frozen
    if network is None:
        return
    for seed in SEEDS:
        parameters = {"weights": network.weights.name, "stages": STAGES, "seed": seed, "epochs": 8, **RECIPE}
        yield Cell(QUESTION, f"frozen/{seed}", parameters, partial(_cell, network, seed))


def _cell(network: FrozenNetwork, seed: int) -> dict[str, Any]:
    tagger = network.trained(STAGES, RECIPE, seed)
    answers = {name: network.answers(tagger, name) for name in ("train", "calibration", "test")}
    columns = {name: observables(found, network.jets.files[name]) for name, found in answers.items()}
    return {
        "explained": explained(answers["calibration"], answers["test"], columns["calibration"], columns["test"], seed),
        "cuts": first_exit_against_cuts(answers, columns, seed),
    }


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return where jets leave and how well this is explained, over seeds, and exit against cut for each signal."""
    explained = [record["result"]["explained"] for record in records]
    cuts = [record["result"]["cuts"] for record in records]
    compared = {signal: _compared([cut[signal] for cut in cuts]) for signal in cuts[0]}
    mark_significant([found["differences"][rule] for found in compared.values() for rule in ("cut", "trees")])
    return {
        "leaving": _each([found["leaving"] for found in explained]),
        "leaving_by_class": {
            name: _each([found["leaving_by_class"][name] for found in explained])
            for name in explained[0]["leaving_by_class"]
        },
        "auc": over_seeds([found["auc"] for found in explained]),
        "explained": {
            name: over_seeds([found["explained"][name] for found in explained]) for name in explained[0]["explained"]
        },
        "importance": {
            name: over_seeds([found["importance"][name] for found in explained]) for name in explained[0]["importance"]
        },
        "cuts": compared,
    }


def tables(summary: Mapping[str, Any]) -> str:
    """Return the three tables of the page."""
    exits = [f"exit {index}" for index in range(len(summary["leaving"]) - 1)]
    rows = [["all", *map(percent, summary["leaving"])]]
    rows += [[class_title(name), *map(percent, found)] for name, found in summary["leaving_by_class"].items()]
    leaving = markdown(["class", *exits, "full model"], rows)
    rows = [["explained by " + name, percent(value)] for name, value in summary["explained"].items()]
    ranked = sorted(summary["importance"].items(), key=lambda item: -item[1]["mean"])
    rows += [["importance of " + name.replace("|", r"\|"), percent(value)] for name, value in ranked]
    explained = markdown(["who leaves", "%"], [["AUC of the trees", percent(summary["auc"])], *rows])
    rows = [
        [
            class_title(signal),
            *(percent(found["rejected"][rule]) for rule in ("exit", "cut", "trees")),
            found["cut"],
            *(points(found["differences"][rule]) for rule in ("cut", "trees")),
        ]
        for signal, found in summary["cuts"].items()
    ]
    header = ["signal", "first exit", "plain cut", "trees", "the cut", "exit − cut", "exit − trees"]
    return "\n".join((leaving, explained, markdown(header, rows)))


def explained(
    calibration: Answers, test: Answers, known: Mapping[str, Array], columns: Mapping[str, Array], seed: int
) -> dict[str, Any]:
    """Predict from observables where jets leave by the policy that loses 1 % of accuracy.

    Trees learn on the calibration jets and are judged on the test jets. The explained share is 1 - L/L₀ (McFadden's
    R²): L is the mean cross-entropy of the trees for the exit, L₀ that of the shares of the exits. The importance of an
    observable is what the AUC for "leaves before the full model" loses when its values are permuted among the jets.
    """
    policy = cheapest(calibration)
    index_M, index_N = (found.tempered(policy.temperatures).exit_index(policy) for found in (calibration, test))
    full = test.exit_count
    label_M1, label_N1 = (found.label_N[:, None].astype(float) for found in (calibration, test))
    known_MO, column_NO = (np.stack(list(values.values()), axis=1) for values in (known, columns))
    trees = _trees(seed).fit(known_MO, index_M < full)
    leaves_N = index_N < full
    importance = permutation_importance(
        trees, column_NO, leaves_N, scoring="roc_auc", n_repeats=_REPEATS, random_state=seed
    )
    with_class = (np.hstack([known_MO, label_M1]), np.hstack([column_NO, label_N1]))
    return {
        "leaving": (np.bincount(index_N, minlength=full + 1) / len(test)).tolist(),
        "leaving_by_class": _by_class(test, index_N),
        "auc": float(roc_auc_score(leaves_N, trees.predict_proba(column_NO)[:, 1])),
        "explained": {
            "observables": _explained(known_MO, index_M, column_NO, index_N, seed),
            "true class": _explained(label_M1, index_M, label_N1, index_N, seed),
            "observables and true class": _explained(with_class[0], index_M, with_class[1], index_N, seed),
        },
        "importance": dict(zip(columns, importance.importances_mean.tolist(), strict=True)),
        "importance_error": dict(zip(columns, importance.importances_std.tolist(), strict=True)),
    }


def _explained(
    known_MO: Array, index_M: npt.NDArray[np.int64], column_NO: Array, index_N: npt.NDArray[np.int64], seed: int
) -> float:
    exits = np.unique(index_M)
    judged_N = np.isin(index_N, exits)  # an exit that no calibration jet takes has no prediction
    trees = _trees(seed).fit(known_MO, index_M)
    share_E = np.bincount(np.searchsorted(exits, index_M)) / len(index_M)
    chance = -np.log(share_E[np.searchsorted(exits, index_N[judged_N])]).mean()
    loss = log_loss(index_N[judged_N], trees.predict_proba(column_NO[judged_N]), labels=exits)
    return float(1 - loss / chance)


def _trees(seed: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(max_iter=100, learning_rate=0.06, max_leaf_nodes=12, random_state=seed)


def _by_class(test: Answers, index_N: npt.NDArray[np.int64]) -> dict[str, list[float]]:
    def shares(chosen: npt.NDArray[np.int64]) -> Sequence[float]:
        return [float(share) for share in np.bincount(chosen, minlength=test.exit_count + 1) / max(len(chosen), 1)]

    return {name: list(shares(index_N[test.of_class(name)])) for name in test.class_names}


def _each(values: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    return [over_seeds(column) for column in zip(*values, strict=True)]


def _compared(seeds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the shares of rejected background over seeds, and those of the exit minus those of cut and trees."""
    rejected = {
        rule: np.stack([unpack_bits(one["rejected_jets"][rule], one["background_jets"], rule) for one in seeds])
        for rule in seeds[0]["rejected_jets"]
    }
    cuts = [one["cut"] for one in seeds]
    return {
        "cut": max(set(cuts), key=cuts.count),
        "background_jets": seeds[0]["background_jets"],
        "signal_jets": seeds[0]["signal_jets"],
        "rejected": {rule: over_seeds(found.mean(axis=1).tolist()) for rule, found in rejected.items()},
        "signal_lost": {rule: over_seeds([one["signal_lost"][rule] for one in seeds]) for rule in rejected},
        "differences": {
            rule: difference(rejected["exit"], rejected[rule], same_seeds=True) for rule in ("cut", "trees")
        },
    }
