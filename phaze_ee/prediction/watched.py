"""``monitor.json``: what the audits of files of predictions, as they came, say about the promise of a policy."""

import math
import operator
from collections import defaultdict
from functools import reduce
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from phaze_ee.errors import UsageError
from phaze_ee.exits.moving import next_step, share_of_step
from phaze_ee.exits.policy_file import steps_hash
from phaze_ee.exits.sequence import SeenLosses, counts_of, log_capital, log_evidence
from phaze_ee.exits.starts import kept_starts, share_of
from phaze_ee.prediction.audited import AuditedJets, Selection, read_audited, values_of
from phaze_ee.prediction.columns import lost_column
from phaze_ee.prediction.writers import InputFile, Recipe, check_columns
from phaze_ee.results.base import Record, ResultsFile
from phaze_ee.shapes import Int

Verdict = Literal["kept so far", "kept so far for the selection", "broken", "not known yet"]


class WatchedFile(Record):
    """A file of jets that was predicted with an audit, and the losses among its jets.

    ``by`` has the losses for each value of a column, as text; None: they are not watched apart. ``step`` tells which
    policy of a sequence predicted the file, and ``safer`` what each safer one would have lost of the jets that were
    seen for certain and of those drawn.
    """

    input: InputFile
    losses: SeenLosses
    by: dict[str, SeenLosses] | None = None
    step: int = 0
    safer: list[tuple[int, int]] = Field(default_factory=list)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for certain_lost, drawn_lost in self.safer:
            if not (0 <= certain_lost <= self.losses.certain and 0 <= drawn_lost <= self.losses.drawn):
                raise ValueError("a safer policy loses more jets than were seen")
        return self

    def losses_of(self, step: int) -> SeenLosses:
        """Return the losses of the policy after a number of steps; its own if that one is not safer."""
        if step <= self.step:
            return self.losses
        certain_lost, drawn_lost = self.safer[step - self.step - 1]
        return self.losses.model_copy(update={"certain_lost": certain_lost, "drawn_lost": drawn_lost})

    def counts(self, steps: int) -> Int[np.ndarray, "R 4"]:
        """Return what was seen, as :attr:`SeenLosses.counts`, for each of R policies; 0 for those faster than its own.

        What they would have lost is not known, because not all of their exits were evaluated.
        """
        own_4 = self.losses.counts
        seen = [(own_4[0], lost[0], own_4[2], lost[1]) for lost in self.safer]
        unknown = [np.zeros(4, dtype=np.int64)] * self.step
        counts_R4: npt.NDArray[np.int64] = np.array([*unknown, own_4, *seen]).reshape(steps, 4)
        return counts_R4


class Move(Record):
    """A move from one policy of a sequence to a safer one, after a number of files and of jets.

    ``log10_evidence`` is the decimal logarithm of the evidence that the earlier one loses too much.
    """

    files: int
    jets: int
    before: int
    after: int
    log10_evidence: float


class MonitorResults(ResultsFile):
    """``monitor.json``. All else follows from the files, in the order in which they came.

    A jet is lost if it gets another class than from the full model. With a ``selection``, the jets that the full model
    selects count alone, and those of them are lost that the exits do not select.

    Attributes:
        model: the hash of the weights.
        policy: the hash of the policy.
        rate: the rate of the audits.
        epsilon: the limit of the risk.
        delta: the probability of a false alarm, at all looks together.
        exact: whether the share of losses is the promised risk; False: the share of other classes is never smaller,
            and a selection has background too.
        selection: the cut of the target; None: its risk is of all jets.
        exits: the number of exits, if only the jets that leave early count; None: all jets count.
        by: the column whose values are watched apart; None: none is.
        edges: of the bins of this column in which the promise holds; None: its values are watched themselves.
        steps: the hashes of the calibrated policy and of all safer ones, to which it moves; None: it does not move.
        files: the files.
    """

    model: str | None
    policy: str | None
    rate: float
    epsilon: float
    delta: float
    exact: bool
    selection: Selection | None = None
    exits: int | None = None
    by: str | None = None
    edges: list[float] | None = None
    steps: list[str] | None = None
    files: list[WatchedFile] = Field(default_factory=list)

    @model_validator(mode="after")
    def _check(self) -> Self:
        safer = 0 if self.steps is None else len(self.steps) - 1
        if self.steps is not None and any(file.step < 0 or file.step + len(file.safer) != safer for file in self.files):
            raise ValueError("a file does not have the losses of all safer policies")
        if any(own.rate != self.rate for file in self.files for own in (file.losses, *(file.by or {}).values())):
            raise ValueError("a file was audited at another rate")
        return self

    @property
    def totals(self) -> list[SeenLosses]:
        """The losses after each file, of all jets since the last move, by the policy after that move."""
        return [seen for part in self._parts for seen in accumulate(part)]

    @property
    def _parts(self) -> list[list[SeenLosses]]:
        """The losses in each file between two moves, by the policy after the first of them."""
        moves = self.moves
        starts = [0, *(move.files for move in moves), len(self.files)]
        steps = [0, *(move.after for move in moves)]
        return [
            [file.losses_of(step) for file in self.files[start:end]]
            for step, (start, end) in zip(steps, pairwise(starts), strict=True)
        ]

    @property
    def moves(self) -> list[Move]:
        """The moves to safer policies, as :mod:`phaze_ee.exits.moving` says."""
        if self.steps is None or not self.files:
            return []
        counts_LR4 = np.array([file.counts(len(self.steps)) for file in self.files])
        log_LR = log_evidence(counts_LR4, self.rate, self.epsilon)
        largest_LR, jets = np.maximum.accumulate(log_LR, axis=0), 0
        total_LR4 = np.concatenate([np.zeros_like(counts_LR4[:1]), counts_LR4]).cumsum(axis=0)
        found, now = list[Move](), 0
        for number, file in enumerate(self.files):
            jets += file.losses.jets
            now = max(now, file.step)
            seen_LR4, own = total_LR4[: number + 2], np.array(now)
            after = int(next_step(seen_LR4, own, largest_LR[number], self.rate, self.epsilon, self.delta))
            if after != now:
                evidence = float(largest_LR[number, now]) / math.log(10)
                found.append(Move(files=number + 1, jets=jets, before=now, after=after, log10_evidence=evidence))
                now = after
        return found

    @property
    def step(self) -> int:
        """How many steps safer than the calibrated policy the one is that the files ask for."""
        return max([0, *(move.after for move in self.moves), *(file.step for file in self.files)])

    @property
    def level(self) -> float:
        """The share of δ of the policy that is watched now, among those to which it moves."""
        return self.delta if self.steps is None else share_of_step(self.step, self.delta)

    @property
    def verdict(self) -> Verdict:
        """What the files so far say; with ``by``, of the values together. Once broken, a promise stays broken."""
        if self.steps is not None:
            return self._verdict_of_step(self.steps)
        if self.by is None:
            return self._verdict([file.losses for file in self.files], self.delta)
        verdicts = set(self._verdicts.values())
        return next((verdict for verdict in ("broken", "not known yet") if verdict in verdicts), self._kept)

    def _verdict_of_step(self, steps: list[str]) -> Verdict:
        """Return what the files since the last move say; the full model loses nothing, and is the last step."""
        if self.step == len(steps) - 1:
            return self._kept
        return self._verdict(self._parts[-1], self.level, moves=True)

    @property
    def sequences(self) -> dict[str, tuple[list[SeenLosses], float]]:
        """The losses after each file for each value of the column, and its share of δ.

        The k-th value that comes has the share δ / (k(k + 1)), so that the sum is at most δ for any number of values.
        """
        return {value: (list(accumulate(own)), delta) for value, (own, delta) in self._apart.items()}

    @property
    def _apart(self) -> dict[str, tuple[list[SeenLosses], float]]:
        """The losses in each file for each value of the column, and its share of δ."""
        losses: dict[str, list[SeenLosses]] = defaultdict(list)
        for file in self.files:
            for value, own in (file.by or {}).items():
                losses[value].append(own)
        numbered = enumerate(losses.items())
        return {value: (own, share_of_step(number, self.delta)) for number, (value, own) in numbered}

    @property
    def _verdicts(self) -> dict[str, Verdict]:
        return {value: self._verdict(own, delta) for value, (own, delta) in self._apart.items()}

    def verdict_of(self, value: str) -> Verdict:
        """Return what the files so far say about one value of the column."""
        return self._verdict(*self._apart[value])

    @property
    def _kept(self) -> Verdict:
        return "kept so far" if self.selection is None else "kept so far for the selection"

    def _verdict(self, files: list[SeenLosses], delta: float, *, moves: bool = False) -> Verdict:
        """Return what files say; a policy that moves does so instead of breaking its promise."""
        known, seen_L4 = math.log(1 / delta), counts_of(files)
        if self.exact and not moves and (log_evidence(seen_L4, self.rate, self.epsilon) >= known).any():
            return "broken"
        below = log_capital(seen_L4.sum(axis=0), self.rate, self.epsilon, above=False)
        return self._kept if below >= known else "not known yet"

    @property
    def worst_files(self) -> tuple[int, int, float] | None:
        """The first and last of the files, from 1, that say most that the promise is broken, and the share lost there.

        None if it is not broken, or if values of a column are watched, or a policy that moves.
        """
        if self.by is not None or self.steps is not None or self.verdict != "broken":
            return None
        losses = [file.losses for file in self.files]
        log_L = log_evidence(counts_of(losses), self.rate, self.epsilon)
        last = int(np.argmax(log_L >= math.log(1 / self.delta))) + 1
        found = {
            start: log_capital(counts_of(losses[start:last]).sum(axis=0), self.rate, self.epsilon, above=True)
            + math.log(share_of(start))
            for start in kept_starts(last)
            if start < last
        }
        first = max(found, key=lambda start: float(found[start]))
        first += int(np.argmax([own.jets > 0 for own in losses[first:last]]))  # files without jets show nothing
        return first + 1, last, reduce(operator.add, losses[first:last]).share

    def having(self, path: Path, classes: list[str]) -> "MonitorResults":
        """Return the results with a file of predictions; the same if the predictions of its jets were seen before.

        Raises:
            UsageError: it has no audit, or one with another rate; it is of another model or policy; or it is damaged.
        """
        manifest = read_audited(path)
        step = self._check_policy(path, manifest.recipe)
        assert manifest.recipe.audit is not None
        if manifest.recipe.audit.rate != self.rate:
            raise UsageError(
                f"{path} was audited at a rate of {manifest.recipe.audit.rate:g}, the files before at {self.rate:g}; "
                "watch it with another --output"
            )
        if any(file.input == manifest.input for file in self.files):
            return self
        check_columns(path, manifest)
        others = [lost_column(later) for later in range(step + 1, 0 if self.steps is None else len(self.steps))]
        exits, leaving = len(manifest.exits) - 1, self.exits is not None
        jets = AuditedJets(path, exits, self.rate, classes, self.selection, others, leaving=leaving)
        file = WatchedFile(
            input=manifest.input,
            losses=jets.losses(np.ones(manifest.jets, dtype=bool)),
            by=None if self.by is None else jets.by(values_of(path, manifest, self.by, self.edges)),
            step=step,
            safer=jets.lost_by_others(),
        )
        return self.model_copy(update={"files": [*self.files, file]})

    def _check_policy(self, path: Path, recipe: Recipe) -> int:
        """Return the step of the policy that predicted a file.

        Raises:
            UsageError: it is of another model or policy, or does not say what safer policies would have lost.
        """
        steps = [self.policy] if self.steps is None else self.steps
        for name, ours in (("model", [self.model]), ("policy", steps)):
            if getattr(recipe, name) not in ours:
                raise UsageError(f"{path} was predicted with another {name}; leave it out, or predict its jets again")
        if self.steps is not None and recipe.steps != steps_hash(self.steps):
            raise UsageError(
                f"{path} does not say what the safer policies would have lost, which --adapt needs; predict its jets "
                "again"
            )
        return 0 if recipe.policy is None else steps.index(recipe.policy)
