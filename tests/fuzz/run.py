"""Fuzzes the command for a while and prints a table of the verdicts.

    python tests/fuzz/run.py --seconds 3600 [--seed 1] [--kind root …] [--runs 10000] [--cases FOLDER]
    python tests/fuzz/run.py --kind root --case 1.234

Each finding is kept in a folder, with the changed files, the command, what it said, and how to try it again.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.fuzz.campaign import Campaign, Outcome, table
from tests.fuzz.kills import kill_all
from tests.fuzz.kinds import KINDS
from tests.fuzz.scene import build


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz; return 1 if there was a finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--runs", type=int, default=10**9)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", nargs="+", choices=[kind.name for kind in KINDS])
    parser.add_argument("--case", help="one attempt, as reports name it")
    parser.add_argument("--kills", type=int, default=0, help="kill train, convert, calibrate, predict so often, too")
    parser.add_argument("--cases", type=Path, default=Path("fuzz_cases"), help="folder for findings")
    given = parser.parse_args(arguments)
    kinds = [kind for kind in KINDS if given.kind is None or kind.name in given.kind]
    with tempfile.TemporaryDirectory(prefix="phaze_ee_fuzz_", ignore_cleanup_errors=True) as folder:
        build(Path(folder))
        campaign = Campaign(Path(folder), given.cases)
        pairs = campaign.attempts(kinds, given.seed) if given.case is None else iter([(kinds[0], given.case)])
        outcomes: list[Outcome] = []
        started = time.monotonic()
        with suppress(KeyboardInterrupt):  # Ctrl-C ends it, with the table
            for kind, seed in pairs:
                if time.monotonic() - started > given.seconds or len(outcomes) == given.runs:
                    break
                outcomes.append(campaign.run(kind, seed))
                if outcomes[-1].is_finding:
                    print(f"{kind.name} {seed}: {outcomes[-1].verdict}  {outcomes[-1].case or ''}", flush=True)
        print(table(outcomes))
        good = kill_all(Path(folder), given.kills, given.seed) if given.kills else True
    return int(any(outcome.is_finding for outcome in outcomes) or not good)


if __name__ == "__main__":
    sys.exit(main())
