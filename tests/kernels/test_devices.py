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
from torch.utils._python_dispatch import TorchDispatchMode

from phaze_ee.models import ragged_pairs
from phaze_ee.models.particle_transformer import ParticleTransformer
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetInputs, LoadedJets
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
    ("ParticleNet", True): {
        "_nearest",
        "_padding_edges",
        "_first_statistics",
        "_next_layer",
        "_block_features",
        "_gradient_before_relu",
        "_shortcut_gradient",
        "_weight_gradient",
        "_added_edges",
    },
    ("ParticleTransformer", False): {"_pair_layers", "_attend", "_token_rows"},
    ("ParticleTransformer", True): {
        "_features_kernel",
        "_next_layer",
        "_ordered_pairs",
        "_attend",
        "_gradients",
        "_token_rows",
        "_token_gradients",
    },
}


class Launch:
    """A launch that only looks at its arguments."""

    def __init__(self, name: str, launched: list[str]) -> None:
        """Store the name of the kernel, and where it is noted."""
        self.name, self._launched = name, launched

    def __call__(self, *args: Any, **options: Any) -> None:
        """Note the launch; a tensor that is not on the card is a fault."""
        places = {value.device.type for value in (*args, *options.values()) if isinstance(value, Tensor)}
        assert places == {"meta"}, f"{self.name} got tensors on {places}"
        self._launched.append(self.name)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels that were launched, for tensors on the device "meta"."""
    kernel = type(pytest.importorskip("triton", reason="needs Triton").jit(_empty))
    found: list[str] = []
    monkeypatch.setattr(kernel, "__getitem__", lambda self, grid: Launch(self.fn.__name__, found))
    for user in ("neighbours", "edge_conv", "fused", "batch_norm"):
        monkeypatch.setattr(f"phaze_ee.models.particle_net.{user}.runs_kernels", lambda tensor: True)
    for user in ("ragged_attention", "fused_pairs", "token_rows"):
        monkeypatch.setattr(f"phaze_ee.models.{user}.runs_kernels", lambda tensor: True)
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


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations that would launch something: no views, and no memory alone."""

    def __init__(self) -> None:
        """Count from zero on."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count an operation, and run it."""
        name = func.overloadpacket.__name__
        self.count += not (func.is_view or "empty" in name or name in ("_unsafe_view", "detach"))
        return func(*args, **(kwargs or {}))


def jets_on_the_card() -> LoadedJets:
    return from_files(random_jets(COUNTS, dtype=torch.float32)).map(lambda tensor: tensor.to("meta"))


@pytest.mark.parametrize("head", ["linear", "mlp", "deep_sets", "attention"])
@pytest.mark.parametrize("train", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("network", NETWORKS)
def test_all_tensors_are_on_the_card(network: str, train: bool, head: str, launched: list[str]) -> None:
    tagger = Tagger(NETWORKS[network](), (0, 1), head).float().packed().train(train).to("meta")
    with torch.set_grad_enabled(train):
        logits_ENK = tagger(jets_on_the_card())
    assert logits_ENK.is_meta
    if train:
        logits_ENK.square().mean().backward()
        assert all(value.grad is not None and value.grad.is_meta for value in tagger.parameters())
    assert set(launched) >= KERNELS[network, train]


@torch.no_grad()
@pytest.mark.parametrize(("network", "share"), [("ParticleNet", 1 / 3), ("ParticleTransformer", 5 / 6)])
def test_one_jet_takes_a_share_of_the_launches_of_weavers_module(
    network: str, share: float, launched: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card is faster than the host on one jet: its time is that of launches. Kernels would be launches too."""
    backbone, jets = NETWORKS[network]().float().eval(), random_jets((9,), dtype=torch.float32)
    monkeypatch.setattr(ragged_pairs, "int", lambda value: 81 if isinstance(value, Tensor) else int(value), False)
    with Operations() as of_weaver:
        backbone.mod(jets.points if network == "ParticleNet" else jets.features, *_others(network, jets))
    tagger = Tagger(backbone, ()).packed().to("meta")
    card_jets = from_files(jets).map(lambda tensor: tensor.to("meta")).ragged()
    tagger(card_jets)  # weights are folded in the first walk
    launched.clear()
    with Operations() as ours:
        tagger(card_jets)
    assert ours.count + len(launched) <= share * of_weaver.count


def _others(network: str, jets: JetInputs) -> tuple[Tensor | None, Tensor]:
    return (jets.features if network == "ParticleNet" else jets.vectors), jets.mask


def test_a_tensor_that_is_elsewhere_is_found(launched: list[str]) -> None:
    network = Tagger(NETWORKS["ParticleNet"](), (0,), "linear").float().packed().eval()
    with torch.no_grad(), pytest.raises((AssertionError, RuntimeError, NotImplementedError), match=r"meta|cpu"):
        network(jets_on_the_card())
