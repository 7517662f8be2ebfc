"""Exits that train on features computed once learn what they learn on a backbone that runs in every epoch."""

import io
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from phaze_ee.config.options import Options
from phaze_ee.errors import RunError
from phaze_ee.models.checkpoint import load_checkpoint
from phaze_ee.models.tagger import Tagger
from phaze_ee.names import ExitStage
from phaze_ee.training.frozen import FeatureFiles, with_frozen_features
from phaze_ee.training.loaders import Loaders
from phaze_ee.training.run import DataRecord, train
from phaze_ee.types import JetInputs
from tests.jets import small_tagger
from tests.training.loader import ListLoader
from tests.training.test_run import BATCHES, QUICK, outputs, run

STAGES: tuple[ExitStage, ...] = ("input", 0, 2)
FROZEN: dict[str, Any] = {"exit_stages": STAGES, "freeze_backbone": True, "optimizer": "adamw", "zero_epochs": 0}


def frozen_tagger() -> Tagger:
    return small_tagger(STAGES).float().packed().eval()


@contextmanager
def files_take(size: int) -> Iterator[None]:
    """Let the system refuse what would make a file larger, as a full disk refuses it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(("use_packed", "head"), [(True, "deep_sets"), (False, "linear")])
def test_the_same_exits_are_learned(tmp_path: Path, use_packed: bool, head: str) -> None:
    options = {**FROZEN, "use_packed": use_packed, "exit_head": head, "exit_loss_strategy": "distill_detached"}
    once, again = (run(tmp_path / name, **options).state_dict() for name in ("once", "again"))
    always = run(tmp_path / "always", **options, feature_cache_gb=0.0).state_dict()
    assert all(torch.equal(once[name], again[name]) for name in once)
    # Not bit for bit: jets go through the backbone in other company, and matrix products round by their size.
    torch.testing.assert_close(once, always, rtol=0, atol=2e-5)
    started = run(tmp_path / "started", **options, lr=1e-9).state_dict()
    assert all((once[name] - started[name]).abs().max() > 1e-2 for name in once if name.startswith("heads.0"))


def test_stored_features_are_those_of_the_walk(tmp_path: Path) -> None:
    tagger = frozen_tagger()
    with FeatureFiles(tagger, tmp_path) as files:
        for batch in BATCHES[:3]:
            files.add(batch)
        features = files.finish()
        assert files.size == sum(4 * column.numel() for column in features.columns)
        index_N = torch.tensor([40, 3, 16, 3, 47])
        stored = features.batch(index_N)
        jets = [BATCHES[int(index) // 16].inputs.select(index[None] % 16) for index in index_N]
        with torch.inference_mode():
            for number, jet in enumerate(jets):
                one = features.tagger(features.batch(index_N[[number]]).inputs)
                torch.testing.assert_close(one, tagger(jet), rtol=0, atol=1e-6)
            together = features.tagger(stored.inputs)
            expected = torch.cat([tagger(jet) for jet in jets], dim=1)
            torch.testing.assert_close(together, expected, rtol=0, atol=1e-6)
            inputs: Any = stored.inputs
            walk = features.tagger.walk(inputs)
            next(walk)
            keep_N = torch.tensor([False, True, False, True, True])
            torch.testing.assert_close(walk.send(keep_N).logits_NK, expected[1, keep_N], rtol=0, atol=1e-6)
        assert stored.label_N.tolist() == [int(BATCHES[int(index) // 16].label_N[index % 16]) for index in index_N]


def test_features_that_are_there_already_teach_the_same_exits(tmp_path: Path) -> None:
    options = Options(**{**QUICK, **FROZEN, "exit_stages": list(STAGES), "beta_max": [1.0], "use_packed": False})
    tagger, quiet, device = frozen_tagger(), Console(file=io.StringIO()), torch.device("cpu")
    twin = deepcopy(tagger)
    loaders, record = Loaders(ListLoader(BATCHES[:4]), ListLoader(BATCHES[4:])), DataRecord({"inputs": "none"}, "hash")
    with with_frozen_features(tagger, loaders, tmp_path, 1.0, quiet) as pair:
        there: Any = pair
        train(tagger, loaders, options, outputs(tmp_path / "stored"), record, device, quiet, stored=there)
    train(twin, loaders, options, outputs(tmp_path / "computed"), record, device, quiet)
    learned, expected = tagger.state_dict(), twin.state_dict()
    assert all(torch.equal(learned[name], expected[name]) for name in learned)
    loaded = load_checkpoint(tmp_path / "stored" / "models" / "latest_model.pt").tagger
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in learned.items())


def test_nothing_is_left_in_the_folder(tmp_path: Path) -> None:
    run(tmp_path, **FROZEN, epochs=1)
    assert {path.name for path in (tmp_path / "models").iterdir()} == {"best_model.pt", "latest_model.pt"}


def test_checkpoints_hold_the_backbone_itself(tmp_path: Path) -> None:
    trained = run(tmp_path, **FROZEN, epochs=1)
    loaded = load_checkpoint(tmp_path / "models" / "best_model.pt").tagger
    assert type(loaded.backbone) is type(trained.backbone)
    inputs = BATCHES[0].inputs
    torch.testing.assert_close(loaded(inputs), trained.eval()(inputs), rtol=0, atol=0)


@pytest.mark.parametrize(("limit", "stored"), [(1.0, True), (1e-6, False)])
def test_what_would_take_too_much_room_is_not_stored(tmp_path: Path, limit: float, stored: bool) -> None:
    console = Console(file=io.StringIO(), width=200)
    tagger, loaders = frozen_tagger(), Loaders(ListLoader(BATCHES[:4]), ListLoader(BATCHES[4:]))
    with with_frozen_features(tagger, loaders, tmp_path, limit, console) as (walked, walked_loaders):
        assert (walked is not tagger) == (walked_loaders is not loaders) == stored
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("Features of the frozen backbone for 96 jets: " in said) == stored
    assert ("more than feature_cache_gb = 1e-06 GB: they are computed in every epoch" in said) != stored


def test_the_first_jets_show_that_all_would_take_too_much_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def size_of(count: int) -> int:
        with FeatureFiles(frozen_tagger(), tmp_path) as files:
            for batch in BATCHES[:count]:
                files.add(batch)
            return files.size

    limit, original = (size_of(1) + size_of(4)) / 2e9, FeatureFiles.add
    written: list[None] = []
    monkeypatch.setattr(FeatureFiles, "add", lambda *given: written.append(original(*given)))
    loaders, quiet = Loaders(ListLoader(BATCHES[:4]), ListLoader(BATCHES[4:])), Console(file=io.StringIO())
    tagger = frozen_tagger()
    with with_frozen_features(tagger, loaders, tmp_path, limit, quiet) as (walked, _):
        assert walked is tagger
    assert len(written) == 1


def test_targets_are_stored_and_all_of_a_batch_goes_to_a_device(tmp_path: Path) -> None:
    target_NR = torch.arange(16.0)[:, None]
    with FeatureFiles(frozen_tagger(), tmp_path) as files:
        files.add(replace(BATCHES[0], target_NR=target_NR))
        batch = files.finish().batch(torch.tensor([5, 2])).map(torch.Tensor.double)
    assert batch.target_NR is not None
    assert batch.target_NR.flatten().tolist() == [5, 2]
    tensors = [batch.label_N, batch.target_NR, batch.inputs.logits_NK, *batch.inputs.rows]
    assert {tensor.dtype for tensor in tensors} == {torch.float64}
    with pytest.raises(FileNotFoundError, match="missing"):
        FeatureFiles(frozen_tagger(), tmp_path / "missing")


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with files_take(5_000), pytest.raises(RunError, match=r"cannot keep features in .*: File too large; free space"):
        run(tmp_path, **FROZEN)
    assert list((tmp_path / "models").iterdir()) == []


def test_jets_without_particles_train_too(tmp_path: Path) -> None:
    def emptied(inputs: JetInputs) -> JetInputs:
        return JetInputs(inputs.points, inputs.features, inputs.vectors, torch.zeros_like(inputs.mask))

    tagger = frozen_tagger()
    with FeatureFiles(tagger, tmp_path) as files, torch.inference_mode():
        inputs = emptied(BATCHES[0].inputs.padded())
        files.add(type(BATCHES[0])(inputs, BATCHES[0].label_N))
        features = files.finish()
        stored = features.tagger(features.batch(torch.arange(16)).inputs)
        torch.testing.assert_close(stored, tagger(inputs), rtol=0, atol=1e-6)
