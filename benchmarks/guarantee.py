"""Tests the promises of calibrations: risks over many random splits, and what three policies cost.

    python benchmarks/guarantee.py WORKSPACE/PROJECT --files FILE ... [--cascade-files FILE ...]
        [--splits 200] [--calibration-jets 4000] [--accuracy-jets N] [--only TEXT] [--signal label_Hbb]
        [--cache FOLDER]

PROJECT is a trained project with exits. Its network must not have seen the jets of FILE, which hold all classes. The
cascade is calibrated on one half of --cascade-files (signal and background are enough) and evaluated on the other.
Answers of the network are kept in --cache, so that a second run does not need the network. For every random split, a
policy is calibrated on --calibration-jets jets, and its risk is counted on all others.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from scipy.stats import binom

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import phaze_ee
from benchmarks.engine import race
from phaze_ee.data.loaders import evaluation_loader
from phaze_ee.data.schema import DataSchema
from phaze_ee.evaluation.answers import predict
from phaze_ee.exits.answers import Answers, at_exit
from phaze_ee.exits.calibrate import Calibration, Settings, calibrate, relative_answers
from phaze_ee.exits.conditions import ALL_JETS, Conditions, promised
from phaze_ee.exits.costs import ExitCosts, weighted_ratio
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.targets import AccuracyDrop, Agreement, NetAccuracyDrop, SignalEfficiency, Target
from phaze_ee.models.checkpoint import load_checkpoint
from phaze_ee.types import JetBatch, RaggedJets
from phaze_ee.workspace import existing_project

DELTA = 0.05
QCD_SHARE = 0.999
OBSERVABLES = ("jet_pt", "jet_eta")
PT_EDGES, ETA_EDGES = [500.0, 600.0, 800.0, 1000.0], [-2.0, -0.5, 0.5, 2.0]
CONSOLE = Console(width=80)


def stored_answers(project: str, files: Sequence[Path], cache: Path) -> Answers:
    """Return the answers of all exits, from the cache if it has them."""
    model = existing_project(*project.split("/")).best_model
    path = cache / f"{model.stat().st_mtime_ns}_{'_'.join(sorted({file.parent.name for file in files}))}.npz"
    checkpoint = load_checkpoint(model)
    schema = DataSchema.from_options(checkpoint.data_options)
    if not path.is_file():
        answers = predict(checkpoint.tagger, evaluation_loader(schema, files, batch_size=1000), schema.class_names)
        cache.mkdir(parents=True, exist_ok=True)
        columns: dict[str, Any] = {"label": answers.label_N, "count": answers.particle_count_N}
        columns |= {name: answers.observers[name] for name in OBSERVABLES}
        np.savez(path, logits=answers.logits_ENK, **columns)
    stored = np.load(path)
    costs = ExitCosts.of(checkpoint.tagger.fastest_form(), stored["count"])
    observers = {name: stored[name] for name in OBSERVABLES}
    answers = Answers(stored["logits"], stored["label"], stored["count"], schema.class_names, costs, observers)
    return relative_answers(answers, None)


def over_splits(jets: Answers, target: Target, count: int, splits: int, conditions: Conditions = ALL_JETS) -> list[str]:
    """Return one row: how often the promise is broken, and the mean risk and cost.

    The promise is broken if one of its risks is above its limit, in any part of the jets.
    """
    risks: list[list[float]] = []
    costs, full = [], 0
    for split in range(splits):
        order = np.random.default_rng(split).permutation(len(jets))
        settings = Settings(target, delta=DELTA, seed=split, conditions=conditions)
        result = calibrate(jets.select(order[:count]), settings)
        others = jets.select(order[count:]).tempered(result.policy.temperatures)
        index_N = others.exit_index(result.policy)
        observed = [
            (risk.observed(index_N), risk.epsilon)
            for risk in promised(result.target, conditions, result.untested, others)
        ]
        risks.append([lost / max(of, 1) / epsilon for (lost, of), epsilon in observed])
        costs.append(others.costs.mean(index_N, result.policy.exits))
        full += result.reason is not None
    worst = np.max(risks, axis=1)
    broken, allowed = int((worst > 1).sum()), int(binom.ppf(0.975, splits, DELTA))
    return [
        f"{broken}",
        f"{allowed}",
        f"{np.mean(worst):.2f}",
        f"{100 * np.mean(costs):.1f} ± {100 * np.std(costs):.1f}",
        f"{full}",
    ]


def splits_table(jets: Answers, pair: Answers | None, arguments: argparse.Namespace) -> Table:
    point = partial(SignalEfficiency, signal=arguments.signal, background="label_QCD", background_growth=0.5)
    count, signal = arguments.calibration_jets, arguments.signal.removeprefix("label_")
    classes, leaving = Conditions(per_class=True), Conditions(leaving=True)
    pt, eta = Conditions(bins={"jet_pt": PT_EDGES}), Conditions(bins={"jet_eta": ETA_EDGES})
    rows: list[tuple[str, Target, Answers, int, Conditions]] = [
        ("accuracy_drop 1 %", AccuracyDrop(epsilon=0.01), jets, count, ALL_JETS),
        ("accuracy_drop 2 %", AccuracyDrop(epsilon=0.02), jets, count, ALL_JETS),
        ("net_accuracy_drop 0.5 %", NetAccuracyDrop(epsilon=0.005), jets, count, ALL_JETS),
        ("net_accuracy_drop 1 %", NetAccuracyDrop(epsilon=0.01), jets, count, ALL_JETS),
        ("accuracy_drop 2 %, per class", AccuracyDrop(epsilon=0.02), jets, 2 * count, classes),
        ("accuracy_drop 2 %, bins of pT", AccuracyDrop(epsilon=0.02), jets, 2 * count, pt),
        ("net_accuracy_drop 2 %, bins of η", NetAccuracyDrop(epsilon=0.02), jets, 2 * count, eta),
        ("agreement 2 %, of those that leave", Agreement(epsilon=0.02), jets, count, leaving),
        ("agreement 2 %", Agreement(epsilon=0.02), jets, count, ALL_JETS),
        ("agreement 5 %", Agreement(epsilon=0.05), jets, count, ALL_JETS),
        (f"{signal} 50 %, reject, 5 %", point(epsilon=0.05, efficiency=0.5, form="reject"), jets, count, ALL_JETS),
        (f"{signal} 90 %, reject, 5 %", point(epsilon=0.05, efficiency=0.9, form="reject"), jets, count, ALL_JETS),
    ]
    if pair is not None:
        both = point(epsilon=0.02, efficiency=0.99, form="two_sided")
        rows.append((f"{signal} 99 %, two-sided, 2 %", both, pair, len(pair) // 2, ALL_JETS))
    table = _table(
        f"{arguments.splits} random splits, δ = {DELTA}",
        ["jets", "broken", "allowed", "risk / ε", "cost, %", "full"],
        "",
    )
    for name, target, sample, calibrating, conditions in rows:
        if arguments.only in name:
            row = over_splits(sample, target, calibrating, arguments.splits, conditions)
            table.add_row(name, f"{calibrating:,}", *row)
    table.caption = (
        "jets: that calibrate, the others judge; broken: splits with a risk above ε;\nallowed: in 97.5 % of cases; "
        "risk / ε: mean; full: fell back to the full model"
    )
    return table


def halves(jets: Answers) -> tuple[Answers, Answers]:
    order = np.random.default_rng(0).permutation(len(jets))
    return jets.select(order[::2]), jets.select(order[1::2])


def cascade(jets: Answers, signal: str) -> tuple[Calibration, list[str]]:
    """Calibrate the reject-only cascade on one half for a trigger's class prior; return it and its row on the other."""
    prior = {"label_QCD": QCD_SHARE, signal: 1 - QCD_SHARE}
    ours = jets.select(np.flatnonzero(np.isin(jets.label_N, [jets.class_names.index(name) for name in prior])))
    first, second = halves(ours)
    target = SignalEfficiency(
        epsilon=0.01, signal=signal, background="label_QCD", efficiency=0.5, background_growth=0.05, form="reject"
    )
    result = calibrate(first, Settings(target, delta=DELTA, class_prior=prior))
    judged = relative_answers(second, prior).tempered(result.policy.temperatures)
    index_N = judged.exit_index(result.policy)
    lost, of = result.target.risks(judged)[0].observed(index_N)
    costs, policy = judged.costs, result.policy
    share, error = weighted_ratio(costs.spent(index_N, policy.exits), costs.full_N, costs.weight_N)
    left = [
        weighted_ratio((index_N == index).astype(float), np.ones(len(judged)), costs.weight_N)[0]
        for index in range(judged.exit_count)
    ]
    tested = result.risks[0]
    return result, [
        f"{tested.lost}/{tested.jets}",
        f"{100 * tested.upper_limit:.2f}",
        f"{lost}/{of} = {100 * lost / max(of, 1):.2f}",
        f"{100 * share:.2f} ± {100 * error:.2f}",
        " ".join(f"{100 * value:.1f}" for value in left),
    ]


def accuracy_row(jets: Answers, target: Target, score: str, count: int) -> list[str]:
    """Calibrate on the first ``count`` jets of a random order, and judge on the others."""
    order = np.random.default_rng(0).permutation(len(jets))
    first, second = jets.select(order[:count]), jets.select(order[count:])
    result = calibrate(first, Settings(target, score=score, delta=DELTA))
    judged = second.tempered(result.policy.temperatures)
    index_N = judged.exit_index(result.policy)
    right_N = at_exit(judged.correct_EN, index_N).astype(float)
    drop_N = judged.correct_EN[-1] - right_N
    lost, of = result.target.risks(judged)[0].observed(index_N)
    return [
        f"{result.risks[0].lost}/{result.risks[0].jets}",
        f"{100 * lost / of:.2f}",
        f"{100 * drop_N.mean():.2f} ± {100 * drop_N.std() / math.sqrt(len(drop_N)):.2f}",
        f"{100 * judged.costs.mean(index_N, result.policy.exits) / judged.costs.mean_full:.1f}",
    ]


def engine_times(project: str, files: Sequence[Path], policies: dict[str, ThresholdPolicy], rounds: int) -> Table:
    """Time the engine on the jets of a trigger, the policies and the full model in turn."""
    tagger = phaze_ee.load(project)
    schema = DataSchema.from_options(load_checkpoint(existing_project(*project.split("/")).best_model).data_options)
    jets = trigger_jets(evaluation_loader(schema, files, batch_size=1000), schema.class_names.index("label_QCD"))
    runs: dict[str, Callable[[], object]] = {"full model": partial(phaze_ee.Engine(tagger, threads=2), jets)}
    runs |= {name: partial(phaze_ee.Engine(tagger, policy, threads=2), jets) for name, policy in policies.items()}
    rates = race(runs, len(jets), rounds)
    table = _table(f"Engine on {len(jets):,} jets, 99.9 % QCD, 2 threads, CPU", ["jets/s", "time, % of full"], "policy")
    for name, rate in rates.items():
        table.add_row(name, f"{rate:,.0f}", f"{100 * rates['full model'] / rate:.2f}")
    return table


def trigger_jets(batches: Iterable[JetBatch], background: int) -> RaggedJets:
    """Return all background jets, and one other jet for each thousand of them."""
    parts: list[RaggedJets] = []
    seen, others = 0, 0
    for batch in batches:
        is_background_N = batch.label_N == background
        seen += int(is_background_N.sum())
        spare = (~is_background_N).nonzero()[: max(0, seen // 1000 - others), 0]
        others += len(spare)
        parts.append(batch.inputs.ragged().select(torch.cat([is_background_N.nonzero()[:, 0], spare])))
    return RaggedJets(
        torch.cat([part.points_V2 for part in parts]),
        torch.cat([part.features_VC for part in parts]),
        None,
        torch.cat([part.particle_count_N for part in parts]),
    )


def _table(title: str, columns: Sequence[str], first: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first)
    for name in columns:
        table.add_column(name, justify="right")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", metavar="WORKSPACE/PROJECT")
    parser.add_argument("--files", type=Path, nargs="+", required=True)
    parser.add_argument("--cascade-files", type=Path, nargs="+", default=[])
    parser.add_argument("--splits", type=int, default=200)
    parser.add_argument("--calibration-jets", type=int, default=4000)
    parser.add_argument("--accuracy-jets", type=int, help="calibration jets of the table of accuracies (default: half)")
    parser.add_argument("--only", default="", metavar="TEXT", help="splits of the targets with this in their name")
    parser.add_argument("--signal", default="label_Hbb")
    parser.add_argument("--cache", type=Path, default=Path("guarantee_cache"))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    jets, pair = stored_answers(arguments.project, arguments.files, arguments.cache), None
    count = arguments.accuracy_jets or len(jets) // 2
    accuracy = _table(
        f"{count:,} of {len(jets):,} jets calibrate, the others judge, in %",
        ["lost of tested", "made wrong", "accuracy lost", "cost of full"],
        "target",
    )
    for epsilon in (0.002, 0.01):
        for target in (AccuracyDrop(epsilon=epsilon), NetAccuracyDrop(epsilon=epsilon)):
            for score in ("confidence", "gate"):
                row = accuracy_row(jets, target, score, count)
                accuracy.add_row(f"{target.name} {100 * epsilon:g} %, {score}", *row)
    CONSOLE.print(accuracy)
    if arguments.cascade_files:
        pair = stored_answers(arguments.project, arguments.cascade_files, arguments.cache)
        table = _table(
            f"Reject-only cascade, {arguments.signal} at 50 %, ≤ 1 % lost with 95 %, 99.9 % QCD, in %",
            ["tested", "limit", "lost by other half", "cost of full", "leave at exits"],
            "exits",
        )
        with_input, row = cascade(pair, arguments.signal)
        blocks, blocks_row = cascade(pair.with_exits(range(1, pair.exit_count)), arguments.signal)
        table.add_row("input, blocks", *row)
        table.add_row("blocks alone", *blocks_row)
        CONSOLE.print(table)
        inputless = ThresholdPolicy(
            blocks.policy.score,
            [math.inf, *blocks.policy.thresholds],
            None if blocks.policy.temperatures is None else [1.0, *blocks.policy.temperatures],
        )
        policies = {"input, blocks": with_input.policy, "blocks alone": inputless}
        CONSOLE.print(engine_times(arguments.project, arguments.cascade_files, policies, arguments.rounds))
    started = time.perf_counter()
    CONSOLE.print(splits_table(jets, pair, arguments))
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
