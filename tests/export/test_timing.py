"""The cost on the card: of jets from the whole sample, and of the file without exits besides."""

import torch

from phaze_ee.export import timing
from phaze_ee.types import JetInputs, RaggedJets


def batch(jets: int, first: int) -> RaggedJets:
    """Jets of one particle, whose feature is their number."""
    number_V1 = torch.arange(first, first + jets, dtype=torch.float32)[:, None]
    return RaggedJets(number_V1.expand(-1, 2), number_V1, None, torch.ones(jets, dtype=torch.int64))


def test_jets_come_evenly_from_all_batches() -> None:
    single = timing._alone([batch(150, 0), batch(50, 150)], 200)
    assert [jet.features.item() for jet in single] == list(range(0, 200, 2))
    few = timing._alone([batch(3, 0)], 3)
    assert [jet.features.item() for jet in few] == [0, 1, 2]
    assert all(isinstance(jet, JetInputs) for jet in few)


def test_without_jets_there_are_no_times() -> None:
    assert timing.timed(b"", None, [], {}, {}) is None
