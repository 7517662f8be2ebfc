"""The cache holds the same jets as the files, survives interruptions, and is refused when it is not whole."""

import json
import os
import re
import resource
import shutil
import signal
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from phaze_ee.data import batches as batches_module
from phaze_ee.data import spans as chunks_module
from phaze_ee.data.cache import build, reader, shards
from phaze_ee.data.cache.build import Job, build_cache
from phaze_ee.data.cache.reader import Cache, find_cache
from phaze_ee.data.loaders import evaluation_loader, training_loader
from phaze_ee.data.rows import SpanJets
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.spans import SpanReader, worker_context
from phaze_ee.data.table import Span
from phaze_ee.errors import DataError, RunError
from phaze_ee.types import JetBatch
from tests.data.small import jet_columns, options, schema, write_yaml
from tests.data.test_loaders import jet_indices, weaver_batches
from tests.data.test_rows import write_hdf5, write_parquet
from tests.jetclass_files import LABELS, write_root

JETS = 47


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "BLOCK_JETS", 4)
    monkeypatch.setattr(build, "SHARD_ROWS", 16)
    monkeypatch.setattr(build, "TRAINING_ROWS", 5)
    monkeypatch.setattr(build, "EVALUATION_ROWS", 5)


@pytest.fixture(scope="module")
def kept_files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("jets")
    return [
        write_root(folder / "a.root", jet_columns(30)),
        write_parquet(folder / "b.parquet", jet_columns(16, first=30)),
        write_hdf5(folder / "c.h5", jet_columns(1, first=46)),
    ]


@pytest.fixture
def files(kept_files: list[Path], tmp_path: Path) -> list[Path]:
    """Copies, which a test may spoil."""
    return [Path(shutil.copy(path, tmp_path)) for path in kept_files]


@pytest.fixture
def numbered() -> DataSchema:
    """A schema that shows the number of each jet in training as well."""
    return schema(observers=None, monitor_variables=["jet_index"])


def evaluation_job(files: list[Path]) -> Job:
    return Job(schema(), schema(), files, training=False)


def training_job(files: list[Path], own: DataSchema) -> Job:
    return Job(own, own, files, training=True)


def assert_same(ours: Iterable[JetBatch], theirs: Iterable[JetBatch]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        for name in ("points", "features", "vectors", "mask"):
            assert torch.equal(getattr(one.inputs.padded(), name), getattr(other.inputs.padded(), name)), name
        assert torch.equal(one.label_N, other.label_N)
        assert one.observers.keys() == other.observers.keys()
        for name, column in one.observers.items():
            np.testing.assert_array_equal(column, other.observers[name])


def content(cache: Cache) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in cache.folder.iterdir()}


def test_the_jets_of_the_files_bit_for_bit(files: list[Path], tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    cache = build_cache(tmp_path / "cache", evaluation_job(files), advance=lambda *step: steps.append(step))
    assert cache.jet_count == steps[-1][0] == JETS
    assert {total for _, total in steps} == {JETS}
    cached = evaluation_loader(schema(), files, batch_size=10, cache=cache)
    assert_same(cached, evaluation_loader(schema(), files, batch_size=10))
    assert jet_indices(cached) == list(range(JETS))
    assert find_cache(tmp_path / "cache", schema(), files, training=False) == cache


def test_tensors_equal_those_of_weaver(files: list[Path], tmp_path: Path) -> None:
    path = write_yaml(tmp_path / "small.yaml", options())
    own = DataSchema.load(path)
    cache = build_cache(tmp_path / "cache", Job(own, own, files[:1], training=False))
    theirs = weaver_batches(path, files[:1], batch_size=10)
    for batch, (inputs, _, _) in zip(evaluation_loader(own, [], batch_size=10, cache=cache), theirs, strict=True):
        for name in ("points", "features", "vectors", "mask"):
            torch.testing.assert_close(getattr(batch.inputs.padded(), name), inputs[f"pf_{name}"], rtol=0, atol=1e-6)


def test_training_draws_every_jet_once(files: list[Path], numbered: DataSchema, tmp_path: Path) -> None:
    cache = build_cache(tmp_path, training_job(files, numbered))
    loader = training_loader(numbered, files, batch_size=6, num_workers=0, seed=1, cache=cache)
    walks = []
    for epoch in (0, 1, 0):
        loader.set_epoch(epoch)
        walks.append(jet_indices(loader))
    assert sorted(walks[0]) == sorted(walks[1]) == list(range(JETS))
    assert walks[0] == walks[2] != walks[1]


def test_weights_of_the_data_config(tmp_path: Path) -> None:
    weights = {"use_precomputed_weights": True, "weight_branches": ["jet_weight"]}
    columns = {**jet_columns(40), "jet_weight": np.where(np.arange(40) < 20, 1.0, 0.25)}
    path = write_root(tmp_path / "weighted.root", columns)
    own = schema(observers=None, monitor_variables=["jet_index"], weights=weights)
    cache = build_cache(tmp_path / "cache", training_job([path], own))
    loader = training_loader(own, [path], batch_size=8, num_workers=0, seed=1, cache=cache)
    drawn = np.zeros(40)
    for epoch in range(20):
        loader.set_epoch(epoch)
        drawn += np.bincount(jet_indices(loader), minlength=40)
    assert abs(drawn[:20].sum() / drawn[20:].sum() - 4) < 1


def test_what_the_files_leave_to_be_computed_is_kept(files: list[Path], tmp_path: Path) -> None:
    automatic = schema(preprocess={"method": "auto", "data_fraction": 0.5})
    resolved = automatic.resolve(files)
    assert automatic.needs_standardisation
    build_cache(tmp_path, Job(automatic, resolved, files, training=True))
    found = find_cache(tmp_path, automatic, files, training=True)
    assert found is not None
    assert found.schema == resolved


def test_classes_mix_when_every_file_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "SHARD_ROWS", 200)
    monkeypatch.setattr(build, "TRAINING_ROWS", 20)
    monkeypatch.setattr(batches_module, "POOL_JETS", 60)
    paths = []
    for index in range(10):
        flags = {name: np.full(200, number == index, dtype=np.int32) for number, name in enumerate(LABELS)}
        paths.append(write_root(tmp_path / f"class_{index}.root", {**jet_columns(200, first=200 * index), **flags}))
    cache = build_cache(tmp_path / "cache", training_job(paths, schema()))
    loader = training_loader(schema(), paths, batch_size=50, num_workers=0, seed=1, cache=cache)
    counts = np.array([np.bincount(batch.label_N, minlength=10) for batch in loader])
    chi_squared = ((counts - 5) ** 2 / 5).sum()
    low, high = chi2.ppf([1e-4, 1 - 1e-4], df=9 * len(counts))
    assert low < chi_squared < high, "the classes of a batch are not as if each jet were drawn by itself"


def test_an_interrupted_build_goes_on(files: list[Path], numbered: DataSchema, tmp_path: Path) -> None:
    job = training_job(files, numbered)

    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cache(tmp_path / "cache", job, advance=stop)
    assert find_cache(tmp_path / "cache", numbered, files, training=True) is None
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.arrow")}
    assert done
    cache = build_cache(tmp_path / "cache", job)
    assert {path: path.stat().st_mtime_ns for path in done} == done, "whole shards stay"
    assert content(cache) == content(build_cache(tmp_path / "another", job))


def test_two_builds_of_one_cache_in_turns(files: list[Path], numbered: DataSchema, tmp_path: Path) -> None:
    job = training_job(files, numbered)
    others: list[dict[str, bytes]] = []

    def build_too(done: int, total: int) -> None:
        if not others:
            others.append(content(build_cache(tmp_path, job)))

    assert content(build_cache(tmp_path, job, advance=build_too)) == others[0]


def _build_in_small_pieces(root: Path, job: Job) -> None:
    shards.BLOCK_JETS, build.SHARD_ROWS, build.TRAINING_ROWS, build.EVALUATION_ROWS = 4, 16, 5, 5  # of the fixture
    build_cache(root, job)


def test_two_processes_with_workers_build_one_cache(files: list[Path], tmp_path: Path) -> None:
    job = evaluation_job(files)
    other = worker_context().Process(target=_build_in_small_pieces, args=(tmp_path / "both", job))
    other.start()
    while other.is_alive():
        cache = build_cache(tmp_path / "both", job)
    assert other.exitcode == 0
    cache = build_cache(tmp_path / "both", job)
    assert not list(cache.folder.glob(".*")), "nothing temporary is left"
    assert content(cache) == content(build_cache(tmp_path / "alone", job, workers=2))


def test_stale_where_files_or_data_config_change(files: list[Path], tmp_path: Path) -> None:
    build_cache(tmp_path / "cache", evaluation_job(files))
    other = schema(test_time_selection="jet_index > 3")
    assert find_cache(tmp_path / "cache", other, files, training=False) is None
    assert find_cache(tmp_path / "cache", schema(), files[:2], training=False) is None
    assert find_cache(tmp_path / "cache", schema(), files, training=True) is None
    os.utime(files[0], (1, 1))
    assert find_cache(tmp_path / "cache", schema(), files, training=False) is None


def test_foreign_or_damaged_is_refused_and_mended(files: list[Path], tmp_path: Path) -> None:
    job = evaluation_job(files)
    cache = build_cache(tmp_path, job)
    whole = content(cache)
    shard, manifest = cache.folder / "shard_00001.arrow", cache.folder / "manifest.json"

    def refused(match: str) -> None:
        with pytest.raises(DataError, match=match) as caught:
            find_cache(tmp_path, schema(), files, training=False)
        assert "\n" not in str(caught.value)
        assert content(build_cache(tmp_path, job)) == whole, "convert mends it"

    shard.write_bytes(whole[shard.name][:-20])
    refused(r"shard_00001\.arrow of the cache is damaged: it has \d+ bytes instead of")
    shard.unlink()
    refused(r"shard_00001\.arrow of the cache is missing")
    manifest.write_bytes(whole["manifest.json"][:100])
    refused(r"manifest\.json of the cache cannot be read")
    foreign = cache.manifest.model_copy(update={"key": "0" * 64}).sealed()
    manifest.write_text(foreign.model_dump_json())
    refused("is of another data config or of other files")
    manifest.write_text(re.sub(r'"jets": \d+', '"jets": 3', whole["manifest.json"].decode()))
    refused(r"manifest\.json of the cache cannot be read: it is damaged")
    middle = len(whole[shard.name]) // 2
    shard.write_bytes(whole[shard.name][:middle] + b"!!!!" + whole[shard.name][middle + 4 :])
    assert content(build_cache(tmp_path, job)) == whole, "convert looks at every byte"


def test_a_flipped_bit_is_found_when_the_shard_is_first_opened(
    files: list[Path], numbered: DataSchema, tmp_path: Path
) -> None:
    cache = build_cache(tmp_path, training_job(files, numbered))
    shard = cache.folder / "shard_00001.arrow"
    whole, wrong = shard.read_bytes(), 0
    for place in range(8, len(whole), len(whole) // 20):
        shard.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        loader = training_loader(numbered, files, batch_size=6, num_workers=0, seed=1, cache=cache)
        with pytest.raises(DataError, match=r"shard_00001\.arrow of the cache: its checksum is wrong"):
            list(loader)
        wrong += 1
    assert wrong >= 20
    shard.write_bytes(whole)
    assert len(list(training_loader(numbered, files, batch_size=6, num_workers=0, seed=1, cache=cache)))


def test_a_cache_of_an_older_version_is_taken_and_not_written_again(
    files: list[Path], numbered: DataSchema, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    job = training_job(files, numbered)
    cache = build_cache(tmp_path, job)
    path = cache.folder / reader.MANIFEST
    older = cache.manifest.model_copy(
        update={"shards": [shard.model_copy(update={"classes": None}) for shard in cache.manifest.shards]}
    ).sealed()
    plain = older.model_dump()
    for shard in plain["shards"]:
        del shard["classes"]
    without = {name: value for name, value in plain.items() if name != "checksum"}
    assert plain["checksum"] == zlib.crc32(json.dumps(without).encode()), "as the older version computed it"
    path.write_text(json.dumps(plain))
    found = find_cache(tmp_path, numbered, files, training=True, labelled=True)
    assert found is not None
    assert found.jets_of_classes() is None
    assert len(list(training_loader(numbered, files, batch_size=6, num_workers=0, seed=1, cache=found)))
    assert "hold no jets" not in caplog.text
    before = {path: path.stat().st_mtime_ns for path in cache.folder.glob("*.arrow")}
    again = build_cache(tmp_path, job)
    assert {path: path.stat().st_mtime_ns for path in cache.folder.glob("*.arrow")} == before
    assert again.jets_of_classes() == cache.jets_of_classes() == np.bincount(jet_labels(files)).tolist()


def jet_labels(files: list[Path]) -> list[int]:
    batches = evaluation_loader(schema(), files, batch_size=50)
    return [label for batch in batches for label in batch.label_N.tolist()]


@pytest.mark.parametrize("name", ["../shard_00000.arrow", "/etc/passwd", "a\0b", "shard_00000.arrow\n"])
def test_a_manifest_names_no_other_file(name: str, files: list[Path], tmp_path: Path) -> None:
    cache = build_cache(tmp_path, evaluation_job(files))
    shards = [cache.manifest.shards[0].model_copy(update={"name": name})]
    for update in ({"shards": shards}, {"block_jets": 0}):
        crafted = cache.manifest.model_copy(update=update)
        content = {**crafted.model_dump(), "checksum": crafted.crc32()}
        (cache.folder / reader.MANIFEST).write_text(json.dumps(content))
        with pytest.raises(DataError, match=r"manifest\.json of the cache cannot be read: it is damaged"):
            find_cache(tmp_path, schema(), files, training=False)


def test_a_manifest_without_its_checksum_is_refused(files: list[Path], tmp_path: Path) -> None:
    cache = build_cache(tmp_path, evaluation_job(files))
    content = json.loads((cache.folder / reader.MANIFEST).read_text())
    assert content.pop("checksum") == cache.manifest.checksum
    (cache.folder / reader.MANIFEST).write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"manifest\.json of the cache cannot be read: it is damaged"):
        find_cache(tmp_path, schema(), files, training=False)
    assert build_cache(tmp_path, evaluation_job(files)).manifest == cache.manifest, "convert repairs it"


@pytest.mark.parametrize("spoil", ["unlink", "cut", "garbage", "other"])
def test_a_shard_that_changes_during_training(
    spoil: str, files: list[Path], numbered: DataSchema, tmp_path: Path
) -> None:
    cache = build_cache(tmp_path, training_job(files, numbered))
    loader = training_loader(numbered, files, batch_size=6, num_workers=0, seed=1, cache=cache)
    shard = cache.folder / "shard_00000.arrow"
    if spoil == "unlink":
        shard.unlink()
    elif spoil == "other":
        shutil.copy(cache.folder / cache.manifest.shards[-1].name, shard)
    else:
        shard.write_bytes(shard.read_bytes()[:300] if spoil == "cut" else b"garbage" * 1000)
    with pytest.raises(DataError, match=r"shard_00000\.arrow") as caught:
        list(loader)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spoil", "message"), [("unlink", "does not exist"), ("cut", "cannot read"), ("touch", "changed while")]
)
def test_a_file_that_changes_during_convert(spoil: str, message: str, files: list[Path], tmp_path: Path) -> None:
    def change(done: int, total: int) -> None:
        if spoil == "unlink":
            files[0].unlink(missing_ok=True)
        elif spoil == "cut":
            files[0].write_bytes(files[0].read_bytes()[:2000])
        else:
            os.utime(files[0], (done, done))

    with pytest.raises(DataError, match=message) as caught:
        build_cache(tmp_path / "cache", evaluation_job(files), advance=change)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob(reader.MANIFEST))


def test_no_jet_selected(files: list[Path], tmp_path: Path) -> None:
    nothing = schema(selection="jet_index < 0")
    with pytest.raises(DataError, match="passes the selection 'jet_index < 0'"):
        build_cache(tmp_path / "cache", training_job(files, nothing))
    few = schema(selection="jet_index < 3")
    assert build_cache(tmp_path / "cache", training_job(files, few)).jet_count == 3, "shards without jets do no harm"


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_and_a_folder_that_cannot_be_written(files: list[Path], tmp_path: Path) -> None:
    job = evaluation_job(files)
    with file_size_limit(2000), pytest.raises(RunError, match=r"cannot write .*shard_00000\.arrow: .*File too large"):
        build_cache(tmp_path / "cache", job)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot write .*shard_00000\.arrow: Not a directory"):
        build_cache(tmp_path / "file", job)


class Killed:
    """A reader whose process dies."""

    training = False

    def read(self, span: Span) -> SpanJets:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_worker_that_dies_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = [Span(tmp_path / "a.root", 0, 5), Span(tmp_path / "a.root", 5, 9)]
    killed: Any = Killed()
    tasks = [build._Task(tmp_path / f"{number}.arrow", killed, spans, number, 4, "key", None) for number in range(2)]
    with pytest.raises(RunError, match="a process that converts data died"):
        list(build._run(tasks, workers=2))
    monkeypatch.setattr(chunks_module, "WORKER_ROWS", 0)
    with pytest.raises(RunError, match="a process that reads data died") as caught:
        list(SpanReader(Killed(), spans, num_workers=1).read([0, 1]))
    assert "\n" not in str(caught.value)
