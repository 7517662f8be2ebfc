"""A training step with fused edges against weaver's, in double precision, for odd shapes too."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils._python_dispatch import TorchDispatchMode
from weaver.nn.model.ParticleNet import EdgeConvBlock

from phaze_ee.models import fused_layers
from phaze_ee.models.particle_net import batch_norm, fused, training
from phaze_ee.models.particle_net.packed import PackedParticleNet
from phaze_ee.models.particle_net.padding import padded_slots
from phaze_ee.models.particle_net.training import edge_conv_training
from phaze_ee.models.states import JetLayout, PackedState
from tests.jets import small_weaver_network
from tests.models.particle_net import test_training as step
from tests.models.particle_net.test_training import assert_same, tagger_in_training

# With k = 4 and 30 slots, jets of 26 to 29 particles have padded slots that see real particles.
COUNTS = (3, 28, 0, 1)
SHAPES: dict[str, dict[str, Any]] = {
    "uneven layers": {"conv_params": [(3, (8, 5, 9)), (2, (16, 6))]},
    "one layer": {"conv_params": [(4, (12,)), (3, (5,))]},
    "three wide layers": {"conv_params": [(2, (12, 96, 33))]},
}


@pytest.fixture
def takes_kernels(monkeypatch: pytest.MonkeyPatch, device: torch.device) -> torch.device:
    """The device, where every block is fused."""
    monkeypatch.setattr(fused, "runs_kernels", lambda tensor: True)
    monkeypatch.setattr(batch_norm, "runs_kernels", lambda tensor: True)
    monkeypatch.setattr(fused, "_TYPES", (torch.float64, torch.float32, torch.float16, torch.bfloat16))
    monkeypatch.setattr(training, "_mean_over_edges", None)
    return device


@pytest.fixture
def fuses(takes_kernels: torch.device) -> torch.device:
    """The device, for blocks in double precision."""
    if takes_kernels.type == "cuda":
        pytest.skip("on a card, blocks in double precision run in plain torch (fused._TYPES)")
    return takes_kernels


@pytest.mark.parametrize("counts", [COUNTS, (0, 0), (1, 1, 1)], ids=["mixed", "no particles", "one particle each"])
def test_a_step_is_weavers(counts: tuple[int, ...], fuses: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "COUNTS", counts)
    changes: dict[str, Any] = {"conv_params": [(4, (8, 8)), (4, (8, 8))]}
    padded, packed = (step.train(tagger_in_training(packed=way, **changes), "target_flow") for way in (False, True))
    assert_same(packed, padded)


@pytest.mark.parametrize("changes", SHAPES.values(), ids=SHAPES.keys())
def test_a_step_of_odd_blocks_is_weavers(
    changes: dict[str, Any], fuses: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "COUNTS", COUNTS)
    padded, packed = (step.train(tagger_in_training(packed=way, **changes), "target_flow") for way in (False, True))
    assert_same(packed, padded)


def test_more_neighbours_than_particles(fuses: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "COUNTS", (3, 5, 1, 2))
    changes: dict[str, Any] = {"conv_params": [(7, (8, 8)), (20, (4,))]}
    padded, packed = (step.train(tagger_in_training(packed=way, **changes), "target_flow") for way in (False, True))
    assert_same(packed, padded)


def block_and_state(
    *channels: int, dtype: torch.dtype = torch.float64, device: torch.device | None = None
) -> tuple[EdgeConvBlock, PackedState, Tensor]:
    """A block with k = 3 on three jets in 6 slots, and their neighbours."""
    network = PackedParticleNet(small_weaver_network(conv_params=[(3, channels)])).train()
    draw = torch.Generator().manual_seed(1)
    features_VC = torch.randn(9, 7, generator=draw, dtype=dtype).to(device)
    count_N = torch.tensor([5, 0, 4], device=device)
    state = PackedState(features_VC, features_VC[:, :2], JetLayout(count_N), 6)
    neighbour_Vk = torch.randint(5, (9, 3), generator=draw)
    neighbour_Vk[5:] = neighbour_Vk[5:] % 4 + 5
    neighbour_Vk[0, 0] = 9
    block: EdgeConvBlock = network.core.edge_convs[0].to(device, dtype)
    return block, state, neighbour_Vk.to(device)


@pytest.mark.parametrize("channels", [(5,), (2, 5, 3), (4, 7)])
def test_gradients_are_those_of_differences(channels: tuple[int, ...], fuses: torch.device) -> None:
    """With a layer in the shortcut, and without one where there are 7 features before and after the block."""
    block, state, neighbour_Vk = block_and_state(*channels)
    has_layer = channels[-1] != 7
    slot_Nk, padding_N = padded_slots(state, 3)
    neighbour_Uk = torch.cat([neighbour_Vk, slot_Nk])
    weight_U = torch.cat([torch.ones(9, dtype=torch.long), padding_N])
    norms = fused._norms(block)
    assert len(norms) == len(channels) + has_layer
    plan = fused._Plan((1e-5,) * len(norms), has_layer, 9, 3 * 6 - 9)
    draw = torch.Generator().manual_seed(2)
    width = 2 * channels[0] + has_layer * channels[-1]
    product_VM = torch.randn(9, width, dtype=torch.float64, generator=draw)

    def after(product_VM: Tensor, features_VC: Tensor, *values: Tensor) -> Tensor:
        # Rows of padding are zero, whatever their gradient.
        product_UM = pad(product_VM, (0, 0, 0, 3))
        features = None if has_layer else features_VC
        found = fused._FusedBlock.apply(product_UM, features, neighbour_Uk, weight_U, plan, *values)  # type: ignore[no-untyped-call]
        first: Tensor = found[0]
        return first + 0 * features_VC.sum() if has_layer else first

    matrices = [layer.weight.flatten(1) for layer in block.convs[1:]]
    values = (product_VM, state.features_VC, *fused_layers.parameters_of(norms), *matrices)
    inputs = [value.detach().requires_grad_() for value in values]
    assert torch.autograd.gradcheck(after, inputs, eps=1e-6, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-4), (torch.float16, 2e-2), (torch.bfloat16, 4e-2)])
def test_a_block_is_that_of_plain_torch(
    dtype: torch.dtype, error: float, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for fuse in (False, True):
        monkeypatch.setattr(fused, "runs_kernels", lambda tensor, fuse=fuse: fuse)
        block, state, neighbour_Vk = block_and_state(16, 24, 40, dtype=torch.float32, device=device)
        features_VC = state.features_VC.requires_grad_()
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            out_VC = edge_conv_training(block, state, neighbour_Vk)
        assert out_VC.dtype == torch.float32
        out_VC.square().sum().backward()  # type: ignore[no-untyped-call]
        gradients = [value.grad for value in (features_VC, *block.parameters())]
        found.append([out_VC.detach(), *gradients, *block.buffers()])
    for plain, kernel in zip(*found, strict=True):
        assert (kernel - plain).abs().max() <= error * plain.abs().max().clamp(min=1)


@pytest.mark.parametrize("fuse", [False, True])
def test_statistics_are_those_of_all_processes(
    fuse: bool, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes with the same jets give what one of them gives alone."""
    found = []
    monkeypatch.setattr(fused, "runs_kernels", lambda tensor: fuse)
    for processes in (1, 2):
        shared: list[Tensor] = []

        def summed(value: Tensor, processes: int = processes, shared: list[Tensor] = shared) -> Tensor:
            shared.append(value)
            return processes * value

        monkeypatch.setattr(batch_norm, "process_count", lambda processes=processes: processes)
        for module in (batch_norm, fused_layers):
            monkeypatch.setattr(module, "summed", summed)
        block, state, neighbour_Vk = block_and_state(8, 8, dtype=torch.float32, device=device)
        edge_conv_training(block, state, neighbour_Vk).square().sum().backward()  # type: ignore[no-untyped-call]
        found.append([*(value.grad for value in block.parameters()), *block.buffers()])
        assert (
            len(shared) == processes * 3
        )  # normalisations: in the backward pass, and with two in the forward pass too
    for alone, together in zip(*found, strict=True):
        # The unbiased variance of twice as many rows is another one.
        torch.testing.assert_close(together, alone, rtol=2e-2, atol=1e-5)


def test_what_is_not_fused(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    block, state, _ = block_and_state(8, 8)
    own_VC = state.features_VC.float()
    assert not fused.fits_kernels(block, own_VC) or device.type == "cuda"
    monkeypatch.setattr(fused, "runs_kernels", lambda tensor: True)
    assert fused.fits_kernels(block, own_VC)
    assert not fused.fits_kernels(block, own_VC.double())
    assert not fused.fits_kernels(block_and_state(8, 257)[0], own_VC)
    assert not fused.fits_kernels(block.eval(), own_VC)


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down operations whose result decides a shape or a branch on the host, which waits for the device."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "bincount", "repeat_interleave.Tensor")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        indices = args[1] if name.startswith(("aten.index.", "aten.index_put")) else []
        masks = [index for index in indices if index is not None and index.dtype == torch.bool]
        if any(waiting in name for waiting in self.WAITING) or masks:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def test_nothing_waits_for_the_device(takes_kernels: torch.device) -> None:
    block, state, neighbour_Vk = block_and_state(4, 4, dtype=torch.float32, device=takes_kernels)
    with Waits() as waits:
        edge_conv_training(block, state, neighbour_Vk).sum().backward()  # type: ignore[no-untyped-call]
    assert waits.found == []
    with waits:
        training._padding_edges(state, 3)
    assert waits.found, "it does see them"
