"""Measures jets per second, memory and disk space of our cache and of weaver's loaders, on the same jets.

python benchmarks/data.py data_configs/JetClass_full.yaml FILE.root … [--copies 10]

Each row is measured in its own process; only the first epoch includes compilation. "Per core" means per second of CPU
time, of all threads of the process. Later epochs are measured in two rounds of three intervals of a second (or of an
epoch, if that is longer), and the best counts, so that other work on the machine has little effect. weaver's
SimpleIterDataset runs in its fastest mode (fetch_by_files, fetch_step=1), on the files and on the parquet files that
its convert_to_parquet makes of them, with the columns of the data configuration. Ratios are to these two, for training.
weaver's batches are padded to the length of the data configuration, ours are not. With --copies, the files get several
names, to compare the memory with that of a larger data set.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader
from weaver.utils.convert_to_parquet import convert_file
from weaver.utils.data.config import DataConfig
from weaver.utils.dataset import SimpleIterDataset

from phaze_ee.data.cache.build import Job, build_cache
from phaze_ee.data.cache.reader import Cache
from phaze_ee.data.loaders import evaluation_loader, training_loader
from phaze_ee.data.schema import DataSchema

BATCH_SIZE = 512
ROUNDS = 2
STRETCHES = 3
SECONDS = 1.0  # smallest CPU time of an interval


def weaver_loader(config: Path, files: list[Path], *, training: bool) -> Iterable[Any]:
    dataset = SimpleIterDataset(
        {"_": [str(path) for path in files]},
        str(config),
        for_training=training,
        fetch_by_files=True,
        fetch_step=1,
        name="train" if training else "test",
    )
    return DataLoader(dataset, batch_size=BATCH_SIZE)


def parquet_files(config: Path, files: list[Path], folder: Path) -> list[Path]:
    """Convert files as weaver's convert_to_parquet does with --data-config."""
    read = DataConfig.load(str(config))
    folder.mkdir()
    made = [folder / f"{path.stem}.parquet" for path in files]
    for source, output in zip(files, made, strict=True):
        branches = list(read.test_load_branches | read.train_load_branches)
        convert_file(str(source), str(output), branches=branches, treename=read.treename)
    return made


def cache_of(config: Path, root: Path, files: list[Path], *, training: bool) -> Cache:
    schema = DataSchema.load(config)
    return build_cache(root, Job(schema, schema, files, training=training))


def ours(config: Path, files: list[Path], root: Path | None) -> Callable[[], Iterable[Any]]:
    cache = None if root is None else cache_of(config, root, files, training=True)
    loader = training_loader(DataSchema.load(config), files, batch_size=BATCH_SIZE, num_workers=0, seed=1, cache=cache)

    def epoch() -> Iterable[Any]:
        loader.set_epoch(loader._epoch + 1)
        return loader

    return epoch


def evaluation(config: Path, files: list[Path], root: Path) -> Callable[[], Iterable[Any]]:
    cache = cache_of(config, root, files, training=False)
    loader = evaluation_loader(cache.schema, files, batch_size=BATCH_SIZE, cache=cache)
    return lambda: loader


def walk(name: str, config: Path, root: Path, files: list[Path]) -> dict[str, Any]:
    """Run some epochs; return their times and the peak memory of the process."""
    torch.set_num_threads(1)
    walks: dict[str, Callable[[], Iterable[Any]]] = {
        "weaver": lambda: weaver_loader(config, files, training=True),
        "weaver_evaluation": lambda: weaver_loader(config, files, training=False),
        "evaluation": evaluation(config, files, root) if name == "evaluation" else list,
        "files": ours(config, files, None) if name == "files" else list,
        "cache": ours(config, files, root) if name == "cache" else list,
    }

    def epochs(seconds: float) -> tuple[int, float, float]:
        """Run epochs for some time; return the number of jets, the wall time and the CPU time in seconds."""
        start, cpu, jets = time.perf_counter(), time.process_time(), 0
        while True:
            jets += sum(len(batch[1]["_label_"] if "weaver" in name else batch) for batch in walks[name]())
            if time.process_time() - cpu >= seconds:
                return jets, time.perf_counter() - start, time.process_time() - cpu

    jets, *first = epochs(0)
    times = [
        first,
        *([wall * jets / n, used * jets / n] for n, wall, used in (epochs(SECONDS) for _ in range(STRETCHES))),
    ]
    return {"jets": jets, "times": times, "peak": _peak_megabytes()}


def _peak_megabytes() -> float:
    # getrusage would include the memory of the process before it became this program
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1.024e-3


def in_process(name: str, config: Path, root: Path, files: list[Path]) -> dict[str, Any]:
    command = [sys.executable, __file__, str(config), *map(str, files), "--walk", name, "--root", str(root)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def largest_difference(config: Path, root: Path, files: list[Path]) -> float:
    """Return the largest absolute difference between our tensors and weaver's."""
    cache = cache_of(config, root, files, training=False)
    batches = evaluation_loader(cache.schema, files, batch_size=BATCH_SIZE, cache=cache)
    largest = 0.0
    for batch, (inputs, labels, _) in zip(batches, weaver_loader(config, files, training=False), strict=True):
        assert torch.equal(batch.label_N, labels["_label_"])
        for kind, group in cache.schema.groups.items():
            difference = (
                getattr(batch.inputs.padded(), kind) - inputs[f"_{group}" if f"_{group}" in inputs else group]
            ).abs()
            largest = max(largest, float(difference.max()))
    return largest


def compare(config: Path, files: list[Path], copies: int, folder: Path) -> None:
    console = Console()
    many = [folder / f"{copy}_{path.name}" for copy in range(copies) for path in files]
    for number, link in enumerate(many):
        link.symlink_to(files[number % len(files)].absolute())
    start = time.process_time()
    cache = cache_of(config, folder / "cache", many, training=True)
    seconds = time.process_time() - start
    console.print(f"largest difference to weaver's tensors: {largest_difference(config, folder / 'cache', files):g}")
    console.print(
        f"convert: {cache.jet_count:,} jets, {cache.byte_count / cache.jet_count:,.0f} bytes per jet, "
        f"{cache.jet_count / seconds:,.0f} jets per second and core"
    )
    parquet = parquet_files(config, files, folder / "parquet")
    rows = [
        ("weaver, ROOT", "weaver", files),
        ("weaver, parquet", "weaver", parquet),
        ("from the files, in memory", "files", files),
        ("from the cache", "cache", files),
        *([("from the cache", "cache", many)] if copies > 1 else []),
        ("weaver, evaluation", "weaver_evaluation", files),
        ("  parquet", "weaver_evaluation", parquet),
        ("cache, evaluation", "evaluation", files),
    ]
    titles = ("1st epoch\nper core", "later\nper core", "of\nROOT", "of\nparquet", "later\njets/s", "peak\nMB")
    table = Table("loader", "jets", *titles)
    references: list[float] = []
    # Round after round, so that a busy time of the machine does not hit one row alone.
    measured = [[in_process(name, config, folder / "cache", some) for _, name, some in rows] for _ in range(ROUNDS)]
    for (title, _, _), *results in zip(rows, *measured, strict=True):
        jets, first = results[0]["jets"], results[0]["jets"] / results[0]["times"][0][1]
        times = [pair for result in results for pair in result["times"][1:]]
        later, speed = jets / min(cpu for _, cpu in times), jets / min(wall for wall, _ in times)
        references = [*references, later][:2]
        ratios = [f"{later / reference:.1f}" for reference in references]
        numbers = (f"{jets:,}", f"{first:,.0f}", f"{later:,.0f}", *[*ratios, ""][:2], f"{speed:,.0f}")
        table.add_row(title, *numbers, f"{max(result['peak'] for result in results):,.0f}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--walk", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.walk:
        print(json.dumps(walk(arguments.walk, arguments.config, arguments.root, arguments.files)))
        return
    with tempfile.TemporaryDirectory() as folder:  # weaver writes beside the config
        config = Path(shutil.copy(arguments.config, folder))
        compare(config, arguments.files, arguments.copies, Path(folder))


if __name__ == "__main__":
    main()
