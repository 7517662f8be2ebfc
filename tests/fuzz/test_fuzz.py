"""The fuzzer for about a minute, always with the same inputs, and a few kills, on one scene.

``tests/fuzz/run.py`` and ``tests/fuzz/kills.py`` try more.
"""

from itertools import islice
from pathlib import Path

import pytest

from tests.fuzz.campaign import Campaign
from tests.fuzz.kills import COMMANDS, kill, undisturbed
from tests.fuzz.kinds import KINDS

SEED, RUNS = 20, 120


def test_no_input_breaks_the_command(scene: Path) -> None:
    campaign = Campaign(scene)
    findings = [
        f"{found.kind} {found.seed}: {found.verdict}"
        for kind, seed in islice(campaign.attempts(KINDS, SEED), RUNS)
        if (found := campaign.run(kind, seed)).is_finding
    ]
    assert not findings, "python tests/fuzz/run.py --kind KIND --case SEED tries one again"


@pytest.mark.parametrize("mode", COMMANDS)
def test_a_killed_command_runs_again(scene: Path, mode: str) -> None:
    wanted, seconds = undisturbed(COMMANDS[mode], scene)
    killed = False
    for share in (0.3, 0.6):
        dead, wrong = kill(COMMANDS[mode], scene, share * seconds, wanted)
        assert not wrong
        killed |= dead
    assert killed
