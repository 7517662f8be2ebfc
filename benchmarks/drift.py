"""Measures how often the drift alarm notices shifted jets, and how often it gives a false alarm.

    python benchmarks/drift.py WORKSPACE/PROJECT --files FILE … [--other NAME FILE …] … [--jets 300] [--cache FOLDER]

PROJECT is a trained project with exits. Each FILE holds jets of one class that the network has not seen; the files of
--other hold the same classes from other generator settings. The first --jets of each file are used. The shifts are made
from FILE: a tenth of all particles is dropped; the momentum of each particle is scaled by 1 ± 10 % and turned by the
given angle in η and φ. The momentum of the jet is the sum over these particles. Two thirds of the jets of FILE leave
early by confidence, a third at each of two exits.

First table: over random splits of FILE, the rate of any alarm for each significance. Second table: the rate of an alarm
at significance 0.001, by the number of jets, against a reference of half of FILE.
"""

import argparse
import logging
import math
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import torch
import uproot
from rich.console import Console
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from phaze_ee.data.row_spans import row_count
from phaze_ee.data.rows import RowReader
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.table import Span
from phaze_ee.engine.engine import Engine
from phaze_ee.exits.drift import DriftReference, compare
from phaze_ee.exits.policies import ThresholdPolicy, exit_index
from phaze_ee.models.checkpoint import Checkpoint, load_checkpoint
from phaze_ee.tables.style import empty_table
from phaze_ee.workspace import existing_project

SIGNIFICANCE = 1e-3
SPLITS = 400
SAMPLES = (250, 1000, 2500, 7500)
Shift = Callable[[ak.Array, np.random.Generator], ak.Array]


def drop_particles(jets: ak.Array, rng: np.random.Generator) -> ak.Array:
    count_N = ak.num(jets.part_px)
    keep = ak.unflatten(rng.random(ak.sum(count_N)) > 0.1, count_N)
    keep = keep | (ak.local_index(keep) == 0)  # at least one particle per jet
    for name in _particle_columns(jets):
        jets[name] = jets[name][keep]
    return _summed_anew(jets)


def smear_momenta(width: float, angle: float, jets: ak.Array, rng: np.random.Generator) -> ak.Array:
    count_N = ak.num(jets.part_px)

    def normal(mean: float, deviation: float) -> ak.Array:
        return ak.unflatten(rng.normal(mean, deviation, ak.sum(count_N)).astype(np.float32), count_N)

    factor = np.maximum(normal(1, width), 0.1)
    for axis in ("px", "py", "pz", "energy"):
        jets[f"part_{axis}"] = jets[f"part_{axis}"] * factor
    for axis in ("deta", "dphi"):
        jets[f"part_{axis}"] = jets[f"part_{axis}"] + normal(0, angle)
    return _summed_anew(jets)


def unchanged(jets: ak.Array, rng: np.random.Generator) -> ak.Array:
    return jets


def _particle_columns(jets: ak.Array) -> list[str]:
    return [name for name in jets.fields if name.startswith("part_")]


def _summed_anew(jets: ak.Array) -> ak.Array:
    px, py, energy = (ak.sum(jets[f"part_{axis}"], axis=1) for axis in ("px", "py", "energy"))
    jets["jet_pt"], jets["jet_energy"] = np.hypot(px, py), energy
    return jets


def write_shifted(source: Path, target: Path, treename: str, shift: Shift, rows: slice) -> None:
    with uproot.open(source) as file:
        names = [name for name in file[treename].keys() if name != "npart"]  # noqa: SIM118 - no mapping
        columns = file[treename].arrays(names, entry_start=rows.start, entry_stop=rows.stop, library="ak")
    columns = shift(columns, np.random.default_rng(1))
    arrays = {name: columns[name] for name in columns.fields}
    with uproot.recreate(target) as file:
        types = {name: str(array.type.content) for name, array in arrays.items()}
        file.mktree(treename, types, counter_name=lambda _: "npart")
        file[treename].extend(arrays)


def answers(checkpoint: Checkpoint, files: Sequence[Path], shift: Shift, jets: int) -> Tensor:
    """Return the logits of every exit for the first jets of each file, shifted."""
    schema = DataSchema.from_options(checkpoint.data_options)
    reader, engine = RowReader(schema, training=False), Engine(checkpoint.tagger, threads=torch.get_num_threads())
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        for path in files:
            target = Path(folder) / path.name
            write_shifted(path, target, schema.weaver.treename, shift, slice(jets))
            span = Span(target, 0, row_count(target, schema.weaver.treename))
            parts.append(engine.every_exit(reader.read(span).jets.batch().inputs))
    return torch.cat(parts, dim=1)


def cached(path: Path | None, make: Callable[[], Tensor]) -> Tensor:
    if path is None or not path.is_file():
        made = make()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, made.numpy())
        return made
    return torch.from_numpy(np.load(path))


class Monitor:
    """A reference from some jets, and the alarms that others raise."""

    def __init__(self, policy: ThresholdPolicy, logits_ENK: Tensor, class_names: Sequence[str]) -> None:
        self.policy = policy
        self.reference = DriftReference.of(policy, logits_ENK, exit_index(policy, logits_ENK), class_names)

    def least_p_value(self, logits_ENK: Tensor) -> float:
        """Return the smallest p-value times the number of tests. An alarm means that it is below the significance."""
        seen = self.reference.count(self.policy, logits_ENK, exit_index(self.policy, logits_ENK))
        tests = compare(self.reference, seen, SIGNIFICANCE).tests
        return min((test.p_value for test in tests), default=1.0) * len(tests)


def thirds(logits_ENK: Tensor) -> ThresholdPolicy:
    """Return the policy with which a third of these jets leaves at each of the last two exits."""
    exits = len(logits_ENK) - 1
    thresholds = [math.inf] * exits
    staying = torch.ones(logits_ENK.shape[1], dtype=torch.bool)
    for index, share in ((exits - 2, 1 / 3), (exits - 1, 1 / 2)):
        score_N = ThresholdPolicy("confidence", thresholds).score(logits_ENK[: index + 1])
        thresholds[index] = float(score_N[staying].quantile(1 - share))
        staying &= score_N < thresholds[index]
    return ThresholdPolicy("confidence", thresholds)


def false_alarms(policy: ThresholdPolicy, logits_ENK: Tensor, names: Sequence[str]) -> dict[float, float]:
    rng = torch.Generator().manual_seed(0)
    half = logits_ENK.shape[1] // 2
    least = []
    for _ in range(SPLITS):
        order = torch.randperm(logits_ENK.shape[1], generator=rng)
        monitor = Monitor(policy, logits_ENK[:, order[:half]], names)
        least.append(monitor.least_p_value(logits_ENK[:, order[half:]]))
    return {level: float(np.mean(np.array(least) < level)) for level in (0.1, 0.05, 0.01, 0.001)}


def powers(monitor: Monitor, logits_ENK: Tensor) -> list[float]:
    rng = torch.Generator().manual_seed(0)
    rates = []
    for count in SAMPLES:
        draws = (torch.randperm(logits_ENK.shape[1], generator=rng)[:count] for _ in range(SPLITS // 4))
        rates.append(float(np.mean([monitor.least_p_value(logits_ENK[:, draw]) < SIGNIFICANCE for draw in draws])))
    return rates


def one_class_twice(logits_ENK: Tensor, index_N: Tensor, jets: int) -> Tensor:
    """Return the jets with these indices, those of the first file twice."""
    return logits_ENK[:, torch.cat([index_N, index_N[index_N < jets]])]


def show(false: dict[float, float], rates: dict[str, list[float]]) -> None:
    console = Console(width=80)
    table = empty_table(f"Any alarm in {SPLITS} random splits of the same jets", ["in splits"], first="significance")
    for level, rate in false.items():
        table.add_row(f"{level:g}", f"{100 * rate:.2f} %")
    console.print(table)
    columns = [f"{count:,} jets" for count in SAMPLES]
    table = empty_table(f"How often there is an alarm at significance {SIGNIFICANCE:g}", columns, first="jets")
    for name, row in rates.items():
        table.add_row(name, *(f"{100 * rate:.0f} %" for rate in row))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", metavar="WORKSPACE/PROJECT")
    parser.add_argument("--files", type=Path, nargs="+", required=True)
    parser.add_argument("--other", nargs="+", action="append", default=[], metavar="NAME FILE")
    parser.add_argument("--jets", type=int, default=300)
    parser.add_argument("--cache", type=Path, help="keep the answers of the network here")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    checkpoint = load_checkpoint(existing_project(*arguments.project.split("/")).best_model)
    samples: dict[str, tuple[Sequence[Path], Shift]] = {
        "the same": (arguments.files, unchanged),
        "10 % of particles dropped": (arguments.files, drop_particles),
        "smeared by 10 %, 0.01 rad": (arguments.files, partial(smear_momenta, 0.1, 0.01)),
        "smeared by 10 %, 0.03 rad": (arguments.files, partial(smear_momenta, 0.1, 0.03)),
        **{name: ([Path(file) for file in files], unchanged) for name, *files in arguments.other},
    }
    logits: dict[str, Any] = {}
    for name, (files, shift) in samples.items():
        path = arguments.cache / (re.sub(r"\W+", "_", name) + ".npy") if arguments.cache else None
        logits[name] = cached(path, partial(answers, checkpoint, files, shift, arguments.jets))
    same_ENK = logits.pop("the same")
    names = DataSchema.from_options(checkpoint.data_options).class_names
    policy = thirds(same_ENK)
    half = torch.randperm(same_ENK.shape[1], generator=torch.Generator().manual_seed(1)).chunk(2)
    monitor = Monitor(policy, same_ENK[:, half[0]], names)
    # No jet of the reference is compared with it, shifted or not.
    shifted = [name for name, (files, _) in samples.items() if files is arguments.files and name in logits]
    logits |= {name: logits[name][:, half[1]] for name in shifted}
    logits = {
        "the same": same_ENK[:, half[1]],
        **logits,
        "one class twice as often": one_class_twice(same_ENK, half[1], arguments.jets),
    }
    show(false_alarms(policy, same_ENK, names), {name: powers(monitor, value) for name, value in logits.items()})


if __name__ == "__main__":
    main()
