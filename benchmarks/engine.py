"""Compares the engine with weaver-core and ONNX Runtime, in one interleaved run.

    python benchmarks/engine.py SHARED [--files FILE ... --data-config YAML] [--jets 248] [--rounds 5]

SHARED holds the published weights, and the real jets that are used if no files are given. ONNX Runtime is measured if
``onnxruntime`` and ``onnx`` are installed; the native form needs a C++ compiler. Nothing else should run on the
machine. With other work, the ratios are still fair, because all candidates take turns, but the absolute rates are too
low.
"""

import argparse
import importlib.util
import logging
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np
import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import cross_entropy

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from phaze_ee.data.loaders import evaluation_loader
from phaze_ee.data.schema import DataSchema
from phaze_ee.engine.engine import Engine
from phaze_ee.exits.policies import ExitPolicy
from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetInputs
from tests.published import published_network, real_jets

Rivals = dict[str, Callable[[], object]]
THREADS = 2
TRIMMED, ORT_PADDED, ORT_SORTED = "weaver trimmed", "ORT padded to 128", "ORT sorted, trimmed"
ENGINE, EXITS = f"packed, {THREADS} threads", "packed, half and half leave"
NATIVE, NATIVE_EXITS = f"native, {THREADS} threads", "native, half and half leave"


class HalfLeaves(ExitPolicy):
    """Half of the jets leave after block 0, three quarters by block 1, at random: their size does not matter."""

    def __call__(self, logits_ENK: Tensor) -> Tensor:
        drawn_N = (logits_ENK[-1, :, 0] * 1e3).remainder(1)
        return drawn_N.argsort().argsort() < len(drawn_N) / 2  # exactly half of each chunk

    def check(self, exit_count: int) -> None:
        pass


class OrtNetwork:
    """weaver's own export in ONNX Runtime."""

    def __init__(self, shared: Path, jets: JetInputs) -> None:
        import onnxruntime  # of the extra "onnx"

        network = published_network(shared, "kin")
        network.for_inference = True
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "network.onnx")
            names = ["points", "features", "mask"]
            with warnings.catch_warnings():
                # Exported through TorchScript, as weaver does: its network is written to be traced, and the newer
                # exporter (dynamo) cannot follow shapes that depend on data. PyTorch warns that this is deprecated.
                warnings.simplefilter("ignore", DeprecationWarning)
                torch.onnx.export(
                    network,
                    tuple(getattr(jets, name)[:2] for name in names),
                    path,
                    input_names=names,
                    output_names=["softmax"],
                    dynamic_axes={name: {0: "N", 2: "P"} for name in names} | {"softmax": {0: "N"}},
                    opset_version=17,
                    dynamo=False,
                )
            self.session = onnxruntime.InferenceSession(path, options)
        self.jets = {name: getattr(jets, name).numpy() for name in names}
        self.count_N = jets.particle_count_N.numpy()

    def run(self, index_N: Any, length: int | None = None) -> None:
        length = length or max(17, int(self.count_N[index_N].max()))
        self.session.run(None, {name: value[index_N, :, :length] for name, value in self.jets.items()})

    def run_sorted(self, size: int) -> None:
        order_N = self.count_N.argsort()
        for start in range(0, len(order_N), size):
            self.run(order_N[start : start + size])

    def run_padded(self, size: int) -> None:
        for start in range(0, len(self.count_N), size):
            self.run(slice(start, start + size), 128)

    def run_single(self, jets: int) -> None:
        for index in range(jets):
            self.run(slice(index, index + 1))


def load_jets(arguments: argparse.Namespace) -> tuple[JetInputs, Tensor]:
    if not arguments.files:
        jets, label_N = real_jets(arguments.shared)
        return jets.select(torch.arange(min(arguments.jets, len(jets)))), label_N[: arguments.jets].long()
    if arguments.data_config is None:
        raise SystemExit("--files needs --data-config")
    schema = DataSchema.load(arguments.data_config)
    batch = next(iter(evaluation_loader(schema, arguments.files, batch_size=arguments.jets)))
    return batch.inputs.padded(), batch.label_N


def weaver_network(shared: Path, *, trim: bool) -> Any:
    network = published_network(shared, "kin")
    network.trimmer.enabled = trim
    network.trimmer._counter.fill_(network.trimmer.warmup_steps)  # it does not trim in its first calls
    return network


@torch.no_grad()
def run_weaver(network: Any, jets: JetInputs, size: int) -> None:
    for start in range(0, len(jets), size):
        batch = jets.select(torch.arange(start, min(start + size, len(jets))))
        network(batch.points, batch.features, batch.mask)


def inference_rivals(shared: Path, jets: JetInputs) -> Rivals:
    tagger = Tagger(ParticleNet(published_network(shared, "kin")), [0, 1]).eval().packed()
    rivals: Rivals = {
        "weaver padded to 128": partial(run_weaver, weaver_network(shared, trim=False), jets, 100),
        TRIMMED: partial(run_weaver, weaver_network(shared, trim=True), jets, 100),
    }
    if importlib.util.find_spec("onnxruntime"):
        ort = OrtNetwork(shared, jets)
        rivals |= {ORT_PADDED: partial(ort.run_padded, 100), ORT_SORTED: partial(ort.run_sorted, 10)}
    return rivals | {
        "packed, 1 thread": partial(Engine(tagger, threads=1), jets),
        ENGINE: partial(Engine(tagger, threads=THREADS), jets),
        EXITS: partial(Engine(tagger, HalfLeaves(), threads=THREADS), jets),
        NATIVE: partial(Engine(tagger, threads=THREADS, backend="native"), jets),
        NATIVE_EXITS: partial(Engine(tagger, HalfLeaves(), threads=THREADS, backend="native"), jets),
    }


def single_jet_rivals(shared: Path, jets: JetInputs) -> Rivals:
    tagger = Tagger(ParticleNet(published_network(shared, "kin")), []).eval().packed()
    engine, native = (Engine(tagger, threads=THREADS, backend=backend) for backend in ("auto", "native"))
    singles = [jets.select(torch.tensor([index])) for index in range(len(jets))]
    rivals: Rivals = {TRIMMED: partial(run_weaver, weaver_network(shared, trim=True), jets, 1)}
    if importlib.util.find_spec("onnxruntime"):
        rivals["ORT trimmed"] = partial(OrtNetwork(shared, jets).run_single, len(jets))
    return rivals | {
        ENGINE: lambda: [engine(jet) for jet in singles],
        NATIVE: lambda: [native(jet) for jet in singles],
    }


def training_rivals(shared: Path, jets: JetInputs, label_N: Tensor) -> Rivals:
    network = weaver_network(shared, trim=True).train()
    packed = Tagger(ParticleNet(weaver_network(shared, trim=True)), []).packed().train()

    def step(answer: Callable[[], Tensor]) -> None:
        cross_entropy(answer(), label_N).backward()  # type: ignore[no-untyped-call]

    return {
        "weaver trimmed": partial(step, lambda: network(jets.points, jets.features, jets.mask)),
        "packed": partial(step, lambda: packed(jets)[-1]),
    }


def race(rivals: Rivals, jets: int, rounds: int) -> dict[str, float]:
    """Return jets per second, from the median over rounds in which the candidates take turns."""
    taken: dict[str, list[float]] = {name: [] for name in rivals}
    for number in range(rounds + 1):
        for name, run in rivals.items():
            start = time.perf_counter()
            run()
            if number > 0:  # the first round warms up
                taken[name].append(time.perf_counter() - start)
    return {name: jets / float(np.median(times)) for name, times in taken.items()}


def show(title: str, rates: dict[str, float], bases: list[str]) -> None:
    letters = dict(zip(bases, ascii_uppercase, strict=False))
    table = Table("", "rival", title=f"{title} (× A: times the rate of A)", title_justify="left", box=box.SIMPLE_HEAD)
    table.padding, table.pad_edge = (0, 1, 0, 0), False
    for column in ("jets/s", *(f"× {letter}" for letter in letters.values())):
        table.add_column(column, justify="right", no_wrap=True)
    for name, rate in rates.items():
        row = (f"{rate:.1f}", *(f"{rate / rates[base]:.2f}" for base in bases))
        table.add_row(letters.get(name, ""), name, *row)
    Console(width=80).print(table)


def peak_memory(name: str, run: Callable[[], object]) -> None:
    """Print the peak memory of this process minus that before, in MB (Linux only)."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _memory_mb("VmRSS")
    run()
    print(f"{name:30s} {_memory_mb('VmHWM') - before:8.0f} MB")


def _memory_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--files", type=Path, nargs="+", default=[])
    parser.add_argument("--data-config", type=Path, help="a weaver YAML with the seven kinematic inputs")
    parser.add_argument("--jets", type=int, default=248)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peak-memory", metavar="RIVAL", help="measure the memory of this one alone")
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    torch.set_num_threads(THREADS)
    jets, label_N = load_jets(arguments)
    if arguments.peak_memory:
        peak_memory(arguments.peak_memory, inference_rivals(arguments.shared, jets)[arguments.peak_memory])
        return
    multiplicity = jets.particle_count_N.double().mean()
    print(f"{len(jets)} jets, {multiplicity:.1f} particles on average, {THREADS} threads, float32, default malloc")
    rates = race(inference_rivals(arguments.shared, jets), len(jets), arguments.rounds)
    show("Inference", rates, [name for name in (TRIMMED, ORT_PADDED, ORT_SORTED, ENGINE, NATIVE) if name in rates])
    few = jets.select(torch.arange(min(16, len(jets))))
    singles = race(single_jet_rivals(arguments.shared, few), len(few), arguments.rounds)
    show("One jet at a time", singles, list(singles)[:-1])
    batch = torch.arange(min(64, len(jets)))
    training = training_rivals(arguments.shared, jets.select(batch), label_N[batch])
    show(f"Training step, batch {len(batch)}", race(training, len(batch), arguments.rounds), ["weaver trimmed"])
    print("Peak memory, in a process of its own")
    for name in rates:
        subprocess.run([sys.executable, *sys.argv, "--peak-memory", name], check=True)


if __name__ == "__main__":
    main()
