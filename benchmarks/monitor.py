"""Measures the verdicts of mode monitor on simulated streams of audited jets.

    python benchmarks/monitor.py LOGITS [--streams 1000] [--jets 200000] [--rate 0.1]

LOGITS is a file that ``benchmarks/drift.py --cache`` wrote. Two thirds of its jets leave early by confidence. A stream
draws jets from it with replacement; the jets that leave are audited with the given probability, or, in half of the
rows, for certain if their score is near the threshold (the nearest tenth). There are 50 looks at equal distances. The
share of jets with another class than from the full model is that of LOGITS, times a factor that the row names; the
limit ε is the share itself, so that "no change" is the worst case of a promise that is kept. δ = 5 %.

Columns: streams with the verdict "broken" at any look; streams whose limits held the share at all looks (without change
alone); the median number of jets from the change to the verdict; and the number of jets after which the best test that
knew the times of change and look has a power of 50 %: a normal test of the audits since the change, at 5 %.
"""

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.drift import thirds
from phaze_ee.exits.policies import exit_index
from phaze_ee.exits.sequence import SeenLosses, log_capital
from phaze_ee.tables.style import empty_table

DELTA, LOOKS = 0.05, 50
NORMAL_QUANTILE = 1.6449
WIDTHS_AT, WIDTH_STREAMS = (10_000, 100_000, 1_000_000), 10
Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Population:
    """Shares of jets that are seen for certain, and that are drawn; and of those of each that are lost."""

    certain: float
    certain_lost: float
    drawn_lost: float

    @property
    def share(self) -> float:
        return self.certain_lost + self.drawn_lost


def population(logits: torch.Tensor, *, near: bool) -> Population:
    """Return the shares for the policy of the benchmark of drift."""
    policy = thirds(logits)
    index_N = exit_index(policy, logits)
    left_N = index_N < len(logits) - 1
    own_NK = logits[index_N, torch.arange(len(index_N))]
    lost_N = own_NK.argmax(dim=1) != logits[-1].argmax(dim=1)
    margin_N = own_NK.softmax(dim=1).amax(dim=1) - torch.tensor([*policy.thresholds, -math.inf])[index_N]
    close_N = left_N & (margin_N < margin_N[left_N].quantile(0.1)) if near else torch.zeros_like(left_N)
    certain_N = ~left_N | close_N
    return Population(
        *(float(chosen_N.double().mean()) for chosen_N in (certain_N, certain_N & lost_N, ~certain_N & lost_N))
    )


def streams(
    jets: Population, factor_L: Shares, arguments: argparse.Namespace, random: np.random.Generator, step: int
) -> Counts:
    """Return for S streams what is seen between the L looks, (S, L, 4); the losses come ``factor`` times as often."""
    size = (arguments.streams, len(factor_L))
    certain_SL = random.binomial(step, jets.certain, size)
    certain_lost_SL = random.binomial(certain_SL, factor_L * jets.certain_lost / jets.certain)
    audited_SL = random.binomial(step - certain_SL, arguments.rate)
    drawn_lost_SL = random.binomial(audited_SL, factor_L * jets.drawn_lost / (1 - jets.certain))
    return np.stack([certain_SL, certain_lost_SL, audited_SL, drawn_lost_SL], axis=-1)


def normal_test(seen_SL4: Counts, rate: float, share: float) -> npt.NDArray[np.bool_]:
    """Return whether the estimate since a time that was known is above the share, at 5 %."""
    certain, certain_lost, drawn, drawn_lost = np.moveaxis(seen_SL4, -1, 0)
    total_SL = certain_lost - share * certain + (drawn_lost - share * drawn) / rate
    variance_SL = sum(
        (lost * (1 - share) ** 2 + (jets - lost) * share**2) / weight**2
        for weight, jets, lost in ((1.0, certain, certain_lost), (rate, drawn, drawn_lost))
    )
    passed_SL: npt.NDArray[np.bool_] = total_SL > NORMAL_QUANTILE * np.sqrt(variance_SL)
    return passed_SL


def run(jets: Population, factor_L: Shares, change: int, arguments: argparse.Namespace) -> list[str]:
    """Return the cells of a row: false or true alarms, coverage, and the times to detection."""
    step, rate, share = arguments.jets // LOOKS, arguments.rate, jets.share
    part_SL4 = streams(jets, factor_L, arguments, np.random.default_rng(1), step)
    seen_SL4 = part_SL4.cumsum(axis=1)
    above_SL = log_capital(seen_SL4, rate, share, above=True)
    broken_SL = above_SL >= math.log(1 / DELTA)
    alarms = f"{100 * broken_SL.any(axis=1).mean():.1f} %"
    if (factor_L == 1).all():
        most_SL = np.maximum(above_SL, log_capital(seen_SL4, rate, share, above=False))
        return [alarms, f"{100 * (most_SL < math.log(2 / DELTA)).all(axis=1).mean():.1f} %", "", ""]
    first_S = np.where(broken_SL.any(axis=1), (broken_SL.argmax(axis=1) + 1 - change) * step, math.inf)
    power_L = normal_test(part_SL4[:, change:].cumsum(axis=1), rate, share).mean(axis=0)
    times = float(np.median(first_S)), (float(power_L.searchsorted(0.5)) + 1) * step
    return [alarms, "", *(f"{time:,.0f}" for time in times)]


def show_verdicts(console: Console, logits: torch.Tensor, arguments: argparse.Namespace) -> None:
    place_L = (np.arange(LOOKS) + 0.5) / LOOKS
    half = LOOKS // 2
    rows = {
        "no change": (np.ones(LOOKS), 0),
        "× 1.5 from the start": (np.full(LOOKS, 1.5), 0),
        "jump to × 2 half-way": (np.where(np.arange(LOOKS) < half, 1.0, 2.0), half),
        "slowly to × 2": (1 + place_L, 0),
    }
    title = f"{arguments.streams:,} streams of {arguments.jets:,} jets, audit {arguments.rate:g}, {LOOKS} looks"
    table = empty_table(title, ["broken", "limits hold", "jets to it", "known time"], first="share")
    for near in (False, True):
        jets = population(logits, near=near)
        for name, (factor_L, change) in rows.items():
            table.add_row(f"{name}{', near' if near else ''}", *run(jets, factor_L, change, arguments))
        table.add_section()
    console.print(table)


def show_widths(console: Console, logits: torch.Tensor, arguments: argparse.Namespace) -> None:
    columns = [f"{count:,} jets" for count in WIDTHS_AT]
    table = empty_table("Width of the limits (95 %), at all looks and at one look", columns, first="audit")
    for near in (False, True):
        jets, cells = population(logits, near=near), []
        for count in WIDTHS_AT:
            seen_SL4 = streams(jets, np.ones(1), arguments, np.random.default_rng(2), count)[:WIDTH_STREAMS]
            widths = [high - low for low, high in (limits(seen_4, count, arguments.rate) for seen_4 in seen_SL4[:, 0])]
            variance = jets.certain_lost + jets.drawn_lost / arguments.rate
            cells.append(f"{100 * np.mean(widths):.2f}, {100 * 2 * 1.96 * math.sqrt(variance / count):.2f} %")
        table.add_row("near" if near else "at random", *cells)
    console.print(table)


def limits(seen_4: Counts, count: int, rate: float) -> tuple[float, float]:
    certain, certain_lost, drawn, drawn_lost = map(int, seen_4)
    seen = SeenLosses(
        rate=rate, jets=count, certain=certain, certain_lost=certain_lost, drawn=drawn, drawn_lost=drawn_lost
    )
    return seen.interval(DELTA)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logits", type=Path)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--jets", type=int, default=200_000)
    parser.add_argument("--rate", type=float, default=0.1)
    arguments = parser.parse_args()
    logits, console = torch.from_numpy(np.load(arguments.logits)["logits"]).double(), Console(width=80)
    console.print(f"Share of jets with another class: {100 * population(logits, near=False).share:.2f} %")
    show_verdicts(console, logits, arguments)
    show_widths(console, logits, arguments)


if __name__ == "__main__":
    main()
