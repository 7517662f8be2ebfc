"""The compact form of the bundled H->bb and QCD jets: how it is made, and what it changes.

``python -m benchmarks.sample_jets pack FROM TO HToBB=2500 ZJetsToNuNu=4000`` writes the first jets of each file of
``phaze_ee -m generate`` in compact form. ``data_configs/SampleJets_Hbb.yaml`` makes the usual variables of it.

``python -m benchmarks.sample_jets check FROM TO --shared FOLDER`` compares both forms of the same jets: each input in a
two-sample test (Kolmogorov-Smirnov), and the answers of the published ParticleNet_full, whose weights are in
``FOLDER/weights``.
"""

import argparse
import json
from itertools import islice
from pathlib import Path
from typing import Any

import awkward
import numpy as np
import numpy.typing as npt
import torch
import uproot
from scipy.stats import ks_2samp

from phaze_ee.data.loaders import evaluation_loader
from phaze_ee.data.schema import DataSchema
from phaze_ee.evaluation.answers import predict
from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.tagger import Tagger
from phaze_ee.stats import roc_area
from phaze_ee.types import JetBatch
from tests.published import published_network

ROOT = Path(__file__).resolve().parents[1]
FORMS = ("JetClass_ParT_full", "SampleJets_Hbb")  # the data configurations of both forms

BATCH = 250
TREE = "tree"
RECORD = "generation.json"
STEMS = ("ZJetsToNuNu", "HToBB")  # the first two classes of the published network
# Steps of the integers. Detectors resolve less: 1 % of a pt, 0.001 in angle, 0.005 mm of an impact parameter.
PT_STEPS = 200  # of ln(pt / GeV)
ANGLE_STEPS = 2000  # of radians
IMPACT_STEPS, IMPACT_SCALE = 40, 200  # of arcsinh(200 d / mm): relative far from 0, 0.0001 mm at 0
ERROR_STEPS = 10_000  # of an error in mm; the generator has these steps itself
TYPES = ("isNeutralHadron", "isPhoton", "isChargedHadron", "isElectron", "isMuon")  # 1 to 5, times the charge
JET_COLUMNS = ("jet_pt", "jet_eta", "jet_phi", "jet_energy", "jet_sdmass")
LABELS = ("label_QCD", "label_Hbb")


def pack(source: Path, target: Path, jets: dict[str, int]) -> None:
    """Write the first ``jets`` of each file in compact form, and the record of how they were generated."""
    target.mkdir(parents=True, exist_ok=True)
    record = json.loads((source / RECORD).read_text())["files"]
    for stem, count in jets.items():
        name = f"{stem}_000.root"
        table = uproot.open(f"{source / name}:{TREE}").arrays(entry_stop=count)
        assert len(table) == count
        branches = {"part": awkward.zip(_particles(table)), **_jets(table)}
        types = {
            key: values.type.content if isinstance(values, awkward.Array) else values.dtype
            for key, values in branches.items()
        }
        with uproot.recreate(target / name, compression=uproot.ZSTD(22)) as file:
            file.mktree(TREE, types).extend(branches)
        entry = record[name]
        command = entry["command"].replace(f"--output {source.name} ", f"--output {target.name} ")
        entry["command"] = command.replace(f"--jets {entry['jets']} ", f"--jets {count} ")  # the first are the same
        entry |= {"jets": count, "packed_by": "python -m benchmarks.sample_jets pack"}
    kept = {name: entry for name, entry in record.items() if name.removesuffix("_000.root") in jets}
    (target / RECORD).write_text(json.dumps({"files": kept}, indent=2) + "\n")


def _particles(table: awkward.Array) -> dict[str, awkward.Array]:
    def whole(values: awkward.Array, dtype: Any = np.int16) -> awkward.Array:
        return awkward.values_astype(np.round(values), dtype)

    code = sum((index + 1) * table[f"part_{name}"] for index, name in enumerate(TYPES))
    return {
        "logpt": whole(PT_STEPS * np.log(np.hypot(table.part_px, table.part_py))),
        "eta": whole(ANGLE_STEPS * table.part_deta),
        "phi": whole(ANGLE_STEPS * table.part_dphi),
        "d0": whole(IMPACT_STEPS * np.arcsinh(IMPACT_SCALE * table.part_d0val)),
        "dz": whole(IMPACT_STEPS * np.arcsinh(IMPACT_SCALE * table.part_dzval)),
        "d0unc": whole(ERROR_STEPS * table.part_d0err),
        "dzunc": whole(ERROR_STEPS * table.part_dzerr),
        "type": whole(code * awkward.where(table.part_charge < 0, -1, 1), np.int8),
    }


def _jets(table: awkward.Array) -> dict[str, npt.NDArray[Any]]:
    real = {name: np.asarray(table[name], np.float32) for name in JET_COLUMNS}
    return real | {name: np.asarray(table[name], np.int8) for name in LABELS}


def check(source: Path, target: Path, shared: Path, jets: int) -> None:
    """Print how far inputs and answers of the published network differ between both forms of the first jets."""
    tagger = Tagger(ParticleNet(published_network(shared, "full")), []).eval()
    odds: dict[str, list[npt.NDArray[np.float64]]] = {form: [] for form in FORMS}
    for stem in STEMS:
        read = [
            _first(form, folder / f"{stem}_000.root", jets)
            for form, folder in zip(FORMS, (source, target), strict=True)
        ]
        _compare_inputs(stem, *read)
        for form, batches in zip(FORMS, read, strict=True):
            logits_NK = predict(tagger, batches, [*LABELS, *map(str, range(8))]).logits_ENK[-1].astype(np.float64)
            odds[form].append(logits_NK[:, 1] - logits_NK[:, 0])
    right = {form: np.concatenate([background < 0, signal > 0]) for form, (background, signal) in odds.items()}
    for form, (background, signal) in odds.items():
        label = np.repeat([False, True], [len(background), len(signal)])
        area = roc_area(label, np.concatenate(odds[form]))
        passing = f"QCD kept at 50 % {np.mean(background > np.quantile(signal, 0.5)):.5f} of {len(background):,}"
        print(f"{form}: H->bb or QCD right {right[form].mean():.4f}, AUC {area:.5f}, {passing}")
    change = right[FORMS[1]].astype(int) - right[FORMS[0]]
    print(f"change of the accuracy {change.mean():+.4f} +- {change.std() / np.sqrt(len(change)):.4f}")


def _first(form: str, file: Path, jets: int) -> list[JetBatch]:
    schema = DataSchema.load(ROOT / "data_configs" / f"{form}.yaml").resolve([file])
    return list(islice(evaluation_loader(schema, [file], batch_size=BATCH), jets // BATCH))


def _compare_inputs(stem: str, before: list[JetBatch], after: list[JetBatch]) -> None:
    print(f"{stem}: Kolmogorov-Smirnov test of each input of the two forms, and the largest difference")
    names = DataSchema.load(ROOT / "data_configs" / f"{FORMS[0]}.yaml").weaver.input_dicts["pf_features"]
    for index, name in enumerate(names):
        first, second = (
            torch.cat([batch.inputs.ragged().features_VC[:, index] for batch in batches]).numpy()
            for batches in (before, after)
        )
        test = ks_2samp(first, second)
        print(f"  {name:22} D {test.statistic:.5f}  p {test.pvalue:.3f}  {np.abs(first - second).max():.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=("pack", "check"))
    parser.add_argument("source", type=Path, metavar="FROM")
    parser.add_argument("target", type=Path, metavar="TO")
    parser.add_argument("jets", nargs="*", metavar="CLASS=JETS", help="pack: the first jets of these classes")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--count", type=int, default=2000, help="check: jets of each class")
    arguments = parser.parse_args()
    if arguments.task == "check":
        check(arguments.source, arguments.target, arguments.shared, arguments.count)
        return
    counts = (entry.split("=") for entry in arguments.jets)
    pack(arguments.source, arguments.target, {stem: int(count) for stem, count in counts})


if __name__ == "__main__":
    main()
