"""Measures training and inference on a GPU: jets per second and memory, for each precision and with compiled stages.

python benchmarks/gpu.py [--batch 512] [--rounds 20] [--device cuda] [--networks ParticleNet …]

ParticleNet and Particle Transformer of full size, with exits after stages, on random jets of 30 to 128 particles with
17 inputs. A round is a step with Ranger, or the answers of all exits. The median counts, without the rounds that
compile. "x" is relative to fp32 for the same network and work. ParticleNet is measured without padding too, which on
CUDA needs Triton.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from phaze_ee.config.options import Options
from phaze_ee.data.schema import DataSchema
from phaze_ee.models.build import build_tagger
from phaze_ee.training.module import TaggerModule
from phaze_ee.training.optim import build_optimizer
from phaze_ee.types import JetBatch
from tests.jets import random_jets

NETWORKS = ("ParticleNet", "ParticleTransformer")
WARM_UP = 5
CHANNELS, LENGTH, SHORTEST = 17, 128, 30


@dataclass(frozen=True)
class Way:
    """A precision, and whether stages are compiled."""

    name: str
    dtype: torch.dtype | None = None
    compiled: bool = False
    packed: bool = False


PACKED = Way("fp32, packed", packed=True)
WAYS = (
    Way("fp32"),
    PACKED,
    Way("fp16 AMP", torch.float16),
    Way("bf16", torch.bfloat16),
    Way("fp32, compiled", compiled=True),
    Way("bf16, compiled", torch.bfloat16, compiled=True),
)
CPU_WAYS = (WAYS[0], WAYS[4], PACKED)


def module_of(network: str, way: Way, device: torch.device) -> TaggerModule:
    options = Options(train_files=["-"], val_files=["-"], model_name=network, zero_epochs=0, beta_max=1.0)  # type: ignore[arg-type]
    schema = DataSchema.load(ROOT / "data_configs" / "JetClass_ParT_full.yaml")
    torch.manual_seed(0)
    tagger = build_tagger(options, ROOT / options.network_file, schema.weaver).to(device)
    tagger = tagger.fastest_form() if way.packed else tagger
    if way.compiled:
        tagger.backbone.stage = torch.compile(tagger.backbone.stage)  # type: ignore[method-assign]
    return TaggerModule(tagger, options, options, total_steps=1000)


def batch_of(size: int, device: torch.device) -> JetBatch:
    draw = torch.Generator().manual_seed(1)
    counts = torch.randint(SHORTEST, LENGTH + 1, (size,), generator=draw)
    inputs = random_jets(counts.tolist(), length=LENGTH, channels=CHANNELS, dtype=torch.float32)
    return JetBatch(inputs.to(device), torch.randint(0, 10, (size,), generator=draw).to(device))


def training(module: TaggerModule, batch: JetBatch, way: Way, device: torch.device) -> Callable[[], None]:
    optimizer, _ = build_optimizer(module.tagger, module.training_options, 1000)
    scaler = torch.amp.GradScaler(device.type, enabled=way.dtype == torch.float16)
    module.train()

    def step() -> None:
        optimizer.zero_grad()
        with autocast(way, device):
            loss = module.terms(batch).total
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
        scaler.update()

    return step


def inference(module: TaggerModule, batch: JetBatch, way: Way, device: torch.device) -> Callable[[], None]:
    module.eval()

    def answers() -> None:
        with torch.inference_mode(), autocast(way, device):
            module.tagger(batch.inputs)

    return answers


def autocast(way: Way, device: torch.device) -> Any:
    return nullcontext() if way.dtype is None else torch.autocast(device.type, dtype=way.dtype)


def measured(work: Callable[[], None], rounds: int, device: torch.device) -> tuple[float, float]:
    """Return the median time of a round in seconds, and the peak memory in GB (0 on the CPU)."""
    seconds = []
    on_gpu = device.type == "cuda"
    for number in range(WARM_UP + rounds):
        if number == WARM_UP and on_gpu:
            torch.cuda.reset_peak_memory_stats()
        begin = time.perf_counter()
        work()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds[WARM_UP:]), torch.cuda.max_memory_allocated() / 1e9 if on_gpu else 0.0


def add_rows(table: Table, network: str, size: int, rounds: int, device: torch.device) -> None:
    batch = batch_of(size, device)
    for kind in (training, inference):
        reference = 0.0
        for way in CPU_WAYS if device.type == "cpu" else WAYS:
            if way.packed and network != "ParticleNet":
                continue  # it has no such form
            torch._dynamo.reset()
            try:
                work = kind(module_of(network, way, device), batch, way, device)
                seconds, memory = measured(work, rounds, device)
            except (RuntimeError, NotImplementedError) as error:  # out of memory, or no compiler for this network
                table.add_row(network, kind.__name__, way.name, "fails", "", type(error).__name__)
                continue
            reference = reference or seconds
            cells = (f"{size / seconds:,.0f}", f"{reference / seconds:.2f}", f"{memory:.1f}")
            table.add_row(network, kind.__name__, way.name, *cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA here: nothing is measured")
        return
    device = torch.device(arguments.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    table = Table(*("network", "work", "how", "jets/s", "x", "GB"), title=f"{name}, batch {arguments.batch}")
    table.box = box.SIMPLE_HEAD
    for network in arguments.networks:
        add_rows(table, network, arguments.batch, arguments.rounds, device)
    Console(width=80).print(table)


if __name__ == "__main__":
    main()
