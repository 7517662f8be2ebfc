"""Are the promises kept? Risks over many random splits, and what three policies cost.

    python benchmarks/guarantee.py WORKSPACE/PROJECT --files FILE ... [--cascade-files FILE ...]
        [--splits 200] [--calibration-jets 4000] [--signal label_Hbb] [--cache FOLDER]

PROJECT is a trained project with exits. Its network must not have seen the jets of FILE, which hold all classes. The
cascade is calibrated on one half of --cascade-files (signal and background alone will do) and judged on the other.
Answers of the network are kept in --cache, so that a second run costs nothing. For every random split, a policy is
calibrated on --calibration-jets jets and its risk is counted on all others.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

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
from phaze_ee.exits.answers import CalibrationJets
from phaze_ee.exits.calibrate import (
    Calibration,
    Settings,
    calibrate,
)
from phaze_ee.exits.policies import (
    ThresholdPolicy,
    temper,
)
from phaze_ee.exits.promise import (
    prior_weights,
    weighted_ratio,
)
from phaze_ee.exits.targets import (
    AccuracyDrop,
    Agreement,
    SignalEfficiency,
    Target,
)
from phaze_ee.models.checkpoint import load_checkpoint
from phaze_ee.types import (
    JetBatch,
    RaggedJets,
)
from phaze_ee.workspace import existing_project

DELTA = 0.05
QCD_SHARE = 0.999
CONSOLE = Console(width=80)


def answers(project: str, files: Sequence[Path], cache: Path) -> CalibrationJets:
    """Return the answers of all exits, from the cache where they are."""
    model = existing_project(*project.split("/")).best_model
    path = cache / f"{model.stat().st_mtime_ns}_{'_'.join(sorted({file.parent.name for file in files}))}.npz"
    checkpoint = load_checkpoint(model)
    schema = DataSchema.from_options(checkpoint.data_options)
    if not path.is_file():
        predictions = predict(checkpoint.tagger, evaluation_loader(schema, files, batch_size=1000), schema.class_names)
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(
            path,
            logits=predictions.logits_ENK,
            label=predictions.label_N,
            count=predictions.particle_count_N,
        )
    stored = np.load(path)
    macs_EN = checkpoint.tagger.fastest_form().exit_macs(torch.from_numpy(stored["count"])).double().numpy()
    return CalibrationJets(
        torch.from_numpy(stored["logits"]).double(),
        stored["label"],
        macs_EN / macs_EN[-1].mean(),
        np.ones(len(stored["label"])),
        schema.class_names,
        float(macs_EN[-1].mean()),
    )


def tempered(jets: CalibrationJets, policy: ThresholdPolicy) -> CalibrationJets:
    return replace(jets, logits_ENK=temper(policy, jets.logits_ENK))


def over_splits(jets: CalibrationJets, target: Target, count: int, splits: int) -> list[str]:
    """Return one row: how often the promise was broken, and the mean risk and cost."""
    risks: list[list[float]] = []
    costs, full = [], 0
    for split in range(splits):
        order = np.random.default_rng(split).permutation(len(jets))
        result = calibrate(jets.select(order[:count]), Settings(target, delta=DELTA, seed=split))
        others = tempered(jets.select(order[count:]), result.policy)
        index_N = others.exit_index(result.policy)
        observed = [(risk.observed(index_N), risk.epsilon) for risk in result.target.risks(others)]
        risks.append([lost / max(of, 1) / epsilon for (lost, of), epsilon in observed])
        costs.append(others.mean_cost(index_N))
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


def splits_table(jets: CalibrationJets, pair: CalibrationJets | None, arguments: argparse.Namespace) -> Table:
    point = partial(SignalEfficiency, signal=arguments.signal, background="label_QCD", background_growth=0.5)
    count, signal = arguments.calibration_jets, arguments.signal.removeprefix("label_")
    rows: list[tuple[str, Target, CalibrationJets, int]] = [
        ("accuracy_drop 1 %", AccuracyDrop(epsilon=0.01), jets, count),
        ("accuracy_drop 2 %", AccuracyDrop(epsilon=0.02), jets, count),
        ("agreement 2 %", Agreement(epsilon=0.02), jets, count),
        ("agreement 5 %", Agreement(epsilon=0.05), jets, count),
        (f"{signal} 50 %, reject, 5 %", point(epsilon=0.05, efficiency=0.5, form="reject"), jets, count),
        (f"{signal} 90 %, reject, 5 %", point(epsilon=0.05, efficiency=0.9, form="reject"), jets, count),
    ]
    if pair is not None:
        both = point(epsilon=0.02, efficiency=0.99, form="two_sided")
        rows.append((f"{signal} 99 %, two-sided, 2 %", both, pair, len(pair) // 2))
    table = _table(
        f"{arguments.splits} random splits, δ = {DELTA}",
        ["jets", "broken", "allowed", "risk / ε", "cost, %", "full"],
        "",
    )
    for name, target, sample, calibrating in rows:
        table.add_row(name, f"{calibrating:,}", *over_splits(sample, target, calibrating, arguments.splits))
    table.caption = (
        "jets: that calibrate, the others judge; broken: splits with a risk above ε;\nallowed: in 97.5 % of cases; "
        "risk / ε: mean; full: fell back to the full model"
    )
    return table


def without_exit(jets: CalibrationJets, exit_: int) -> CalibrationJets:
    """Return the answers as if one exit were not there, its head's cost included."""
    rows = [index for index in range(len(jets.logits_ENK)) if index != exit_]
    cost_EN = jets.cost_EN[rows] - (jets.cost_EN[exit_] if exit_ == 0 else 0.0)
    return replace(jets, logits_ENK=jets.logits_ENK[rows], cost_EN=cost_EN)


def halves(jets: CalibrationJets) -> tuple[CalibrationJets, CalibrationJets]:
    order = np.random.default_rng(0).permutation(len(jets))
    return jets.select(order[::2]), jets.select(order[1::2])


def cascade(jets: CalibrationJets, signal: str) -> tuple[Calibration, list[str]]:
    """Calibrate the reject-only cascade on one half for a trigger's mix; return it and a row on the other half."""
    prior = {"label_QCD": QCD_SHARE, signal: 1 - QCD_SHARE}
    ours = jets.select(np.flatnonzero(np.isin(jets.label_N, [jets.class_names.index(name) for name in prior])))
    first, second = (
        replace(half, weight_N=prior_weights(half.label_N, half.class_names, prior)) for half in halves(ours)
    )
    target = SignalEfficiency(
        epsilon=0.01, signal=signal, background="label_QCD", efficiency=0.5, background_growth=0.05, form="reject"
    )
    result = calibrate(first, Settings(target, delta=DELTA))
    judged = tempered(second, result.policy)
    index_N = judged.exit_index(result.policy)
    lost, of = result.target.risks(judged)[0].observed(index_N)
    share, error = weighted_ratio(judged.at_exit(judged.cost_EN, index_N), judged.full_cost_N, judged.weight_N)
    left = [
        weighted_ratio((index_N == index).astype(float), np.ones(len(judged)), judged.weight_N)[0]
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


def accuracy_row(jets: CalibrationJets, epsilon: float, score: str) -> list[str]:
    first, second = halves(jets)
    result = calibrate(first, Settings(AccuracyDrop(epsilon=epsilon), score=score, delta=DELTA))
    judged = tempered(second, result.policy)
    index_N = judged.exit_index(result.policy)
    right_N = judged.at_exit(judged.correct_EN, index_N).astype(float)
    drop_N = judged.correct_EN[-1] - right_N
    lost, of = result.target.risks(judged)[0].observed(index_N)
    return [
        f"{result.risks[0].lost}/{result.risks[0].jets}",
        f"{100 * lost / of:.2f}",
        f"{100 * drop_N.mean():.2f} ± {100 * drop_N.std() / math.sqrt(len(drop_N)):.2f}",
        f"{100 * judged.mean_cost(index_N) / judged.full_cost_N.mean():.1f}",
    ]


def engine_times(project: str, files: Sequence[Path], policies: dict[str, ThresholdPolicy], rounds: int) -> Table:
    """Time the engine on a trigger's mix, the policies and the full model in turn."""
    tagger = phaze_ee.load(project)
    schema = DataSchema.from_options(load_checkpoint(existing_project(*project.split("/")).best_model).data_options)
    jets = trigger_mix(evaluation_loader(schema, files, batch_size=1000), schema.class_names.index("label_QCD"))
    runs: dict[str, Callable[[], object]] = {"full model": partial(phaze_ee.Engine(tagger, threads=2), jets)}
    runs |= {name: partial(phaze_ee.Engine(tagger, policy, threads=2), jets) for name, policy in policies.items()}
    rates = race(runs, len(jets), rounds)
    table = _table(f"Engine on {len(jets):,} jets, 99.9 % QCD, 2 threads, CPU", ["jets/s", "time, % of full"], "policy")
    for name, rate in rates.items():
        table.add_row(name, f"{rate:,.0f}", f"{100 * rates['full model'] / rate:.2f}")
    return table


def trigger_mix(batches: Iterable[JetBatch], background: int) -> RaggedJets:
    """Return all jets of the background and, for a thousand of these, one other."""
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
    parser.add_argument("--signal", default="label_Hbb")
    parser.add_argument("--cache", type=Path, default=Path("guarantee_cache"))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    jets, pair = answers(arguments.project, arguments.files, arguments.cache), None
    accuracy = _table(
        f"accuracy_drop, one half of {len(jets):,} jets calibrates, the other judges, in %",
        ["lost of tested", "made wrong", "accuracy lost", "cost of full"],
        "target",
    )
    for epsilon, score in ((0.002, "confidence"), (0.002, "gate"), (0.01, "confidence"), (0.01, "gate")):
        accuracy.add_row(f"≤ {100 * epsilon:g} %, {score}", *accuracy_row(jets, epsilon, score))
    CONSOLE.print(accuracy)
    if arguments.cascade_files:
        pair = answers(arguments.project, arguments.cascade_files, arguments.cache)
        table = _table(
            f"Reject-only cascade, {arguments.signal} at 50 %, ≤ 1 % lost with 95 %, 99.9 % QCD, in %",
            ["tested", "limit", "lost by other half", "cost of full", "leave at exits"],
            "exits",
        )
        with_input, row = cascade(pair, arguments.signal)
        blocks, blocks_row = cascade(without_exit(pair, 0), arguments.signal)
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
