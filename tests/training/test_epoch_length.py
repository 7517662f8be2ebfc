"""Epochs of a chosen length: which batches they hold."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from phaze_ee.config.options import TrainingOptions
from phaze_ee.training.loaders import StepEpochs, with_epoch_length
from phaze_ee.types import JetBatch
from tests.jets import random_jets
from tests.training.loader import ListLoader


class Passes(ListLoader):
    """A loader of whole passes, whose batches have the labels (pass, batch)."""

    def __init__(self, batches: int) -> None:
        super().__init__([JetBatch(random_jets([1] * 10), torch.empty(2)) for _ in range(batches)])

    def __iter__(self) -> Iterator[JetBatch]:
        for batch in range(self.first_batch, len(self)):
            yield replace(self.batches[batch], label_N=torch.tensor([self.epochs[-1], batch]))


def walked(loader: Iterable[JetBatch]) -> list[tuple[int, ...]]:
    return [tuple(batch.label_N.tolist()) for batch in loader]


@given(batches=st.integers(1, 7), steps=st.integers(1, 20), epochs=st.integers(1, 4))
def test_epochs_joined_are_whole_passes(batches: int, steps: int, epochs: int) -> None:
    loader = StepEpochs(Passes(batches), steps)
    found = []
    for epoch in range(epochs):
        loader.set_epoch(epoch)
        found.append(walked(loader))
    assert all(len(each) == steps == len(loader) for each in found)
    assert [batch for each in found for batch in each] == [divmod(step, batches) for step in range(epochs * steps)]


@given(batches=st.integers(1, 7), steps=st.integers(1, 20), first=st.integers(0, 19))
def test_an_epoch_goes_on_at_any_batch(batches: int, steps: int, first: int) -> None:
    loader = StepEpochs(Passes(batches), steps)
    loader.set_epoch(2)
    whole = walked(loader)
    loader.set_epoch(2, first_batch=min(first, steps))
    assert walked(loader) == whole[first:]


@pytest.mark.parametrize(
    ("options", "batches", "jets"),
    [({"steps_per_epoch": 3}, 3, 30), ({"samples_per_epoch": 41, "batch_size": 10}, 3, 30), ({}, 4, 40)],
)
def test_the_options_say_how_long_an_epoch_is(options: dict[str, Any], batches: int, jets: int) -> None:
    loader = with_epoch_length(Passes(4), TrainingOptions(**options), processes=2)
    assert (len(loader), loader.jet_count) == (batches, jets)
