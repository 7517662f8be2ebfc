"""Predicts a million jets with an audit, and compares what the audit says with what is true.

    python benchmarks/audited.py FILE.root … [--jets 1000000] [--rate 0.02] [--folder FOLDER]

The files are JetClass-like. Of the jets of each file, 45 % train a small ParticleNet with exits, 30 % calibrate a
policy of target ``agreement``, and the others are repeated with momenta scaled by 0.85 to 1.15, copy by copy, until
there are enough. Modes predict (with the audit) and monitor read them in rounds of 100,000, by the real commands. Then
predict audits every jet, which tells the truth: the class that the full model gives to each. Jets and predictions of a
round are removed after it, so that neither memory nor disk grows with their number.

Printed are cost, share of other classes and accuracy lost to the exits: as the audit estimates them with its weights,
and as they are, with the most memory that a command of the round took. The error is that of the audit. ``--folder``
keeps the project; it is trained only if it is not there.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import awkward as ak
import numpy as np
import uproot

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.drift import unchanged, write_shifted
from benchmarks.projects import made
from phaze_ee.data.row_spans import row_count
from phaze_ee.prediction.audited import read_audited
from phaze_ee.prediction.columns import column_stems
from phaze_ee.prediction.writers import read_column, read_manifest

TREE, SCALES = "tree", (0.85, 1.15)
ROUND, FILE = 100_000, 20_000
PARTS = {"train": (0.0, 0.36), "val": (0.36, 0.45), "calibrate": (0.45, 0.75), "stream": (0.75, 1.0)}
OPTIONS = {
    "data_config": "data_configs/JetClass_full.yaml",
    "conv_params": [(8, (16, 16, 16)), (8, (32, 32, 32))],
    "fc_params": [(32, 0.1)],
    "exit_stages": ["input", 0],
    "beta_max": [1.0, 1.0],
    "epochs": 6,
    "exit_target": "agreement",
    "epsilon": 0.05,
    "device": "cpu",
    "seed": 1,
}

MEMORY: list[float] = []  # the most that each command took, in MB


@dataclass
class Sums:
    """Sums over jets: what is estimated, with the squares of its terms, and what is true."""

    jets: int = 0
    macs: float = 0.0
    audit_macs: float = 0.0
    full_macs: float = 0.0
    estimates: dict[str, float] = field(default_factory=dict)
    squares: dict[str, float] = field(default_factory=dict)
    true: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, terms_N: np.ndarray, true_N: np.ndarray) -> None:
        for sums, values_N in ((self.estimates, terms_N), (self.squares, terms_N**2), (self.true, true_N)):
            sums[name] = sums.get(name, 0.0) + float(values_N.sum())

    @property
    def lines(self) -> list[str]:
        share, audits = self.macs / self.full_macs, self.audit_macs / self.full_macs
        cost = f"{self.jets:,} jets: {100 * share:.2f} % of the full model's cost, of which {100 * audits:.2f} % audits"
        return [cost, *map(self.line, self.estimates)]

    def line(self, name: str) -> str:
        share, true = self.estimates[name] / self.jets, self.true[name] / self.jets
        error = np.sqrt((self.squares[name] / self.jets - share**2) / self.jets)
        pull = (share - true) / error
        return f"{name:<22} {100 * share:7.3f} ± {100 * error:.3f} %  true {100 * true:7.3f} %  {pull:+.1f} errors"


def scaled(factor: float, jets: ak.Array) -> ak.Array:
    """Return jets with all momenta and energies times a factor."""
    axes = ("px", "py", "pz", "energy")
    for name in [*(f"part_{axis}" for axis in axes), "jet_pt", "jet_energy"]:
        jets[name] = jets[name] * np.float32(factor)
    return jets


def command(mode: str, *words: object) -> float:
    """Run a mode of the command line on the project; return the seconds that it took."""
    started = time.perf_counter()
    line = [sys.executable, "-m", "phaze_ee", "-m", mode, "-p", "Audited", "small", *map(str, words)]
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(line, cwd=ROOT, stdout=printed, stderr=subprocess.STDOUT, text=True)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        MEMORY.append(usage.ru_maxrss / 1e3)
        if process.returncode not in (0, 3):
            printed.seek(0)
            sys.exit(printed.read())
    return time.perf_counter() - started


def prepare(files: Sequence[Path], folder: Path) -> None:
    """Divide the jets of each file, and train and calibrate a project with them."""
    for part, (start, stop) in PARTS.items():
        (folder / part).mkdir()
        for path in files:
            count = row_count(path, TREE)
            rows = slice(round(start * count), round(stop * count))
            write_shifted(path, folder / part / path.name, TREE, unchanged, rows)
    patterns = {f"{part}_files": [str(folder / part / "*.root")] for part in ("train", "val")}
    calibration = {"calibration_files": [str(folder / "calibrate" / "*.root")]}
    made("Audited", "small", OPTIONS | patterns | calibration)
    print(f"training {command('train'):.0f} s, calibration {command('calibrate'):.0f} s", flush=True)


def rounds(folder: Path, jets: int) -> Iterator[Path]:
    """Yield folders of about 100,000 jets each, in files of about 20,000; every copy of the jets has another scale."""
    sources = [uproot.open(path)[TREE] for path in sorted((folder / "stream").glob("*.root"))]
    names = [name for name in sources[0].keys() if name != "npart"]  # noqa: SIM118 - no mapping
    jets_N = ak.concatenate([source.arrays(names, library="ak") for source in sources])
    scales = iter(np.random.default_rng(2).uniform(*SCALES, size=10**6))
    copies = max(1, round(FILE / len(jets_N)))
    done = number = 0
    while done < jets:
        target = folder / "jets"
        target.mkdir()
        for _ in range(min(ROUND, jets - done) // (copies * len(jets_N)) or 1):
            with uproot.recreate(target / f"jets_{number:06d}.root", compression=uproot.ZSTD(1)) as file:
                types = {name: str(jets_N[name].type.content) for name in names}
                file.mktree(TREE, types, counter_name=lambda _: "npart")
                for _ in range(copies):
                    copy = scaled(next(scales), ak.copy(jets_N))
                    file[TREE].extend({name: copy[name] for name in names})
            done, number = done + copies * len(jets_N), number + 1
        yield target
        shutil.rmtree(target)


def compare(sums: Sums, audited: Path, whole: Path) -> None:
    """Add what the audit estimates on the jets of a file, and what is true."""
    manifest = read_audited(audited)
    classes = [name for name in OPTION_CLASSES if name]
    stems = list(column_stems(classes).values())

    def answer(path: Path, prefix: str) -> np.ndarray:
        class_N: np.ndarray = np.stack([read_column(path, f"{prefix}_{stem}") for stem in stems], axis=1).argmax(axis=1)
        return class_N

    label_N = np.stack([read_column(audited, stem) for stem in stems], axis=1).argmax(axis=1)
    weight_N = read_column(audited, "audit_weight")
    own_N, seen_N, full_N = answer(audited, "score"), answer(audited, "audit_score"), answer(whole, "audit_score")
    assert manifest.audit is not None
    sums.jets += len(label_N)
    sums.macs, sums.full_macs = sums.macs + manifest.macs, sums.full_macs + manifest.full_macs
    sums.audit_macs += manifest.audit.macs
    sums.add("other class", weight_N * (own_N != seen_N), own_N != full_N)
    lost_N = weight_N * ((seen_N == label_N).astype(int) - (own_N == label_N))
    sums.add("accuracy lost", lost_N, (full_N == label_N).astype(int) - (own_N == label_N))


OPTION_CLASSES = [f"label_{name}" for name in ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--jets", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=0.02)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = (arguments.folder or Path(name)).absolute()
        os.environ["PHAZE_EE_WORKSPACES"] = str(folder / "ws")
        if not (folder / "ws").exists():
            folder.mkdir(parents=True, exist_ok=True)
            prepare(arguments.files, folder)
        measure(folder, arguments.jets, arguments.rate)


def measure(folder: Path, jets: int, rate: float) -> None:
    sums, plain, seconds = Sums(), 0.0, {"audited": 0.0, "monitor": 0.0, "all": 0.0}
    out = {name: folder / name for name in ("audited", "all", "plain", "watched")}
    for path in (out["watched"], folder / "jets"):
        shutil.rmtree(path, ignore_errors=True)
    for target in rounds(folder, jets):
        files = ("--files", target / "*.root")
        seconds["audited"] += command("predict", *files, "--audit", rate, "--output", out["audited"])
        predictions = ("--files", out["audited"] / "*.root")
        seconds["monitor"] += command("monitor", "--adapt", *predictions, "--output", out["watched"])
        seconds["all"] += command("predict", *files, "--audit", 1, "--output", out["all"])
        for path in sorted(out["audited"].glob("*.root")):
            compare(sums, path, out["all"] / path.name)
        if not plain:
            plain = command("predict", *files, "--output", out["plain"]) / sums.jets
            manifests = [read_manifest(path) for path in out["plain"].glob("*.root")]
            share = sum(one.macs for one in manifests) / sum(one.full_macs for one in manifests)
            print(f"first round: {100 * share:.2f} % without the audit, and with it", flush=True)
        for name in ("audited", "all", "plain"):
            shutil.rmtree(out[name], ignore_errors=True)
        print("\n".join(sums.lines), f"most memory of a command {max(MEMORY):.0f} MB", sep="\n", flush=True)
        MEMORY.clear()
    rates = {name: f"{1e6 * value / sums.jets:.0f}" for name, value in seconds.items()}
    print(f"us per jet, with starts: without audit {1e6 * plain:.0f}, with {rates}")
    print(f"monitor: {(out['watched'] / 'monitor.json').stat().st_size / 1e6:.1f} MB of state")


if __name__ == "__main__":
    main()
