"""The cost of jets, looked up."""

import pytest
import torch

from phaze_ee.engine.run import MacsTable
from tests.jets import small_tagger

TAGGER = small_tagger()


@pytest.mark.parametrize("exits", [None, (), (1,)])
def test_the_table_holds_what_the_tagger_says(exits: tuple[int, ...] | None) -> None:
    macs = MacsTable(TAGGER, exits)
    for counts in ([], [0, 3, 17], [128], [129, 5], [1000], [7]):  # it grows on the way
        count_N = torch.tensor(counts, dtype=torch.long)
        assert torch.equal(macs(count_N), TAGGER.exit_macs(count_N, exits=exits))
