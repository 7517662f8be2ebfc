"""A training step: weaver without exits, ours with three exits; the same optimiser, batch and precision for both."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.gpu_sections.counts import bytes_moved, operations
from benchmarks.gpu_sections.inference import compiled
from benchmarks.gpu_sections.parts import Sample, Setting, answers
from benchmarks.gpu_sections.rows import COMPILED, EAGER, OURS, Row
from benchmarks.gpu_sections.timing import BYTES, attempt, measured, memory_in_use, products
from phaze_ee.config.sections import ExitOptions
from phaze_ee.machine import Precision
from phaze_ee.training.losses import make_loss

PADDED = f"{OURS}, padded"
WAYS: tuple[tuple[str, Precision], ...] = (
    (OURS, "bfloat16"), (COMPILED, "bfloat16"), (OURS, "float32"), (OURS, "float16"), (EAGER, "bfloat16"),
    (EAGER, "float32"), (EAGER, "tf32"), (OURS, "tf32"), (PADDED, "bfloat16"), (COMPILED, "tf32"),
)  # fmt: skip


def rows(setting: Setting, section: str, network: str) -> Iterator[Row]:
    """Yield the rows of a network."""
    jets = setting.jets(setting.batch)
    for who, precision in WAYS:
        yield attempt(section, who, precision, partial(_row, setting, section, network, who, precision, jets))


def _row(setting: Setting, section: str, network: str, who: str, precision: Precision, jets: Sample) -> Row:
    before = memory_in_use(setting.device)
    ours = who in (OURS, PADDED)
    module, loss = (_ours if ours else _rival)(setting, network, who, jets)
    work = step_of(module, loss, precision, setting.device)
    seconds, memory = measured(work, setting.rounds, setting.device, before=before)
    tagger, count_N = setting.tagger(network, setting.exits(network) if ours else ()), jets.ragged.particle_count_N
    return Row(
        section,
        who,
        precision,
        len(jets),
        len(jets) / seconds,
        memory,
        gb_per_second=bytes_moved(tagger, count_N, BYTES[precision], training=True) / seconds / 1e9,
        tflop_per_second=operations(tagger, count_N, training=True) / seconds / 1e12,
    )


def step_of(
    module: nn.Module, loss_of: Callable[[], Tensor], precision: Precision, device: torch.device
) -> Callable[[], None]:
    """Return one step of AdamW; with operands in float16 the loss is scaled."""
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")

    def step() -> None:
        optimizer.zero_grad()
        with products(precision, device):
            loss = loss_of()
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
        scaler.update()

    return step


def _ours(setting: Setting, network: str, who: str, jets: Sample) -> tuple[nn.Module, Callable[[], Tensor]]:
    tagger = setting.tagger(network, setting.exits(network))
    tagger = tagger if who == PADDED else setting.form(tagger)
    exit_loss = make_loss("target_flow", ExitOptions())
    inputs = jets.padded if who == PADDED else jets.ragged
    tagger.train()

    def loss() -> Tensor:
        logits_ENK = tagger(inputs).float()
        return cross_entropy(logits_ENK[-1], jets.label_N) + exit_loss(logits_ENK, jets.label_N).sum()

    return tagger, loss


def _rival(setting: Setting, network: str, who: str, jets: Sample) -> tuple[nn.Module, Callable[[], Tensor]]:
    module = compiled(setting, setting.weaver(network).train(), who)
    return module, lambda: cross_entropy(answers(module, network, jets.padded).float(), jets.label_N)
