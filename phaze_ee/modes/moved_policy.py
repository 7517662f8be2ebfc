"""The policy that mode monitor moves to safer thresholds: its file, beside the calibrated one, and the log of moves."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from phaze_ee.atomic import replacing
from phaze_ee.errors import UsageError
from phaze_ee.exits.policy_file import ExitPolicyFile, KeptPolicy
from phaze_ee.exits.targets import Agreement
from phaze_ee.locks import held
from phaze_ee.modes.console import say, say_in_columns, say_written
from phaze_ee.modes.policies import ADAPTED, activate, active_name
from phaze_ee.names import quantity, short
from phaze_ee.prediction.watched import Move
from phaze_ee.workspace import Project

LOG = "moves.jsonl"


def check_can_move(kept: KeptPolicy) -> None:
    """Check that audits tell whether a policy loses too much, and that it has safer ones.

    Raises:
        UsageError: they do not, or it has none.
    """
    if not isinstance(kept.file.target, Agreement):
        raise UsageError(
            f"--adapt needs a policy of target agreement; without labels nothing shows that policy {kept.name} (target "
            f"{kept.file.target.name}) loses too much"
        )
    if kept.file.guarantee.conditions.leaving:
        raise UsageError(
            f"--adapt compares losses among all jets, and the promise of policy {kept.name} is about those that leave "
            "early; run it without --adapt, or calibrate without --leaving"
        )
    if not kept.file.safer:
        raise UsageError(
            f"policy {kept.name} has no safer policies to move to, as it was calibrated by an older version; run mode "
            "'calibrate' again"
        )


def calibrated_name(kept: KeptPolicy) -> str:
    """Return the name of the policy that was calibrated, of one that has moved or not."""
    return kept.name if kept.file.moved_from is None else kept.file.moved_from.name


def moved_name(kept: KeptPolicy) -> str:
    """Return the name of the policy that moves."""
    return f"{calibrated_name(kept)}.{ADAPTED}"


def write_moved(project: Project, kept: KeptPolicy, step: int) -> None:
    """Write the policy after a number of steps under its own name, and say so; a safer one that is there stays.

    If that policy is the active one, it stays active. Monitors of other states may move the same policy.

    Raises:
        UsageError: the file of that name is damaged.
        RunError: a file cannot be written.
    """
    with held(project.policies / f".{ADAPTED}.lock", "monitor", say):
        _write_moved(project, kept, step)


def _write_moved(project: Project, kept: KeptPolicy, step: int) -> None:
    name = moved_name(kept)
    path = project.policy(name)
    older = ExitPolicyFile.read(path, made_by="monitor") if path.is_file() else None
    if older is not None and older.steps == kept.file.steps and older.model_hash == kept.file.model_hash:
        if older.step > step:
            say_in_columns(
                f"Note:    policy {name} has moved further, by {quantity(older.step, 'step')}, and stays so: a faster "
                "policy needs a new calibration"
            )
        if older.step >= step:
            return
    elif older is not None:
        say(f"Note:    {path} was of another calibration, and is replaced")
    active = active_name(project) == name
    kept.file.moved(max(step, kept.file.step), calibrated_name(kept)).write(path)
    if active:
        activate(project, name)
    say_written(path, ", the active policy" if active else "")


def log_moves(path: Path, kept: KeptPolicy, moves: Sequence[Move]) -> None:
    """Say moves, and append those that are not there to a log, one JSON object in a line.

    Raises:
        UsageError: the log is damaged.
        RunError: it cannot be written.
    """
    for move in moves:
        say_in_columns(f"Moved:   {_said(kept.file, move)}")
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        known = [{**json.loads(line), "time": None} for line in lines]
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(f"{path} is damaged, and was kept; move it away") from error
    new = [entry for move in moves if {**(entry := _entry(kept, move)), "time": None} not in known]
    if new:
        with replacing(path) as temporary:
            temporary.write_text("\n".join([*lines, *map(json.dumps, new)]) + "\n", encoding="utf-8")
        say_written(path)


def _said(file: ExitPolicyFile, move: Move) -> str:
    before, after = (
        ", ".join(map(short, file.policy_at(step).thresholds)) if step >= file.step else f"step {step}"
        for step in (move.before, move.after)
    )
    return (
        f"from step {move.before} to step {move.after} of {len(file.safer)}, after {quantity(move.files, 'file')} "
        f"({move.jets:,} jets), with evidence of 10^{move.log10_evidence:.1f}: thresholds {before} → {after}"
    )


def _entry(kept: KeptPolicy, move: Move) -> dict[str, Any]:
    file = kept.file
    thresholds = {
        f"thresholds_{when}": list(file.policy_at(step).thresholds) if step >= file.step else None
        for when, step in (("before", move.before), ("after", move.after))
    }
    decisions = {"decisions_before": file.steps[move.before], "decisions_after": file.steps[move.after]}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"time": now, "policy": calibrated_name(kept), **move.model_dump(), **thresholds, **decisions}
