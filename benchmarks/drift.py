"""Measures how often the drift alarm notices shifted jets, and how often it gives a false alarm.

    python benchmarks/drift.py WORKSPACE/PROJECT --files FILE … [--other NAME FILE …] … [--jets 2000] [--cache FOLDER]

PROJECT is a trained project with exits. Each FILE holds jets of one class that the network has not seen; the files of
--other hold the same classes from other generator settings. The first --jets of each file are used. The shifts are made
from FILE: a tenth of all particles is dropped; the momentum of each particle is scaled by 1 ± 10 % and turned by the
given angle in η and φ. The momentum of the jet is the sum over these particles. Two thirds of the jets of FILE leave
early by confidence, a third at each of two exits.

Reference and streams are drawn from the jets of FILE, or from the shifted ones, with replacement; the jets of FILE
choose the bins. A stream comes in eight files of equal size. The alarm is compared with chi-squared tests of the same
histograms (Bonferroni): at one look, at the end, and at all eight looks, for which they are not valid. First table:
false alarms. Second: how often there is an alarm, by the number of jets in the stream and in the reference.
"""

import argparse
import logging
import math
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

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
from phaze_ee.exits.drift import DriftReference
from phaze_ee.exits.evidence import DriftEvidence
from phaze_ee.exits.observables import OBSERVABLES, input_observables
from phaze_ee.exits.policies import ThresholdPolicy, exit_index
from phaze_ee.models.checkpoint import Checkpoint, load_checkpoint
from phaze_ee.prediction.drift_report import judged
from phaze_ee.tables.style import empty_table
from phaze_ee.workspace import existing_project

LEVELS = (0.1, 0.01, 0.001)
LOOKS = 8
FALSE_STREAMS, STREAMS = 300, 20
FALSE_JETS = 8_000
SAMPLES = (1_000, 10_000, 100_000)
REFERENCES = (10_000,)
Shift = Callable[[ak.Array, np.random.Generator], ak.Array]


def drop_particles(jets: ak.Array, rng: np.random.Generator, share: float = 0.1, *, charged: bool = False) -> ak.Array:
    """Drop this share of the particles, or of the charged ones alone; the first particle of a jet stays."""
    count_N = ak.num(jets.part_px)
    keep = ak.unflatten(rng.random(ak.sum(count_N)) > share, count_N)
    keep = keep | (ak.local_index(keep) == 0)  # at least one particle per jet
    if charged:
        keep = keep | (jets.part_charge == 0)
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


@dataclass(frozen=True)
class Jets:
    """What the network answers for N jets, and observables of their inputs."""

    logits_ENK: Tensor
    inputs: Mapping[str, Tensor]

    def select(self, index_N: Tensor) -> Self:
        return type(self)(
            self.logits_ENK[:, index_N], {name: value_N[index_N] for name, value_N in self.inputs.items()}
        )


def answers(checkpoint: Checkpoint, files: Sequence[Path], shift: Shift, jets: int) -> Jets:
    """Return the answers for the first jets of each file, shifted."""
    schema = DataSchema.from_options(checkpoint.data_options)
    reader, engine = RowReader(schema, training=False), Engine(checkpoint.tagger, threads=torch.get_num_threads())
    logits, inputs = [], []
    with tempfile.TemporaryDirectory() as folder:
        for path in files:
            target = Path(folder) / path.name
            write_shifted(path, target, schema.weaver.treename, shift, slice(jets))
            span = Span(target, 0, row_count(target, schema.weaver.treename))
            batch = reader.read(span).jets.batch().inputs
            logits.append(engine.every_exit(batch))
            inputs.append(input_observables(batch))
    return Jets(torch.cat(logits, dim=1), {name: torch.cat([part[name] for part in inputs]) for name in inputs[0]})


def cached(path: Path | None, make: Callable[[], Jets]) -> Jets:
    if path is not None and path.is_file():
        stored = np.load(path)
        inputs = {name: torch.from_numpy(stored[name]) for name in OBSERVABLES if name in stored}
        return Jets(torch.from_numpy(stored["logits"]), inputs)
    made = make()
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        columns = {name: value_N.numpy() for name, value_N in made.inputs.items()}
        np.savez(path, allow_pickle=False, logits=made.logits_ENK.numpy(), **columns)
    return made


@dataclass(frozen=True)
class Alarms:
    """The smallest levels at which there is an alarm in one stream."""

    evidence: float
    chi_squared_end: float
    chi_squared_any: float


class Monitor:
    """Compares streams of jets with a reference, both drawn from samples of jets."""

    def __init__(self, policy: ThresholdPolicy, jets: Jets, class_names: Sequence[str], seed: int) -> None:
        self.policy, self.same, self.random = policy, jets, torch.Generator().manual_seed(seed)
        own = jets.logits_ENK
        self.bins = DriftReference.of(policy, own, exit_index(policy, own), class_names, jets.inputs)

    def drawn(self, jets: Jets, count: int) -> DriftReference:
        index_N = torch.randint(jets.logits_ENK.shape[1], (count,), generator=self.random)
        chosen = jets.select(index_N)
        own = chosen.logits_ENK
        return self.bins.count(self.policy, own, exit_index(self.policy, own), chosen.inputs)

    def alarms(self, jets: Jets, count: int, reference_jets: int) -> Alarms:
        """Return when there are alarms in a stream of these jets."""
        reference = self.drawn(self.same, reference_jets)
        state, observed = DriftEvidence.begin(reference), reference.empty
        key, single = int(torch.randint(2**60, (1,), generator=self.random)), []
        for _ in range(LOOKS):
            block = self.drawn(jets, count // LOOKS)
            state, observed = state.having(block, str(key)), observed + block
            tests = judged(reference, observed, state, 1.0)
            single.append(min(test.p_value for test in tests) * sum(test.degrees_of_freedom > 0 for test in tests))
        evidence = min(10**-test.largest / test.share for test in tests)
        return Alarms(evidence, single[-1], min(single))


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


def one_class_twice(same: Jets, jets: int) -> Jets:
    """Return all jets, and those of the first file again."""
    index_N = torch.arange(same.logits_ENK.shape[1])
    return same.select(torch.cat([index_N, index_N[:jets]]))


def show_false_alarms(console: Console, monitor: Monitor) -> None:
    streams = [monitor.alarms(monitor.same, FALSE_JETS, FALSE_JETS) for _ in range(FALSE_STREAMS)]
    title = f"False alarms in {FALSE_STREAMS} streams of {FALSE_JETS:,} jets, {LOOKS} looks"
    table = empty_table(title, ["alarm", "χ², at the end", "χ², at any look"], first="significance")
    for level in LEVELS:
        rows = (
            np.mean([getattr(one, name) < level for one in streams])
            for name in ("evidence", "chi_squared_end", "chi_squared_any")
        )
        table.add_row(f"{level:g}", *(f"{100 * rate:.1f} %" for rate in rows))
    console.print(table)


def show_powers(console: Console, monitor: Monitor, samples: Mapping[str, Jets], reference_jets: int) -> None:
    level = LEVELS[-1]
    title = f"Alarms at significance {level:g}, and χ² at the end; reference of {reference_jets:,} jets"
    table = empty_table(title, [f"{count:,} jets" for count in SAMPLES], first="jets")
    for name, jets in samples.items():
        row = []
        for count in SAMPLES:
            streams = [monitor.alarms(jets, count, reference_jets) for _ in range(STREAMS)]
            ours, rival = (
                np.mean([getattr(one, key) < level for one in streams]) for key in ("evidence", "chi_squared_end")
            )
            row.append(f"{100 * ours:.0f}, {100 * rival:.0f} %")
        table.add_row(name, *row)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", metavar="WORKSPACE/PROJECT")
    parser.add_argument("--files", type=Path, nargs="+", required=True)
    parser.add_argument("--other", nargs="+", action="append", default=[], metavar="NAME FILE")
    parser.add_argument("--jets", type=int, default=2000)
    parser.add_argument("--cache", type=Path, help="keep the answers of the network here")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    checkpoint = load_checkpoint(existing_project(*arguments.project.split("/")).best_model)
    sources: dict[str, tuple[Sequence[Path], Shift]] = {
        "the same": (arguments.files, unchanged),
        "10 % of particles dropped": (arguments.files, drop_particles),
        "smeared by 10 %": (arguments.files, partial(smear_momenta, 0.1, 0.0)),
        "smeared by 10 %, 0.01 rad": (arguments.files, partial(smear_momenta, 0.1, 0.01)),
        "smeared by 10 %, 0.03 rad": (arguments.files, partial(smear_momenta, 0.1, 0.03)),
        **{name: ([Path(file) for file in files], unchanged) for name, *files in arguments.other},
    }
    samples: dict[str, Jets] = {}
    for name, (files, shift) in sources.items():
        path = arguments.cache / (re.sub(r"\W+", "_", name) + ".npz") if arguments.cache else None
        samples[name] = cached(path, partial(answers, checkpoint, files, shift, arguments.jets))
    same = samples["the same"]
    samples["one class twice as often"] = one_class_twice(same, arguments.jets)
    names = DataSchema.from_options(checkpoint.data_options).class_names
    monitor, console = Monitor(thirds(same.logits_ENK), same, names, seed=0), Console(width=80)
    show_false_alarms(console, monitor)
    for reference_jets in REFERENCES:
        show_powers(console, monitor, samples, reference_jets)


if __name__ == "__main__":
    main()
