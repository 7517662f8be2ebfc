"""Measures the verdicts and the moves of mode monitor on simulated streams of audited jets.

    python benchmarks/monitor.py LOGITS [--streams 1000] [--jets 100000 1000000 10000000] [--rate 0.1]

LOGITS is a file that ``benchmarks/drift.py --cache`` wrote. Two thirds of its jets leave early by confidence. A stream
draws jets from it with replacement; the jets that leave are audited with the given probability, or, in the rows "near",
for certain if their score is near the threshold (the nearest tenth). There are 100 looks at equal distances. The share
of jets with another class than from the full model is that of LOGITS, times a factor that the row names; the limit ε is
the share itself, so that "no change" is the worst case of a promise that is kept. δ = 5 %. Only the numbers of jets of
each kind matter, so that they are drawn instead of the jets.

Verdicts: streams with the verdict "broken" at any look; streams whose limits held the share at all looks (without
change alone); the median number of jets from the change to the verdict; and the number of jets after which the best
test that knew the times of change and look has a power of 50 %: a normal test of the audits since the change, at 5 %.

Moves: the policy has eight safer ones, whose thresholds are 1/8, 2/8 … of the way to 1 higher, the last being the full
model. Streams that moved at any look; the median number of jets from the change to the first move; the share of jets
after the change that are lost above ε, without and with moves, and its bound (docs/EXITS.md); streams whose last policy
loses at most ε.
"""

import argparse
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.drift import thirds
from phaze_ee.exits.moving import next_step, share_of_step
from phaze_ee.exits.policies import ThresholdPolicy, exit_index
from phaze_ee.exits.sequence import SeenLosses, log_capital, log_evidence, log_evidence_now
from phaze_ee.exits.starts import share_of
from phaze_ee.tables.style import empty_table

DELTA, LOOKS, STEPS = 0.05, 100, 8
NORMAL_QUANTILE = 1.6449
WIDTHS_AT, WIDTH_STREAMS = (10_000, 100_000, 1_000_000, 10_000_000), 10
JUMPS = {100_000: 2.0, 1_000_000: 1.5, 10_000_000: 1.2}  # larger changes are found within a look or two
BETS = 40
Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Kinds:
    """Kinds of jets: how many there are of each, which policies lose them, and which see them for certain.

    Attributes:
        share_Q: the share of each of Q kinds among all jets.
        lost_QR: which of R policies lose its jets, or would.
        certain_RQ: whether its jets are seen for certain, if a policy runs.
    """

    share_Q: Shares
    lost_QR: npt.NDArray[np.bool_]
    certain_RQ: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, logits: torch.Tensor, *, near: bool) -> Self:
        """Count the jets of the policy of the benchmark of drift, of safer ones and of the full model."""
        first = thirds(logits)
        found = [cls._of_policy(logits, first, step / STEPS, near=near) for step in range(STEPS + 1)]
        lost_NR, certain_NR = (np.stack(columns, axis=1) for columns in zip(*found, strict=True))
        kinds_QX, count_Q = np.unique(np.hstack([lost_NR, certain_NR]), axis=0, return_counts=True)
        lost_QR, certain_QR = np.split(kinds_QX, 2, axis=1)
        return cls(count_Q / count_Q.sum(), lost_QR, certain_QR.T)

    @staticmethod
    def _of_policy(
        logits: torch.Tensor, first: ThresholdPolicy, raised: float, *, near: bool
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        thresholds = [value + (1 - value) * raised if raised < 1 else math.inf for value in first.thresholds]
        index_N = exit_index(ThresholdPolicy(first.score, thresholds), logits)
        left_N = index_N < len(logits) - 1
        own_NK = logits[index_N, torch.arange(len(index_N))]
        margin_N = own_NK.softmax(dim=1).amax(dim=1) - torch.tensor([*thresholds, -math.inf])[index_N]
        close_N = left_N & (margin_N < margin_N[left_N].quantile(0.1)) if near and left_N.any() else left_N & False
        return (own_NK.argmax(dim=1) != logits[-1].argmax(dim=1)).numpy(), (~left_N | close_N).numpy()

    @property
    def share(self) -> float:
        """The share of the jets that the first policy loses."""
        return float(self.share_Q @ self.lost_QR[:, 0])

    def times(self, factor: float) -> Shares:
        """Return the shares of the kinds if the jets that the first policy loses come ``factor`` times as often."""
        rest = (1 - factor * self.share) / (1 - self.share)
        return np.where(self.lost_QR[:, 0], factor, rest) * self.share_Q

    def drawn(
        self, random: np.random.Generator, step: int, factor: float, size: tuple[int, int], rate: float
    ) -> Counts:
        """Return what is seen among some jets in S streams in which a policy runs, (S, R, 4).

        Args:
            random: draws.
            step: the number of the policy.
            factor: how many times as often its losses come.
            size: the number of streams, and of jets of each.
            rate: the rate of the audits.
        """
        jets_SQ = random.multinomial(size[1], self.times(factor), size=size[0])
        certain_Q = self.certain_RQ[step]
        certain_SQ = jets_SQ * certain_Q
        drawn_SQ = random.binomial(jets_SQ, np.where(certain_Q, 0.0, rate))
        steps = self.lost_QR.shape[1]
        seen_SR4 = np.zeros((size[0], steps, 4), dtype=np.int64)
        for place, seen_SQ in ((0, certain_SQ), (2, drawn_SQ)):
            seen_SR4[..., place] = seen_SQ.sum(axis=1)[:, None]
            seen_SR4[..., place + 1] = seen_SQ @ self.lost_QR
        seen_SR4[:, :step] = 0  # what faster policies lose is not known
        return seen_SR4


@dataclass(frozen=True)
class Change:
    """By which factor losses come more often at each look, and the first look after the change."""

    name: str
    factor_L: Shares
    change: int

    @classmethod
    def all_for(cls, jets: int) -> list[Self]:
        half, jump, place_L = LOOKS // 2, JUMPS.get(jets, 1.5), (np.arange(LOOKS) + 0.5) / LOOKS
        return [
            cls("no change", np.ones(LOOKS), 0),
            cls(f"jump, × {jump:g}, half-way", np.where(np.arange(LOOKS) < half, 1.0, jump), half),
            cls(f"slowly to × {jump:g}", 1 + (jump - 1) * place_L, 0),
        ]


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


def verdicts(kinds: Kinds, change: Change, jets: int, arguments: argparse.Namespace) -> list[str]:
    """Return the cells of a row: false or true alarms, coverage, and the times to detection."""
    step, rate, share, random = jets // LOOKS, arguments.rate, kinds.share, np.random.default_rng(1)
    size = (arguments.streams, step)
    part_LS4 = np.stack([kinds.drawn(random, 0, factor, size, rate)[:, 0] for factor in change.factor_L])
    broken_LS = log_evidence(part_LS4, rate, share) >= math.log(1 / DELTA)
    alarms = f"{100 * broken_LS.any(axis=0).mean():.1f} %"
    if (change.factor_L == 1).all():
        seen_LS4 = part_LS4.cumsum(axis=0)
        most_LS = np.maximum(*(log_capital(seen_LS4, rate, share, above=above) for above in (True, False)))
        return [alarms, f"{100 * (most_LS < math.log(2 / DELTA)).all(axis=0).mean():.1f} %", "", ""]
    first_S = np.where(broken_LS.any(axis=0), (broken_LS.argmax(axis=0) + 1 - change.change) * step, math.inf)
    power_L = normal_test(part_LS4[change.change :].cumsum(axis=0), rate, share).mean(axis=1)
    times = float(np.median(first_S)), (float((power_L >= 0.5).argmax()) + 1) * step
    return [alarms, "", *(f"{time:,.0f}" for time in times)]


def moves(kinds: Kinds, change: Change, jets: int, arguments: argparse.Namespace) -> list[str]:
    """Return the cells of a row: moves, the time to the first, and what is lost above the limit after the change."""
    count, step, rate, share = arguments.streams, jets // LOOKS, arguments.rate, kinds.share
    random, steps = np.random.default_rng(1), STEPS + 1
    total_LSR4 = np.zeros((LOOKS + 1, count, steps, 4), dtype=np.int64)
    largest_SR, step_LS = np.full((count, steps), -np.inf), np.zeros((LOOKS + 1, count), dtype=np.int64)
    for look, factor in enumerate(change.factor_L):
        for now in np.unique(step_LS[look]):
            own_S = step_LS[look] == now
            total_LSR4[look + 1, own_S] = kinds.drawn(random, int(now), factor, (int(own_S.sum()), step), rate)
        total_LSR4[look + 1] += total_LSR4[look]
        so_far_LSR4 = total_LSR4[: look + 2]
        largest_SR = np.maximum(largest_SR, log_evidence_now(so_far_LSR4, rate, share))
        step_LS[look + 1] = next_step(so_far_LSR4, step_LS[look], largest_SR, rate, share, DELTA)
    moved_LS = step_LS[1:] > 0
    alarms = f"{100 * moved_LS.any(axis=0).mean():.1f} %"
    if (change.factor_L == 1).all():
        return [alarms, "", "", "", ""]
    first_S = np.where(moved_LS.any(axis=0), (moved_LS.argmax(axis=0) + 1 - change.change) * step, math.inf)
    excess_LR = np.stack([kinds.times(factor) @ kinds.lost_QR - share for factor in change.factor_L])
    running_LS = np.take_along_axis(excess_LR, step_LS[:-1], axis=1)[change.change :]
    without = excess_LR[change.change :, 0].mean()
    return [
        alarms,
        f"{float(np.median(first_S)):,.0f}",
        f"{100 * without:.2f}, {100 * running_LS.mean(axis=0).mean():.2f} %",
        f"{100 * bound(share, without, rate, jets, change):.2f} %" if change.change else "",
        f"{100 * (excess_LR[-1][step_LS[-1]] <= 0).mean():.1f} %",
    ]


def bound(share: float, excess: float, rate: float, jets: int, change: Change) -> float:
    """Return the share above the limit that can be lost before the first move, with a probability of 95 %.

    The bet that counts begins after the change, when at most half of the jets since then have come.
    """
    bet = jets * (LOOKS - change.change) / LOOKS / 2
    known = math.log(BETS / (share_of_step(0, DELTA) * share_of(LOOKS) * DELTA))
    return min(excess, 2 * math.sqrt((share + excess) * known / (rate * bet)))


def show_streams(console: Console, logits: torch.Tensor, arguments: argparse.Namespace) -> None:
    for jets in arguments.jets:
        title = f"{arguments.streams:,} streams of {jets:,} jets, audit {arguments.rate:g}, {LOOKS} looks"
        table = empty_table(title, ["broken", "limits hold", "jets to it", "known time"], first="share")
        adapt = empty_table("The same with --adapt", ["moved", "jets to it", "above ε", "bound", "ends ≤ ε"], "share")
        started = time.perf_counter()
        for near in (False, True):
            kinds = Kinds.of(logits, near=near)
            for change in Change.all_for(jets):
                name = f"{change.name}{', near' if near else ''}"
                table.add_row(name, *verdicts(kinds, change, jets, arguments))
                if not near:
                    adapt.add_row(name, *moves(kinds, change, jets, arguments))
        console.print(table, adapt, f"{time.perf_counter() - started:.0f} s\n")


def show_widths(console: Console, logits: torch.Tensor, arguments: argparse.Namespace) -> None:
    columns = [f"{count:,} jets" for count in WIDTHS_AT]
    table = empty_table("Width of the limits (95 %), at all looks and at one look", columns, first="audit")
    for near in (False, True):
        kinds, cells = Kinds.of(logits, near=near), []
        certain_Q, lost_Q = kinds.certain_RQ[0], kinds.lost_QR[:, 0]
        variance = float(kinds.share_Q @ (lost_Q / np.where(certain_Q, 1, arguments.rate)))
        for count in WIDTHS_AT:
            seen_S4 = kinds.drawn(np.random.default_rng(2), 0, 1.0, (WIDTH_STREAMS, count), arguments.rate)[:, 0]
            widths = [high - low for low, high in (limits(seen_4, count, arguments.rate) for seen_4 in seen_S4)]
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
    parser.add_argument("--jets", type=int, nargs="+", default=list(JUMPS))
    parser.add_argument("--rate", type=float, default=0.1)
    arguments = parser.parse_args()
    logits, console = torch.from_numpy(np.load(arguments.logits)["logits"]).double(), Console(width=80)
    kinds = Kinds.of(logits, near=False)
    lost = ", ".join(f"{100 * share:.2f}" for share in kinds.share_Q @ kinds.lost_QR)
    console.print(f"Jets with another class: {lost} % for the policy and the safer ones; {len(kinds.share_Q)} kinds")
    show_streams(console, logits, arguments)
    show_widths(console, logits, arguments)


if __name__ == "__main__":
    main()
