"""Tries attempts of all kinds, counts the verdicts and keeps each finding as a small case."""

import json
import random
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz import children
from tests.fuzz.answers import Answers, answers
from tests.fuzz.attempts import Attempt, Kind
from tests.fuzz.judge import REFUSED, RIGHT, snapshot, verdict
from tests.fuzz.scene import edit, restore

_MOST_CASES = 20  # kept of one kind and verdict


@dataclass(frozen=True)
class Outcome:
    """One run and its verdict; ``case`` is the folder where a finding is kept."""

    kind: str
    seed: str
    verdict: str
    seconds: float
    case: Path | None = None

    @property
    def is_finding(self) -> bool:
        """Whether something is wrong."""
        return self.verdict not in (RIGHT, REFUSED)


@dataclass
class Campaign:
    """Attempts in one folder, which holds the scene.

    Attributes:
        folder: with ``base``, the undamaged scene.
        cases: the folder for findings; None: they are not kept.
    """

    folder: Path
    cases: Path | None = None
    _known: dict[str, Answers] = field(default_factory=dict)
    _kept: Counter[str] = field(default_factory=Counter)

    def attempts(self, kinds: Sequence[Kind], seed: int) -> Iterator[tuple[Kind, str]]:
        """Yield kinds by their shares and the seeds of their attempts, without an end."""
        draw = random.Random(f"{seed}")
        names = [kind for kind in kinds for _ in range(kind.share)]
        number = 0
        while True:
            for kind in draw.sample(names, len(names)):
                yield kind, f"{seed}.{number}"
                number += 1

    def run(self, kind: Kind, seed: str) -> Outcome:
        """Make one attempt."""
        scene = restore(self.folder)
        attempt = kind.attempt(random.Random(f"{kind.name} {seed}"), scene)
        wanted = self._wanted(attempt)
        if wanted is not None and attempt.reference is None:  # the undamaged run replaced the scene
            scene = restore(self.folder)
            attempt = kind.attempt(random.Random(f"{kind.name} {seed}"), scene)
        before = snapshot(scene)
        done = children.run(attempt.arguments, self.folder)
        found = verdict(attempt, done, scene, before, wanted)
        outcome = Outcome(kind.name, seed, found, done.seconds)
        return self._kept_case(outcome, kind, attempt, done) if outcome.is_finding else outcome

    def _wanted(self, attempt: Attempt) -> Answers | None:
        """Return the answers that a run with status 0 must give, where they are known."""
        if isinstance(attempt.reference, Exception):
            return None
        if attempt.reference is not None:
            known: Answers = attempt.reference
            return known
        if not attempt.same:
            return None
        key = json.dumps([attempt.arguments, attempt.results, attempt.edits, attempt.removed])
        if key not in self._known:
            scene = restore(self.folder)
            edit(scene, attempt.edits)
            for name in attempt.removed:
                (scene / name).unlink()
            done = children.run(attempt.arguments, self.folder)
            if done.status:
                raise RuntimeError(f"{attempt.arguments} fails on the undamaged scene: {done.err}")
            self._known[key] = answers(scene, attempt.results)
        return self._known[key]

    def _kept_case(self, outcome: Outcome, kind: Kind, attempt: Attempt, done: children.Run) -> Outcome:
        """Keep the changed files, the command and what it said in a folder."""
        name = "".join(letter if letter.isalnum() else "_" for letter in outcome.verdict)[:40]
        group = f"{outcome.kind}_{name}"
        self._kept[group] += 1
        if self.cases is None or self._kept[group] > _MOST_CASES:
            return outcome
        case = self.cases / f"{group}_{outcome.seed}"
        shutil.rmtree(case, ignore_errors=True)
        case.mkdir(parents=True)
        scene, base = restore(self.folder), snapshot(self.folder / "base")
        kind.attempt(random.Random(f"{outcome.kind} {outcome.seed}"), scene)
        for path, digest in snapshot(scene).items():
            if base.get(path) != digest:
                (case / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(scene / path, case / path)
        text = (
            f"{outcome.verdict}\n{attempt.what}\nphaze_ee {attempt.arguments!r}\nstatus {done.status}, "
            f"{done.seconds:.1f} s\n\nagain: python tests/fuzz/run.py --kind {outcome.kind} --case {outcome.seed}\n\n"
            f"{done.err[-20_000:]}\n--- standard output ---\n{done.out[-3_000:]}\n"
        )
        (case / "report.txt").write_text(text, encoding="utf-8", errors="backslashreplace")
        return Outcome(outcome.kind, outcome.seed, outcome.verdict, outcome.seconds, case)


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the counts of each kind: runs, status 0, refused, tracebacks, hangs, silent differences, others."""
    head = ("kind", "runs", "ok", "refused", "tracebacks", "hangs", "silent", "others", "s/run")
    rows = [_row(name, [own for own in outcomes if own.kind == name]) for name in sorted({o.kind for o in outcomes})]
    lines = [head, *rows, _row("all", outcomes)]
    return "\n".join(
        f"{name:<14}"
        + "".join(f"{cell:>{max(len(title) + 2, 8)}}" for title, cell in zip(head[1:], cells, strict=True))
        for name, *cells in lines
    )


def _row(name: str, outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    def count(*beginnings: str) -> int:
        return sum(outcome.verdict.startswith(beginnings) for outcome in outcomes)

    named = [count(RIGHT), count(REFUSED), count("traceback"), count("hang"), count("silent", "not finite")]
    seconds = sum(outcome.seconds for outcome in outcomes) / max(len(outcomes), 1)
    return (name, str(len(outcomes)), *map(str, named), str(len(outcomes) - sum(named)), f"{seconds:.2f}")
