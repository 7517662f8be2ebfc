"""Measures jets per second from file to file if nearly all jets leave at the inputs: reading, engine, writing.

    python benchmarks/predict.py data_configs/JetClass_ParT_full.yaml FILE.root … [--repeat 5] [--leaving 0.99]

The network is ParticleNet with random weights and exits on the inputs and after blocks 0 and 1. The threshold at the
inputs is set so that the given fraction leaves there; all other jets get the full model. Each row is the best of
``--rounds`` on the given number of cores. Files are read from the cache of the system.
"""

import argparse
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import uproot
from rich.console import Console

from phaze_ee.config.options import NetworkOptions
from phaze_ee.data.loaders import EVALUATION_ROWS, evaluation_loader
from phaze_ee.data.row_spans import ahead, row_count, spans_of
from phaze_ee.data.rows import RowReader
from phaze_ee.data.schema import DataSchema
from phaze_ee.engine.engine import Engine
from phaze_ee.errors import DataError
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.models.build import build_tagger
from phaze_ee.prediction.job import PredictionTask, predict_file
from phaze_ee.prediction.outputs import FileJob
from phaze_ee.prediction.parallel import predict_files
from phaze_ee.prediction.writers import InputFile, Manifest, Recipe
from phaze_ee.tables.style import empty_table

NETWORK = Path(__file__).resolve().parents[1] / "network_configs" / "ParticleNet_JetClass.py"


def make_task(schema: DataSchema, first: Path, leaving: float, head: str) -> PredictionTask:
    options = NetworkOptions(exit_stages=["input", 0, 1], exit_head=head)
    tagger = build_tagger(options, NETWORK, schema.weaver).eval()
    span = spans_of(first, schema.weaver.treename, EVALUATION_ROWS)[0]
    jets = RowReader.of_file(schema, first).read(span).jets.batch().inputs
    everything = ThresholdPolicy("confidence", [-math.inf, math.inf, math.inf])
    score_N = everything.score(Engine(tagger, everything)(jets).logits_NK[None])
    threshold = -math.inf if leaving == 1 else float(score_N.quantile(1 - leaving))
    policy = ThresholdPolicy("confidence", [threshold, math.inf, math.inf])
    recipe = Recipe(model=None, policy=None, data="", exit_scores=False, monitored=None)
    return PredictionTask(tagger, policy, schema, recipe)


def make_jobs(files: Sequence[Path], folder: Path) -> list[FileJob]:
    return [FileJob(path, folder / f"{index}.root", InputFile.of(path)) for index, path in enumerate(files)]


def read_batches(task: PredictionTask, files: Sequence[Path]) -> None:
    for _ in evaluation_loader(task.schema, files, batch_size=512):
        pass


def read(task: PredictionTask, files: Sequence[Path]) -> None:
    for path in files:
        reader = RowReader.of_file(task.schema, path)
        for span in spans_of(path, task.schema.weaver.treename, EVALUATION_ROWS):
            reader.read(span).jets.batch()


def read_and_run(task: PredictionTask, files: Sequence[Path]) -> None:
    engine = Engine(task.tagger, task.policy, threads=task.threads)
    for path in files:
        reader = RowReader.of_file(task.schema, path)
        for rows in ahead(map(reader.read, spans_of(path, task.schema.weaver.treename, EVALUATION_ROWS))):
            engine(rows.jets.batch().inputs)


def read_run_and_write(task: PredictionTask, files: Sequence[Path]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for job in make_jobs(files, Path(folder)):
            predict_file(task, job)


STEPS: dict[str, Callable[[PredictionTask, Sequence[Path]], None]] = {
    "reading, batches of 512": read_batches,
    "reading": read,
    "reading, engine": read_and_run,
    "reading, engine, writing": read_run_and_write,
}


def dask_rate(task: PredictionTask, files: Sequence[Path], workers: int) -> float:
    """Return jets per second after every worker has finished its first file: a worker takes seconds to start."""
    with tempfile.TemporaryDirectory() as folder:
        done = [(manifest.rows, time.perf_counter()) for manifest in _manifests(task, files, Path(folder), workers)]
    started = done[workers - 1][1]
    return sum(rows for rows, _ in done[workers:]) / (done[-1][1] - started)


def _manifests(task: PredictionTask, files: Sequence[Path], folder: Path, workers: int) -> Iterator[Manifest]:
    for found in predict_files(task, make_jobs(files, folder), workers=workers, scheduler=None):
        if isinstance(found, DataError):
            raise found
        yield found


def merged(schema: DataSchema, files: Sequence[Path], path: Path) -> Path:
    """Write all jets into one file, as in large productions."""
    with uproot.recreate(path, compression=uproot.ZSTD(5)) as output:
        for source in files:
            with uproot.open(source) as file:
                tree = file[schema.weaver.treename]
                columns = tree.arrays([name for name in tree.keys() if name != "npart"], library="ak")  # noqa: SIM118
            arrays = {name: columns[name] for name in columns.fields}
            if schema.weaver.treename not in output:
                types = {name: str(array.type.content) for name, array in arrays.items()}
                output.mktree(schema.weaver.treename, types, counter_name=lambda _: "npart")
            output[schema.weaver.treename].extend(arrays)
    return path


def measure(task: PredictionTask, files: Sequence[Path], rounds: int) -> dict[str, float]:
    jets = sum(row_count(path, task.schema.weaver.treename) for path in files)
    rates = {}
    for name, step in STEPS.items():
        step(task, files[:1])
        seconds = []
        for _ in range(rounds):
            start = time.perf_counter()
            step(task, files)
            seconds.append(time.perf_counter() - start)
        rates[name] = jets / min(seconds)
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--repeat", type=int, default=5, help="number of times that the merged file is read")
    parser.add_argument("--leaving", type=float, default=0.99, help="fraction that leaves at the inputs")
    parser.add_argument("--head", default="deep_sets")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    schema = DataSchema.load(arguments.config)
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        large = [merged(schema, arguments.files, Path(folder) / "all.root")] * arguments.repeat
        task = make_task(schema, arguments.files[0], arguments.leaving, arguments.head)
        rates = {}
        for count in (1, 2):
            os.sched_setaffinity(0, cores[:count])
            for name, files in (("large", large), ("small", arguments.files)):
                rates[name, count] = measure(replace(task, threads=count), files, arguments.rounds)
        for name, files in (("large", large), ("small", arguments.files * arguments.repeat)):
            rates[name, 2]["the same, 2 processes"] = dask_rate(task, files, 2)
    show(rates, arguments)


def show(rates: dict[tuple[str, int], dict[str, float]], arguments: argparse.Namespace) -> None:
    title = f"jets/s, large or small files, 1 or 2 cores; {arguments.leaving:.0%} leave at the inputs"
    columns = [f"{name}, {count}" for name, count in rates]
    table = empty_table(title, columns, first="step")
    for step in rates["large", 2]:
        table.add_row(step, *(f"{rate[step]:,.0f}" if step in rate else "" for rate in rates.values()))
    Console(width=80).print(table)


if __name__ == "__main__":
    main()
