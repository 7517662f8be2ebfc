"""The learning-rate range test: what it suggests, and that it leaves the network as it was."""

from pathlib import Path

import numpy as np
import pytest
import torch

from phaze_ee.errors import RunError
from phaze_ee.plots.curves import find_lr_figure
from phaze_ee.results.training import LearningRateSearch
from phaze_ee.training.find_lr import HIGHEST, LOWEST, _steepest, find_lr
from phaze_ee.types import JetBatch
from tests.jets import labelled_batch, small_tagger
from tests.training.interrupted import ShuffledLoader, options


def jets(tmp_path: Path, spoil: float = 1.0) -> ShuffledLoader:
    batches = [labelled_batch(16, seed=seed, shift=0.7) for seed in range(4)]
    for batch in batches:
        batch.inputs.padded().features.mul_(spoil)
    return ShuffledLoader([JetBatch(batch.inputs, batch.label_N) for batch in batches], tmp_path / "progress")


def test_the_loss_falls_at_the_suggestion_and_weights_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "2")  # as in a job of two tasks, of which it is no part
    tagger = small_tagger((0, 1), seed=2).float().train()
    before = {name: value.clone() for name, value in tagger.state_dict().items()}
    found = find_lr(tagger, jets(tmp_path), options(optimizer="adam"), torch.device("cpu"), "w/p")
    assert found.lr[0] == pytest.approx(LOWEST)
    assert LOWEST < found.suggestion < HIGHEST
    assert found.suggestion in found.lr
    assert found.lr == sorted(found.lr)
    assert len(found.lr) == len(found.loss)
    assert found.loss[1] == pytest.approx(found.loss[0], rel=0.1)  # nothing is learned yet
    assert all(torch.equal(value, before[name]) for name, value in tagger.state_dict().items())
    assert LearningRateSearch.model_validate_json(found.model_dump_json()) == found


def test_the_steepest_fall_is_on_the_logarithm_of_the_rate() -> None:
    rates = np.logspace(-6, 0, 100)
    wiggling = 0.01 * np.sin(np.arange(100))  # of a loss that does not change yet
    losses = 2.0 + wiggling - 1.0 / (1 + np.exp(-3 * (np.log10(rates) + 2)))  # falls around 0.01
    assert _steepest(rates.tolist(), losses.tolist()) == pytest.approx(0.01, rel=0.5)
    with pytest.raises(RunError, match="never falls"):
        _steepest(rates.tolist(), np.linspace(1, 2, 100).tolist())


def test_the_noise_of_the_first_batches_suggests_nothing() -> None:
    # The first batch has a loss 0.15 above the mean, as with seed 6 of a new project; its part of the mean falls.
    rates = np.logspace(-6, 0, 100)
    losses = 2.6 + 0.15 / np.arange(1, 101) - 0.3 / (1 + np.exp(-3 * (np.log10(rates) + 2)))
    assert _steepest(rates.tolist(), losses.tolist()) == pytest.approx(0.01, rel=0.5)


def test_without_a_finite_loss_the_batch_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not finite in epoch 1, batch 1"):
        find_lr(
            small_tagger((0, 1), seed=2).float(),
            jets(tmp_path, spoil=float("nan")),
            options(use_packed=False),
            torch.device("cpu"),
            "w/p",
        )


def test_the_figure_marks_the_suggestion() -> None:
    results = LearningRateSearch(project="w/p", lr=[1e-3, 1e-2, 1e-1], loss=[2.0, 1.0, None], suggestion=1e-2)
    (axes,) = find_lr_figure(results).axes
    curve, mark = axes.lines
    assert np.array_equal(curve.get_xdata(), results.lr)
    assert np.all(np.asarray(mark.get_xdata()) == results.suggestion)
    assert axes.get_xscale() == "log"
