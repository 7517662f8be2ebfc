"""Jets per second of our loaders and of weaver's, in one run on the same files.

python benchmarks/loading.py data_configs/JetClass_full.yaml FILE.root …
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader
from weaver.utils.dataset import SimpleIterDataset

from phaze_ee.data.loaders import evaluation_loader, training_loader
from phaze_ee.data.schema import DataSchema

BATCH_SIZE = 512


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


def seconds(walk: Callable[[], Iterable[Any]]) -> float:
    start = time.perf_counter()
    for _ in walk():
        pass
    return time.perf_counter() - start


def measure(config: Path, files: list[Path]) -> dict[str, float]:
    schema = DataSchema.load(config)
    training = training_loader(schema, files, batch_size=BATCH_SIZE, num_workers=0, seed=1)
    evaluation = evaluation_loader(schema, files, batch_size=BATCH_SIZE)
    seconds(lambda: evaluation_loader(schema, files[:1], batch_size=BATCH_SIZE))  # compiles weaver's padding
    return {
        "weaver, evaluation (fetch_by_files)": seconds(lambda: weaver_loader(config, files, training=False)),
        "weaver, training (fetch_by_files)": seconds(lambda: weaver_loader(config, files, training=True)),
        "ours, evaluation": seconds(lambda: evaluation),
        "ours, training, first epoch": seconds(lambda: training),
        "ours, training, later epochs (in memory)": seconds(lambda: training),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:  # weaver writes beside the config
        results = measure(Path(shutil.copy(arguments.config, folder)), arguments.files)
    jets = sum(
        len(batch) for batch in evaluation_loader(DataSchema.load(arguments.config), arguments.files, batch_size=512)
    )
    table = Table("loader (one process)", "jets/s", "against weaver, evaluation", title=f"{jets} jets")
    reference = results["weaver, evaluation (fetch_by_files)"]
    for name, duration in results.items():
        table.add_row(name, f"{jets / duration:,.0f}", f"{reference / duration:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
