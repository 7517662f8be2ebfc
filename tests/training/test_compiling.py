"""Training with torch.compile, and batches that a thread makes ahead."""

import io
from functools import partial
from pathlib import Path
from threading import get_ident
from time import sleep
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor

from phaze_ee.errors import RunError
from phaze_ee.models.tagger import Tagger
from phaze_ee.results.training import TrainingHistory
from phaze_ee.training.lightning import compiled_stages
from phaze_ee.training.loaders import Feed, Sent, sent
from phaze_ee.types import JetBatch
from tests.jets import labelled_batch, small_tagger
from tests.training.loader import ListLoader
from tests.training.test_run import run

PADDED: dict[str, Any] = {"use_packed": False, "optimizer": "adamw", "lr": 1e-4, "epochs": 2, "zero_epochs": 0}


def losses(folder: Path) -> list[float]:
    return [epoch.train_total_loss for epoch in TrainingHistory.read(folder / "history.json", "train").epochs]


def test_compiled_stages_give_the_same_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs: list[object] = []

    def counting(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward  # uncompiled: torch's own compiler would take a minute

    run(tmp_path / "plain", **PADDED)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counting))
    tagger = run(tmp_path / "compiled", **PADDED, use_compile=True)
    assert len(graphs) >= 2 * len(tagger.backbone.stage_channels)  # in training and in evaluation
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "plain"), rel=1e-5)
    assert "stage" not in vars(tagger.backbone)


def test_without_padding_nothing_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", None)
    printed = io.StringIO()
    run(tmp_path, console=Console(file=printed, width=200), **PADDED | {"use_packed": True}, use_compile=True)
    assert "use_compile is off" in printed.getvalue()


def test_what_cannot_be_compiled_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Any:
        raise OSError("no compiler")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=broken))
    tagger: Tagger = small_tagger()
    with pytest.raises(RunError, match=r"no compiler.*; set use_compile = False"), compiled_stages(tagger):
        tagger(labelled_batch(4, dtype=torch.float64).inputs)


def test_torchs_own_compiler_gives_the_same_answers() -> None:
    tagger, jets = small_tagger((0,)), labelled_batch(8, dtype=torch.float64).inputs
    with torch.inference_mode():
        expected = next(tagger.walk(jets)).logits_NK
        with compiled_stages(tagger):
            found = next(tagger.walk(jets)).logits_NK
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


class Threads:
    """Sends batches nowhere, and notes the threads that send and receive them."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, int]] = []

    def send(self, batch: JetBatch) -> JetBatch:
        self.sent.append((get_ident(), batch.label_N.data_ptr()))
        return batch

    def receive(self, batch: JetBatch) -> JetBatch:
        assert get_ident() not in {thread for thread, _ in self.sent}, "a thread of its own sends"
        return batch


def test_a_thread_sends_the_batches_of_an_epoch_in_order() -> None:
    batches = [labelled_batch(4, seed=seed) for seed in range(3)]
    sender = Threads()
    feed = sent(Feed(ListLoader(batches), batches), lambda: sender)
    feed.train.set_epoch(0, 1)
    assert len(feed.train) == 3
    labels = [batch.label_N.data_ptr() for batch in batches]
    for walked, expected in ((feed.train, labels[1:]), (feed.val, labels)):
        sender.sent.clear()
        assert [batch.label_N.data_ptr() for batch in walked] == expected
        assert [label for _, label in sender.sent] == expected


def test_the_next_batch_is_sent_before_it_is_asked_for() -> None:
    sender, batches = Threads(), [labelled_batch(4, seed=seed) for seed in range(3)]
    walk = iter(Sent(batches, lambda: sender))
    next(walk)
    for _ in range(100):
        if len(sender.sent) == 2:
            break
        sleep(0.05)
    assert len(sender.sent) == 2
