"""Measures predict of a bundle, ROOT to ROOT on one core: jets per second where nearly all jets leave on the inputs.

    taskset -c 0 python benchmarks/bundle.py SHARED JETS.root [--leave 0.999] [--rounds 3]

ParticleNet with the published weights of SHARED; the exits have random weights, and their thresholds are such that the
given share of the jets leaves on the inputs. The time is that of the whole command in a process of its own.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.export import NEVER
from phaze_ee.data.loaders import evaluation_loader
from phaze_ee.data.row_spans import row_count
from phaze_ee.data.schema import DataSchema
from phaze_ee.engine.engine import Engine
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.export.bundle import Export, write_bundle
from phaze_ee.export.card import Origin
from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.tagger import Tagger
from tests.published import published_network

CONFIG = ROOT / "data_configs" / "JetClass_ParT_kin.yaml"


def write(folder: Path, shared: Path, jets: Path, leave: float) -> None:
    """Write the bundle."""
    schema = DataSchema.load(CONFIG).with_observers(["jet_pt", "jet_eta"])
    torch.manual_seed(0)
    tagger = Tagger(ParticleNet(published_network(shared, "kin")), ("input", 0, 1), "deep_sets").eval()
    batch = next(iter(evaluation_loader(schema, [jets], batch_size=2000, labelled=False)))
    with torch.no_grad():
        confidence_N = Engine(tagger).every_exit(batch.inputs.ragged())[0].softmax(dim=-1).amax(dim=-1)
    policy = ThresholdPolicy("confidence", [confidence_N.quantile(1 - leave).item(), NEVER, NEVER])
    origin = Origin("benchmark", None, schema.options, schema.class_names)
    write_bundle(folder, Export(tagger, policy, schema, origin))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("jets", type=Path)
    parser.add_argument("--leave", type=float, default=0.999)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle, output = Path(folder) / "bundle", Path(folder) / "out"
        write(bundle, arguments.shared, arguments.jets, arguments.leave)
        rows = row_count(arguments.jets, None)
        command = [sys.executable, "-m", "phaze_ee", "-m", "predict", "--bundle", str(bundle), "--overwrite"]
        for _ in range(arguments.rounds):
            start = time.perf_counter()
            told = subprocess.run(
                [*command, "--files", str(arguments.jets), "--output", str(output)],
                check=True,
                capture_output=True,
                text=True,
            )
            print(f"{rows:,} jets, {time.perf_counter() - start:.2f} s in all: {told.stdout}")


if __name__ == "__main__":
    main()
