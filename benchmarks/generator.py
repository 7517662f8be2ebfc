"""Measures speed and realism of the generated jets.

Speed is measured in CPU time, so that other work on the machine does not matter. Realism needs the folder ``shared``
beside the checkout, with real JetClass jets and networks that were trained on 100 million of them.

    python -m benchmarks.generator --jets 500                 # generate H->bb in both modes, compare with real jets
    python -m benchmarks.generator --sample FOLDER            # compare the files of a folder as well
"""

import argparse
import tempfile
import time
from pathlib import Path

import awkward
import numpy as np
import uproot
from rich.console import Console
from rich.table import Table

from benchmarks.two_sample import Momenta, two_sample_auc
from phaze_ee.config.options import NetworkOptions
from phaze_ee.data.loaders import evaluation_loader
from phaze_ee.data.schema import DataSchema
from phaze_ee.evaluation.answers import predict
from phaze_ee.generate import GeneratorOptions, generate_files
from phaze_ee.generate.columns import Floats, Integers
from phaze_ee.generate.options import Mode
from phaze_ee.generate.processes import LABELS, PROCESSES
from phaze_ee.machine import resolve_device
from phaze_ee.models.build import build_tagger
from phaze_ee.models.checkpoint import load_weights

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
SAMPLE_JETS = ROOT / "phaze_ee" / "sample_jets"
MAXIMUM_PARTICLES = 128
MODES: tuple[Mode, ...] = ("reference", "fast")


def read_real(name: str) -> tuple[Momenta, Integers]:
    """Return real jets and their labels (all H->bb where the file has none)."""
    with np.load(SHARED / "data" / name) as stored:
        jets = Momenta(stored["vectors"].astype(float), stored["points"].astype(float))
        hbb = np.full(len(jets), LABELS.index("Hbb"))
        return jets, np.asarray(stored.get("label", hbb), dtype=np.int64)


def read_generated(file: Path) -> Momenta:
    """Return the jets of a file with the columns of JetClass."""
    names = ("px", "py", "pz", "energy", "deta", "dphi")
    arrays = uproot.open(f"{file}:tree").arrays([f"part_{name}" for name in names])
    columns = [_padded(arrays[f"part_{name}"]) for name in names]
    return Momenta(np.stack(columns[:4], axis=1), np.stack(columns[4:], axis=1))


def _padded(column: awkward.Array) -> Floats:
    padded = awkward.pad_none(column, MAXIMUM_PARTICLES, clip=True)
    return np.asarray(awkward.to_numpy(awkward.fill_none(padded, 0.0)), dtype=np.float64)


def speed_and_realism(jets: int, seed: int, console: Console) -> None:
    """Generate H->bb and QCD jets in both modes; compare H->bb with real jets."""
    table = Table(
        "mode",
        "class",
        "jets",
        "jets/s a core",
        "AUC against real",
        title="Generation (the library of the fast mode, about 14 s, included)",
    )
    real = read_real("jetclass_real_hbb.npz")[0] if SHARED.is_dir() else None
    for mode in MODES:
        for stem in ("HToBB", "ZJetsToNuNu"):
            with tempfile.TemporaryDirectory() as folder:
                options = GeneratorOptions(Path(folder), jets, (stem,), seed=seed, mode=mode)
                start = time.process_time()
                (file,) = generate_files(options, lambda _progress: None)
                rate = jets / (time.process_time() - start)
                auc = _auc(real, read_generated(file)) if stem == "HToBB" else ""
            table.add_row(mode, stem, str(jets), f"{rate:.1f}", auc)
    console.print(table)


def _auc(real: Momenta | None, generated: Momenta) -> str:
    if real is None:
        return "no real jets here"
    auc, error = two_sample_auc(real, generated)
    return f"{auc:.3f} ± {error:.3f}"


def sample_realism(folders: list[Path], console: Console) -> None:
    """Compare the files of folders with real jets: H->bb, and all classes with the class fractions of the real jets."""
    generated = {stem: _read_class(folders, stem) for stem in PROCESSES}
    table = Table("sample", "real", "generated", "AUC", "particles real / generated", title="Sample")
    hbb, _ = read_real("jetclass_real_hbb.npz")
    _add_row(table, "Hbb", hbb, generated["HToBB"])
    mixed, labels = read_real("jetclass_real_dev.npz")
    wanted = np.bincount(labels, minlength=len(LABELS))
    by_label = {PROCESSES[stem].label: jets for stem, jets in generated.items()}
    times = min(len(by_label[label]) // max(int(count), 1) for label, count in zip(LABELS, wanted, strict=True))
    parts = [by_label[label][np.arange(times * count)] for label, count in zip(LABELS, wanted, strict=True)]
    _add_row(table, "all classes", mixed, _concatenate(parts))
    console.print(table)


def _read_class(folders: list[Path], stem: str) -> Momenta:
    return _concatenate([read_generated(file) for folder in folders for file in sorted(folder.glob(f"{stem}_*.root"))])


def _concatenate(parts: list[Momenta]) -> Momenta:
    return Momenta(np.concatenate([part.vectors for part in parts]), np.concatenate([part.points for part in parts]))


def _add_row(table: Table, name: str, real: Momenta, generated: Momenta) -> None:
    particles = " / ".join(f"{(jets.vectors[:, 3] > 0).sum(axis=1).mean():.2f}" for jets in (real, generated))
    table.add_row(name, str(len(real)), str(len(generated)), _auc(real, generated), particles)


def published_accuracy(folders: list[Path], console: Console) -> None:
    """Classify the files with the published ParticleNet_full weights."""
    schema = DataSchema.load(ROOT / "data_configs" / "JetClass_ParT_full.yaml")
    tagger = build_tagger(
        NetworkOptions.model_validate({}), ROOT / "network_configs" / "ParticleNet_JetClass.py", schema.weaver
    )
    load_weights(tagger, SHARED / "weights" / "ParticleNet_full.pt")
    files = sorted(file for folder in folders for file in folder.glob("*.root"))
    loader = evaluation_loader(schema, files, batch_size=100, num_workers=0, labelled=True)
    predictions = predict(tagger, loader, schema.class_names, resolve_device("cpu"))
    truth, answer = predictions.label_N, predictions.logits_ENK[-1].argmax(axis=1)
    table = Table("class", "correct", "taken for QCD", title="Published ParticleNet (full inputs, 0.844 on real jets)")
    for index, name in enumerate(schema.class_names):
        own = answer[truth == index]
        table.add_row(name.removeprefix("label_"), f"{(own == index).mean():.3f}", f"{(own == 0).mean():.3f}")
    table.add_row("all", f"{(answer == truth).mean():.4f}", "", style="bold")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jets", type=int, default=500, help="jets to generate for each mode; 0 generates none")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sample", type=Path, nargs="+", default=[SAMPLE_JETS / split for split in ("test",)])
    arguments = parser.parse_args()
    console = Console()
    if arguments.jets:
        speed_and_realism(arguments.jets, arguments.seed, console)
    if SHARED.is_dir():
        sample_realism(arguments.sample, console)
        published_accuracy(arguments.sample, console)
    else:
        console.print(f"{SHARED} is not there: no comparison with real jets")


if __name__ == "__main__":
    main()
