"""Whether each tensor of a network on a card is there: a step whose tensors have shapes, but no numbers.

Torch's device "meta" stands for the card, and launches are recorded. An operation or a kernel that gets a tensor of the
CPU raises, which on the CPU itself nothing would show.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from phaze_ee.models import ragged_pairs
from phaze_ee.models.particle_transformer import ParticleTransformer
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import LoadedJets
from tests.jets import random_jets, small_tagger
from tests.kernels.test_waits import from_files
from tests.models.test_particle_transformer import weaver_part
from tests.models.training_step import NO_DROPOUT

COUNTS = (3, 9, 1, 0, 5)
PAIRS = sum(count**2 for count in COUNTS)
NETWORKS: dict[str, Callable[[], Any]] = {
    "ParticleNet": lambda: small_tagger(()).backbone,
    "ParticleTransformer": lambda: ParticleTransformer(
        weaver_part(block_params=NO_DROPOUT, cls_block_params=NO_DROPOUT)  # the seed of dropout is drawn on the CPU
    ),
}
KERNELS = {
    ("ParticleNet", False): {"_nearest", "_edge_conv"},
    ("ParticleNet", True): {"_nearest", "_first_statistics", "_next_layer", "_weight_gradient", "_added_edges_kernel"},
    ("ParticleTransformer", False): {"_pair_layers", "_attend"},
    ("ParticleTransformer", True): {"_features_kernel", "_next_layer", "_ordered_pairs", "_attend", "_gradients"},
}


class Launch:
    """A launch that only looks at its arguments."""

    def __init__(self, name: str, launched: set[str]) -> None:
        """Store the name of the kernel, and where it is noted."""
        self.name, self._launched = name, launched

    def __call__(self, *args: Any, **options: Any) -> None:
        """Note the launch; a tensor that is not on the card is a fault."""
        places = {value.device.type for value in (*args, *options.values()) if isinstance(value, Tensor)}
        assert places == {"meta"}, f"{self.name} got tensors on {places}"
        self._launched.add(self.name)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The kernels that were launched, for tensors on the device "meta"."""
    kernel = type(pytest.importorskip("triton", reason="needs Triton").jit(_empty))
    found: set[str] = set()
    monkeypatch.setattr(kernel, "__getitem__", lambda self, grid: Launch(self.fn.__name__, found))
    for user in ("particle_net.neighbours", "particle_net.edge_conv", "particle_net.fused", "fused_pairs"):
        monkeypatch.setattr(f"phaze_ee.models.{user}.runs_kernels", lambda tensor: True)
    monkeypatch.setattr("phaze_ee.models.ragged_attention.runs_kernels", lambda tensor: True)
    for user in ("backbone", "transformer_stages"):
        monkeypatch.setattr(f"phaze_ee.models.{user}.has_kernels", lambda device: True)
    # What this device lacks: mixed precision, an operation, and numbers.
    monkeypatch.setattr(torch, "autocast", lambda *args, **options: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *args: False)
    monkeypatch.setattr(
        torch.ops.aten, "batch_norm_update_stats", lambda rows, *running: (running[0].clone(), running[1].clone())
    )
    monkeypatch.setattr(ragged_pairs, "int", lambda value: PAIRS if isinstance(value, Tensor) else int(value), False)
    return found


def _empty() -> None: ...


def jets_on_the_card() -> LoadedJets:
    return from_files(random_jets(COUNTS, dtype=torch.float32)).map(lambda tensor: tensor.to("meta"))


@pytest.mark.parametrize("head", ["linear", "mlp", "deep_sets", "attention"])
@pytest.mark.parametrize("train", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("network", NETWORKS)
def test_all_tensors_are_on_the_card(network: str, train: bool, head: str, launched: set[str]) -> None:
    tagger = Tagger(NETWORKS[network](), (0, 1), head).float().packed().train(train).to("meta")
    with torch.set_grad_enabled(train):
        logits_ENK = tagger(jets_on_the_card())
    assert logits_ENK.is_meta
    if train:
        logits_ENK.square().mean().backward()
        assert all(value.grad is not None and value.grad.is_meta for value in tagger.parameters())
    assert launched >= KERNELS[network, train]


def test_a_tensor_that_is_elsewhere_is_found(launched: set[str]) -> None:
    network = Tagger(NETWORKS["ParticleNet"](), (0,), "linear").float().packed().eval()
    with torch.no_grad(), pytest.raises((AssertionError, RuntimeError, NotImplementedError), match=r"meta|cpu"):
        network(jets_on_the_card())
