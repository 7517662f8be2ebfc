"""Measured times: what is reported, not how fast this machine is."""

import math
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from phaze_ee.benchmark import latency
from phaze_ee.benchmark.latency import measure_latency, rate_of
from phaze_ee.engine.engine import Engine
from phaze_ee.exits.policies import ThresholdPolicy
from tests.jets import random_jets, small_tagger


def test_every_exit_is_measured_at_every_batch_size() -> None:
    tagger, jets = small_tagger((0, 2)).packed(), random_jets([5, 10, 15], length=20)
    report = measure_latency(tagger, jets, batch_sizes=(1, 4), threads=2, seconds=0.0, minimum_batches=3)
    assert (report.threads, report.device, report.dtype) == (2, "cpu", "float64")
    assert report.mean_multiplicity == 10
    names = ["exit_0", "exit_1", "full_model"]
    assert [(entry.name, entry.batch_size) for entry in report.entries] == [
        (name, size) for size in (1, 4) for name in names
    ]
    for entry in report.entries:
        assert 0 < entry.p50_ms <= entry.p95_ms <= entry.p99_ms
        assert entry.batches == 3


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first batch take 1 ms, the second 2 ms, and so on."""
    marks = (number * (number + 1) / 2e3 + step for number in count() for step in (0, (number + 1) / 1e3))
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter=lambda: next(marks)))


@pytest.mark.usefixtures("clock")
def test_times_are_per_jet_in_milliseconds_and_rates_are_of_the_mean_batch() -> None:
    entries = measure_latency(
        small_tagger((0,)).packed(), random_jets([5, 9]), batch_sizes=(4,), seconds=0.0, minimum_batches=5
    ).entries
    for entry, took in zip(entries, ([1, 3, 5, 7, 9], [2, 4, 6, 8, 10]), strict=True):  # by turns
        mean = float(np.mean(took))
        assert entry.jets_per_second == pytest.approx(4000 / mean)
        # relative error of the mean of five batches
        assert entry.jets_per_second_error == pytest.approx(4000 / mean * math.sqrt(8) / mean / math.sqrt(5))
        assert entry.p50_ms == pytest.approx(mean / 4)
        assert entry.p95_ms == pytest.approx((took[3] + 0.8 * 2) / 4), "0.95 of the way over four gaps of 2 ms"
        assert entry.p99_ms == pytest.approx((took[3] + 0.96 * 2) / 4)


@pytest.mark.usefixtures("clock")
def test_the_rate_is_that_of_all_batches_together() -> None:
    jets = random_jets([5, 9, 3])
    assert rate_of(Engine(small_tagger()), jets, 0.0055) == pytest.approx(3 * 3 / 0.006), "1 + 2 + 3 ms"


def test_macs_are_those_of_the_jets_that_ran() -> None:
    tagger, jets = small_tagger((0,)).packed(), random_jets([5, 10, 15], length=20)
    entries = measure_latency(tagger, jets, batch_sizes=(3,), seconds=0.0, minimum_batches=1).entries
    counts = torch.tensor([5, 10, 15])
    assert entries[0].mean_macs == tagger.exit_macs(counts)[0].double().mean()
    assert entries[1].mean_macs == tagger.exit_macs(counts, exits=())[1].double().mean()


def test_measuring_goes_on_for_the_time_asked_for() -> None:
    entries = measure_latency(
        small_tagger(()).packed(), random_jets([5]), batch_sizes=(1,), seconds=0.05, minimum_batches=1
    ).entries
    assert entries[0].batches > 1


def test_policies_are_timed_as_they_run() -> None:
    tagger, jets = small_tagger((0, 2)).packed(), random_jets([5, 10, 15, 12, 7, 9], length=20)
    middle = tagger(jets)[0].softmax(dim=-1).amax(dim=-1).sort().values[2:4].mean().item()
    policy, point = ThresholdPolicy("confidence", [middle, math.inf]), ThresholdPolicy("margin", [-math.inf, 0.5])
    report = measure_latency(
        tagger, jets, policy=policy, curves=[point], batch_sizes=(1, 6), seconds=0.0, minimum_batches=6
    )
    assert [(entry.name, entry.batch_size) for entry in report.chosen] == [("policy", 1), ("policy", 6)]
    assert [(entry.name, entry.batch_size) for entry in report.curves] == [("margin", 6)]
    assert len(report.entries) == 6
    chosen, early = report.chosen[1], report.curves[0]
    assert (chosen.score, chosen.thresholds) == ("confidence", [middle, math.inf])
    assert chosen.exit_fractions == [0.5, 0, 0.5]
    assert chosen.mean_macs == Engine(tagger, policy)(jets).macs_N.double().mean()
    assert early.exit_fractions == [1, 0, 0]


def test_who_is_fast_does_not_wait_for_who_is_slow() -> None:
    entries = measure_latency(
        small_tagger((0,)).packed(), random_jets([5]), batch_sizes=(1,), seconds=0.05, minimum_batches=1
    ).entries
    assert all(0.05 <= entry.batches / entry.jets_per_second < 0.5 for entry in entries)
