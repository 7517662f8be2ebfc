"""Says what a run was: right, refused as it should be, or a finding."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from tests.fuzz.answers import Answers, agree, answers, not_finite
from tests.fuzz.attempts import Attempt
from tests.fuzz.children import Run

RIGHT, REFUSED = "right", "refused"
CANARY = "canary"  # a file that only code in an input would make
_LONGEST = 420  # characters of a line of error
_ERROR = re.compile(r"phaze_ee: error: .+")
_LOGGED = re.compile(r"(WARNING|INFO): .+|\s*")
_TEMPORARY = re.compile(r"\..+\.\d+\.tmp[0-9a-f]+(\..*)?")
_WRITERS = ("train", "convert", "chain", "retrofit", "sweep", "new_project")  # keep complete parts when they fail
_FAILED = re.compile(r".*/results/policies/[^/]+\.failed\.json")
_POLICY = re.compile(r".*/results/(exit_policy|policies/default)\.json")
_NO_POLICY = "the active policy is now the full model"

Snapshot = Mapping[str, str]


def snapshot(scene: Path) -> Snapshot:
    """Return a hash of every file."""
    return {
        str(path.relative_to(scene)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in scene.rglob("*")
        if path.is_file()
    }


def is_temporary(name: str) -> bool:
    """Return whether a file has a name of those that are renamed when they are complete."""
    return _TEMPORARY.fullmatch(name) is not None


def verdict(attempt: Attempt, run: Run, scene: Path, before: Snapshot, wanted: Answers | None) -> str:
    """Return ``RIGHT``, ``REFUSED`` or what is wrong.

    Args:
        attempt: what was tried.
        run: how the command ended.
        scene: what it left.
        before: the files before the run, changed by the attempt.
        wanted: the answers of a run with status 0, where they are known.
    """
    if (scene / CANARY).exists():
        return "code executed"
    if run.hung:
        return "hang"
    if "Traceback" in run.err or "Traceback" in run.out or "Exception ignored" in run.err:
        return "traceback"
    if run.status not in (0, 1, 2):
        return f"signal {-run.status}" if run.status < 0 else f"status {run.status}"
    after = snapshot(scene)
    left = [name for name in after if is_temporary(Path(name).name)]
    if left:
        return f"left behind: {left[0]}"
    if run.status:
        return _refusal(attempt, run, before, after)
    found = answers(scene, attempt.results)
    if not_finite(found):
        return f"not finite: {not_finite(found)}"
    if isinstance(attempt.reference, Exception):
        return f"silent difference: the reference raises {type(attempt.reference).__name__}"
    if wanted is not None and not agree(found, wanted, 0.0 if attempt.reference is None else 1e-6):
        return "silent difference"
    return RIGHT


def _refusal(attempt: Attempt, run: Run, before: Snapshot, after: Snapshot) -> str:
    lines = run.err.splitlines()
    errors = [line for line in lines if not _LOGGED.fullmatch(line)]
    if len(errors) != 1 or not _ERROR.fullmatch(errors[0]):
        return f"{len(errors)} lines of error"
    if len(errors[0]) > _LONGEST:
        return f"{len(errors[0])} characters of error"
    kept = {name for name in {*before, *after} if not name.startswith(tuple(attempt.scratch) or "\0")}
    changed = sorted(name for name in kept if before.get(name) != after.get(name))
    if "calibrate" in attempt.arguments:  # a calibration that keeps no promise is written beside the policies
        changed = [name for name in changed if not _FAILED.fullmatch(name)]
        if _NO_POLICY in errors[0]:  # that of another model is replaced
            changed = [name for name in changed if not _POLICY.fullmatch(name)]
    if changed and not set(_WRITERS) & set(attempt.arguments):
        return f"changed though it failed: {changed[0]}"
    return REFUSED
