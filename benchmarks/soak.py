"""Measures the memory of mode predict while it goes through millions of jets.

    python benchmarks/soak.py data_configs/JetClass_full.yaml FILE.root … [--jets 3000000] [--rows 100000]

The files are predicted again and again, under other names, by the real command. All jets leave at an exit on the
inputs of a small ParticleNet. With ``--rows``, they are first joined into files of about as many rows. Printed is the
resident memory of the process against the jets that are done, and the most of it in the tenth after the first file and
in the last tenth.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch

from benchmarks.predict import merged
from phaze_ee.config.load import load_options
from phaze_ee.data.row_spans import row_count
from phaze_ee.data.schema import DataSchema
from phaze_ee.models.build import build_tagger
from phaze_ee.models.checkpoint import Checkpoint, save_checkpoint
from phaze_ee.workspace import Project

CONFIG = """\
def set_config(c):
    c.data_config = {data_config!r}
    c.train_files = c.val_files = {files!r}
    c.conv_params = [(4, (8, 8))]
    c.fc_params = [(16, 0.0)]
    c.exit_stages = ["input"]
    c.exit_head = "linear"
    c.beta_max = [1.0]
    c.device = "cpu"
"""
PAUSE = 0.5  # seconds between two looks at the memory


def make_project(folder: Path, data_config: Path, files: Sequence[Path]) -> None:
    """Write a project with a model of random weights."""
    os.environ["PHAZE_EE_WORKSPACES"] = str(folder)
    project = Project("Soak", "small")
    project.config.parent.mkdir(parents=True)
    content = CONFIG.format(data_config=str(data_config.absolute()), files=[str(path.absolute()) for path in files])
    project.config.write_text(content, encoding="utf-8")
    torch.manual_seed(0)
    schema = DataSchema.load(data_config).resolve(files)
    tagger = build_tagger(
        load_options(project.config), ROOT / "network_configs" / "ParticleNet_JetClass.py", schema.weaver
    )
    save_checkpoint(project.best_model, Checkpoint(tagger, {}, schema.options, "", 0, {}))


def repeated(files: Sequence[Path], jets: int, treename: str | None, folder: Path) -> list[int]:
    """Link the files again and again until there are enough jets; return the jets of each link."""
    folder.mkdir()
    counts = {path: row_count(path, treename) for path in files}
    made: list[int] = []
    for path in cycle(files):
        if sum(made) >= jets:
            return made
        (folder / f"jets_{len(made):06d}{path.suffix}").symlink_to(path.absolute())
        made.append(counts[path])
    return made


def joined(schema: DataSchema, files: Sequence[Path], rows: int, folder: Path) -> list[Path]:
    """Write files of about ``rows`` jets from many copies of the files."""
    jets = sum(row_count(path, schema.weaver.treename) for path in files)
    return [merged(schema, list(files) * max(1, rows // jets), folder / "joined.root")]


def resident(pid: int) -> float:
    """Return the resident memory of a process in MB; 0 if it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def watch(folder: Path, jets: Sequence[int]) -> list[tuple[int, float]]:
    """Predict all files; return jets that are done and resident memory, as time goes on."""
    words = [
        "-m",
        "predict",
        "-p",
        "Soak",
        "small",
        "--files",
        f"{folder}/links/*",
        "--output",
        str(folder / "out"),
        "--max-exit",
        "0",
    ]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "phaze_ee", *words], cwd=ROOT, stdout=log, stderr=log)
        seen: list[tuple[int, float]] = []
        while process.poll() is None:
            time.sleep(PAUSE)
            done = len(list((folder / "out").glob("[!.]*"))) if (folder / "out").exists() else 0
            megabytes = resident(process.pid)
            if done and megabytes:
                seen.append((sum(jets[:done]), megabytes))
    if process.returncode:
        sys.exit((folder / "log").read_text(encoding="utf-8"))
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--jets", type=int, default=3_000_000)
    parser.add_argument("--rows", type=int, help="jets per file; default: as they are")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        schema = DataSchema.load(arguments.config)
        files = arguments.files
        if arguments.rows is not None:
            files = joined(schema, files, arguments.rows, folder)
        make_project(folder / "ws", arguments.config, arguments.files)
        jets = repeated(files, arguments.jets, schema.weaver.treename, folder / "links")
        seen = watch(folder, jets)
    print(f"{'jets':>10} {'MB':>7}")
    for index in sorted({round(place * (len(seen) - 1) / 20) for place in range(21)}):
        print(f"{seen[index][0]:>10,} {seen[index][1]:>7.0f}")
    # The most in windows of equal length: memory goes up and down within a file, and the most of many is higher.
    early, first, last = (
        max(megabytes for done, megabytes in seen if low <= done <= high)
        for low, high in (
            (0, seen[0][0] + max(jets[:2])),
            (seen[0][0], seen[0][0] + 0.1 * sum(jets)),
            (0.9 * sum(jets), sum(jets)),
        )
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = used.ru_utime + used.ru_stime
    print(f"most in the tenth after the first file {first:.0f} MB, in the last {last:.0f} MB: {last / first - 1:+.0%}")
    print(f"most in the first two files {early:.0f} MB")
    print(f"{1e6 * seconds / sum(jets):.1f} us of the processor per jet; peak {used.ru_maxrss / 1e3:.0f} MB")


if __name__ == "__main__":
    main()
