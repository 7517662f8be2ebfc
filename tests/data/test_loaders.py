"""Every jet once: in input order for evaluation, shuffled and shared out for training."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import uproot
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from phaze_ee.data import batches as batches_module
from phaze_ee.data import loaders
from phaze_ee.data import spans as chunks
from phaze_ee.data.loaders import TrainingLoader, evaluation_loader, training_loader
from phaze_ee.data.row_spans import spans_of
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.table import Span
from phaze_ee.errors import DataError
from phaze_ee.types import JetBatch
from tests.data.small import OPTIONS, jet_columns, jet_files, schema
from tests.jetclass_files import LABELS, jetclass_columns, random_jets, write_root


def jet_indices(batches: Iterable[JetBatch]) -> list[int]:
    return [int(index) for batch in batches for index in batch.observers["jet_index"]]


@pytest.fixture(scope="module")
def kept_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return jet_files(tmp_path_factory.mktemp("jets"), [30, 17, 1])


@pytest.fixture
def files(kept_files: list[Path], tmp_path: Path) -> list[Path]:
    """Copies, which a test may spoil."""
    return [Path(shutil.copy(path, tmp_path)) for path in kept_files]


@pytest.fixture
def numbered() -> DataSchema:
    """A schema that shows the number of each jet in training as well."""
    return schema(observers=None, monitor_variables=["jet_index"])


def test_evaluation_gives_every_jet_once_in_input_order(files: list[Path]) -> None:
    loader = evaluation_loader(schema(), [files[1], files[0], files[2]], batch_size=7)
    expected = [*range(30, 47), *range(30), 47]
    assert jet_indices(loader) == expected
    assert jet_indices(loader) == expected, "a second walk gives the same"
    assert [len(batch) for batch in loader] == [7] * 6 + [6]


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # each example writes and reads files: no time to shrink
)
@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=3).filter(any),
    rows=st.integers(5, 50),
    batch_size=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_every_jet_once_whatever_the_sizes(
    counts: list[int], rows: int, batch_size: int, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaders, "EVALUATION_ROWS", rows)
    monkeypatch.setattr(loaders, "TRAINING_ROWS", rows)
    monkeypatch.setattr(batches_module, "POOL_JETS", 2 * rows)
    paths = jet_files(tmp_path, counts)
    everything = list(range(sum(counts)))
    assert jet_indices(evaluation_loader(schema(), paths, batch_size=batch_size)) == everything
    if sum(counts) < 2:
        return
    monitored = schema(observers=None, monitor_variables=["jet_index"])
    loader = training_loader(monitored, paths, batch_size=batch_size, num_workers=0, seed=seed)
    walked = list(loader)
    assert sorted(jet_indices(walked)) == everything
    assert len(walked) == len(loader)


def test_workers_change_nothing(files: list[Path], numbered: DataSchema, monkeypatch: pytest.MonkeyPatch) -> None:
    def epochs(num_workers: int) -> list[list[int]]:
        loader = training_loader(numbered, files, batch_size=8, num_workers=num_workers, seed=3)
        return [walk(loader, epoch) for epoch in (0, 1)]

    monkeypatch.setattr(loaders, "TRAINING_ROWS", 40)
    alone = epochs(0)
    monkeypatch.setattr(chunks, "WORKER_ROWS", 0)
    assert epochs(9) == alone, "nine workers for three files"
    assert alone[0] != alone[1]
    monkeypatch.setattr(loaders, "EVALUATION_ROWS", 16)
    assert jet_indices(evaluation_loader(schema(), files, batch_size=8, num_workers=2)) == list(range(48))
    files[1].unlink()
    with pytest.raises(DataError, match=r"^data file .*jets_1\.root does not exist") as caught:
        list(evaluation_loader_of_existing(files, monkeypatch))
    assert "\n" not in str(caught.value)


def evaluation_loader_of_existing(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> Iterable[JetBatch]:
    """Return a loader with workers that believes that all files are there."""
    spans = [Span(path, 0, 1) for path in files]
    monkeypatch.setattr(loaders, "split_into_spans", lambda *_, **__: spans)
    return evaluation_loader(schema(), files, batch_size=8, num_workers=1)


def walk(loader: TrainingLoader, epoch: int) -> list[int]:
    loader.set_epoch(epoch)
    return jet_indices(loader)


def test_training_depends_on_seed_and_epoch_alone(files: list[Path], numbered: DataSchema) -> None:
    def loader(seed: int) -> TrainingLoader:
        return training_loader(numbered, files, batch_size=8, num_workers=0, seed=seed)

    first = loader(1)
    assert [walk(first, epoch) for epoch in (4, 2)] == [walk(loader(1), epoch) for epoch in (4, 2)]
    assert walk(first, 4) != walk(loader(2), 4)


@pytest.mark.parametrize("world_size", [2, 3, 5])
def test_ranks_share_an_epoch_without_overlap(files: list[Path], numbered: DataSchema, world_size: int) -> None:
    ranks = [
        training_loader(numbered, files, batch_size=4, num_workers=0, seed=5, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for epoch in range(2):
        walks = [walk(loader, epoch) for loader in ranks]
        seen = sorted(index for indices in walks for index in indices)
        assert len(seen) == len(set(seen)) == 48 - 48 % world_size
    assert len({len(loader) for loader in ranks}) == 1
    assert {loader.jet_count for loader in ranks} == {48 // world_size}


@pytest.mark.parametrize("batch_size", [47, 46, 48, 1000])
def test_no_batch_has_a_single_jet(files: list[Path], numbered: DataSchema, batch_size: int) -> None:
    loader = training_loader(numbered, files, batch_size=batch_size, num_workers=0, seed=1)
    sizes = [len(batch) for batch in loader]
    assert sum(sizes) == loader.jet_count == 48
    assert min(sizes) >= 2
    assert len(sizes) == len(loader)


def test_classes_mix_when_every_file_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaders, "TRAINING_ROWS", 20)
    monkeypatch.setattr(batches_module, "POOL_JETS", 200)
    paths = []
    for index in range(10):
        columns = jet_columns(40, first=40 * index)
        flags = {name: np.full(40, number == index, dtype=np.int32) for number, name in enumerate(LABELS)}
        paths.append(write_root(tmp_path / f"class_{index}.root", {**columns, **flags}))
    monitored = schema(observers=None, monitor_variables=["jet_index"])
    loader = training_loader(monitored, paths, batch_size=100, num_workers=0, seed=1)
    for batch in loader:
        of_class = np.bincount(np.asarray(batch.observers["jet_index"]) // 40, minlength=10)
        assert (of_class >= 1).sum() >= 8, f"a batch lacks classes: {of_class}"


def test_data_beyond_the_memory_limit_give_the_same_batches(
    files: list[Path], numbered: DataSchema, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = training_loader(numbered, files, batch_size=8, num_workers=0, seed=1)
    monkeypatch.setattr(loaders, "MEMORY_LIMIT", 0)
    streamed = training_loader(numbered, files, batch_size=8, num_workers=0, seed=1)
    for epoch in (0, 1):
        assert walk(kept, epoch) == walk(streamed, epoch)
    files[0].unlink()
    assert len(walk(kept, 2)) == 48, "kept data need no files"
    with pytest.raises(DataError, match=r"jets_0\.root does not exist"):
        walk(streamed, 2)


def test_a_file_that_changes_during_training_is_noticed(files: list[Path], numbered: DataSchema) -> None:
    loader = training_loader(numbered, files, batch_size=8, num_workers=0, seed=1)
    write_root(files[0], jet_columns(29))
    with pytest.raises(DataError, match=r"jets_0\.root changed"):
        list(loader)


def test_selections_differ_between_training_and_evaluation(tmp_path: Path) -> None:
    cut = {"selection": "jet_index < 10", "test_time_selection": "jet_index >= 20"}
    paths = jet_files(tmp_path, [15, 15])
    monitored = schema(observers=None, monitor_variables=["jet_index"], **cut)
    assert sorted(jet_indices(training_loader(monitored, paths, batch_size=4, num_workers=0, seed=1))) == list(
        range(10)
    )
    assert jet_indices(evaluation_loader(schema(**cut), paths, batch_size=4)) == list(range(20, 30))


def test_no_jet_selected_is_an_error(files: list[Path]) -> None:
    nothing = schema(selection="jet_index < 0")
    with pytest.raises(DataError, match=r"jets_0\.root and 2 more files passes the selection 'jet_index < 0'"):
        training_loader(nothing, files, batch_size=4, num_workers=0, seed=1)
    with pytest.raises(DataError, match=r"jets_0\.root and 2 more files passes the selection 'jet_index < 0'"):
        list(evaluation_loader(nothing, files, batch_size=4))


def test_a_mask_that_no_particle_has_is_an_error(tmp_path: Path) -> None:
    files = jet_files(tmp_path, [700, 400])
    nothing = schema(new_variables={**OPTIONS["new_variables"], "part_mask": "ak.zeros_like(part_energy)"})
    message = r"none of the first 1,\d+ jets that were read has a particle \(.*jets_\d\.root, …\): the mask of the data"
    with pytest.raises(DataError, match=message):
        list(evaluation_loader(nothing, files, batch_size=100))
    with pytest.raises(DataError, match=message):
        list(training_loader(nothing, files, batch_size=100, num_workers=0, seed=1))
    assert len(list(evaluation_loader(nothing, files[1:], batch_size=100))) == 4  # too few to be sure


def test_precomputed_weights_decide_how_often_a_jet_comes(tmp_path: Path) -> None:
    weights = {"use_precomputed_weights": True, "weight_branches": ["jet_weight"]}
    columns = jet_columns(40)
    path = write_root(tmp_path / "weighted.root", {**columns, "jet_weight": np.where(np.arange(40) < 20, 1.0, 0.25)})
    monitored = schema(observers=None, monitor_variables=["jet_index"], weights=weights)
    loader = training_loader(monitored, [path], batch_size=8, num_workers=0, seed=1)
    counts = np.bincount(jet_indices(loader), minlength=40)
    # 20 jets of weight 1 and 20 of weight 1/4: 25 draws; an epoch of 40 jets has no room for a second round
    assert counts[:20].tolist() == [1] * 20
    assert counts[20:].sum() == 5
    assert loader.jet_count == 25
    assert sorted(walk(loader, 1)) != sorted(walk(loader, 2))
    evaluated = evaluation_loader(schema(weights=weights), [path], batch_size=8)
    assert jet_indices(evaluated) == list(range(40)), "weights are for training only"


def test_unlabelled_files(tmp_path: Path) -> None:
    columns = {name: column for name, column in jet_columns(9).items() if not name.startswith("label")}
    path = write_root(tmp_path / "unlabelled.root", columns)
    labels = torch.cat([batch.label_N for batch in evaluation_loader(schema(), [path], batch_size=4, labelled=False)])
    assert labels.tolist() == [-1] * 9
    with pytest.raises(DataError, match="has no branch label_"):
        list(evaluation_loader(schema(), [path], batch_size=4))


def weaver_batches(path: Path, paths: list[Path], batch_size: int) -> Any:
    from weaver.utils.dataset import SimpleIterDataset

    dataset = SimpleIterDataset(
        {"_": [str(path) for path in paths]},
        str(path),
        for_training=False,
        fetch_by_files=True,
        fetch_step=1,
        name="test",
    )
    return torch.utils.data.DataLoader(dataset, batch_size=batch_size)


@pytest.mark.parametrize("config", ["JetClass_full", "JetClass_ParT_kin"])
def test_tensors_equal_those_of_weaver(config: str, tmp_path: Path) -> None:
    source = Path(__file__).parents[2] / "data_configs" / f"{config}.yaml"
    yaml_path = tmp_path / source.name  # weaver writes beside it
    yaml_path.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    paths = [tmp_path / f"{seed}.root" for seed in range(2)]
    for seed, path in enumerate(paths):
        write_root(path, jetclass_columns(*random_jets(30 - 12 * seed, seed=seed, slots=150)))
    ours = evaluation_loader(DataSchema.load(yaml_path), paths, batch_size=10)
    theirs = weaver_batches(yaml_path, paths, batch_size=10)
    for batch, (inputs, labels, observers) in zip(ours, theirs, strict=True):
        for name in ("points", "features", "vectors", "mask"):
            torch.testing.assert_close(getattr(batch.inputs.padded(), name), inputs[f"pf_{name}"], rtol=0, atol=1e-6)
        assert torch.equal(batch.label_N, labels["_label_"])
        assert set(observers) == set(batch.observers)
        for name, column in observers.items():
            np.testing.assert_array_equal(batch.observers[name], column)


def test_spans_end_where_the_file_is_packed(tmp_path: Path) -> None:
    path = tmp_path / "jets.root"
    with uproot.recreate(path) as file:
        file.mktree("tree", {"x": "f4"})
        for size in (30, 30, 150, 900, 5):
            file["tree"].extend({"x": np.zeros(size, dtype=np.float32)})

    def ends(rows: int, as_packed: bool) -> list[int]:
        spans = spans_of(path, "tree", rows, as_packed=as_packed)
        assert [span.start for span in spans] == [0, *(span.stop for span in spans[:-1])]
        return [span.stop for span in spans]

    assert ends(100, as_packed=True)[:2] == [60, 210]  # two small ones together, a larger one as it is
    assert ends(100, as_packed=True)[2:] == [*range(310, 1111, 100), 1115]  # one that is too large is cut
    assert ends(500, as_packed=False) == [500, 1000, 1115]
    assert ends(5000, as_packed=True) == [1115]


@pytest.mark.parametrize("weighted", [False, True])
def test_numbered_jets_come_in_the_same_batches(
    tmp_path: Path, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaders, "TRAINING_ROWS", 15)
    weights = {"use_precomputed_weights": True, "weight_branches": ["jet_weight"]} if weighted else None
    columns = {**jet_columns(40), "jet_weight": np.where(np.arange(40) < 20, 1.0, 0.25)}
    path = write_root(tmp_path / "jets.root", columns)
    monitored = schema(observers=None, monitor_variables=["jet_index"], weights=weights, selection="jet_index % 3 > 0")
    loader = training_loader(monitored, [path], batch_size=8, num_workers=0, seed=1)
    jets, numbers = loader.numbered()
    index = np.array(jet_indices(jets))
    assert index.tolist() == [number for number in range(40) if number % 3]
    assert loader.selected_count == len(index)
    assert (numbers.jet_count, len(numbers)) == (loader.jet_count, len(loader))
    for epoch in (1, 0):
        numbers.set_epoch(epoch)
        assert index[torch.cat([batch.label_N for batch in numbers])].tolist() == walk(loader, epoch)
