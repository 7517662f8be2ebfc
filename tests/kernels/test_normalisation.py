"""Statistics of tiles are joined, and constants and running statistics made of them, as torch has them in float64."""

import pytest
import torch
from torch import Tensor, nn

from phaze_ee.models.particle_net import batch_norm
from phaze_ee.models.particle_net.batch_norm import Statistics, update_running_statistics


def rows_of(tiles: int, channels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rows whose mean is far greater than their spread, seven in each tile, and their weights, some of which are 0."""
    generator = torch.Generator().manual_seed(1)
    row_TRC = 300 + torch.randn(tiles, 7, channels, generator=generator, dtype=torch.float64)
    weight_TR = torch.randint(0, 3, (tiles, 7), generator=generator).double()
    return row_TRC.to(dtype), weight_TR.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("tiles", "channels"), [(1, 1), (31, 16), (200, 33), (2500, 5)])
def test_tiles_are_joined(tiles: int, channels: int, dtype: torch.dtype, device: torch.device) -> None:
    from phaze_ee.kernels.normalisation import TileStatistics

    row_TRC, weight_TR = rows_of(tiles, channels, dtype)
    total_T = weight_TR.sum(dim=1)
    weight_TR1 = weight_TR[..., None]
    mean_TC = (weight_TR1 * row_TRC).sum(dim=1) / total_T[:, None].clamp(min=1)
    square_TC = (weight_TR1 * (row_TRC - mean_TC[:, None]).square()).sum(dim=1)
    found = TileStatistics(*(value.to(device) for value in (mean_TC, square_TC, total_T))).joined()
    weight_TR1, row_TRC = weight_TR1.double(), row_TRC.double()
    total = weight_TR1.sum()
    mean_C = (weight_TR1 * row_TRC).sum(dim=(0, 1)) / total
    variance_C = (weight_TR1 * (row_TRC - mean_C).square()).sum(dim=(0, 1)) / total
    for value, expected in zip(found, (mean_C, variance_C, total), strict=True):
        assert value.dtype == dtype
        error = 1e-12 if dtype == torch.float64 else 1e-5
        torch.testing.assert_close(value.cpu().double(), expected, rtol=error, atol=error)


def test_no_tile_at_all(device: torch.device) -> None:
    from phaze_ee.kernels.normalisation import TileStatistics

    empty_TC = torch.empty(0, 3, device=device)
    mean_C, variance_C, total = TileStatistics(empty_TC, empty_TC, empty_TC[:, 0]).joined()
    assert not mean_C.any()
    assert not variance_C.any()
    assert not total


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("total", [0.0, 1.0, 9.0])
def test_running_statistics_are_those_of_torch(
    momentum: float | None, total: float, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    statistics = Statistics(torch.randn(5), torch.rand(5), torch.tensor(total))
    found = []
    for kernels in (False, True):
        monkeypatch.setattr(batch_norm, "runs_kernels", lambda tensor, kernels=kernels: kernels)
        norm = nn.BatchNorm1d(5, momentum=momentum).to(device if kernels else "cpu")
        for _ in range(3):
            place = norm.weight.device
            update_running_statistics(norm, Statistics(*(value.to(place) for value in statistics)))
        found.append([buffer.cpu() for buffer in norm.buffers()])
    torch.testing.assert_close(found[1], found[0])
    assert torch.equal(found[0][0], torch.zeros(5)) == (total <= 1)


def test_folded_weights_notice_running_statistics(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    from phaze_ee.models.folded import Folded

    monkeypatch.setattr(batch_norm, "runs_kernels", lambda tensor: True)
    norm = nn.BatchNorm1d(5).to(device)
    folded = Folded.of(norm, lambda: None)
    assert folded.is_current
    statistics = (torch.ones(5, device=device), torch.ones(5, device=device), torch.tensor(9.0, device=device))
    update_running_statistics(norm, Statistics(*statistics))
    assert not folded.is_current
