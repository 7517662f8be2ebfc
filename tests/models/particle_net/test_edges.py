"""The last step of a block, where numbers are not finite."""

import math
from typing import Any

import numpy as np
import pytest

from phaze_ee.models.particle_net.loops import add_edges


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shortcut", "edge"), [(1, 2), (-math.inf, 2), (1, -math.inf), (math.nan, 2), (1, math.nan)])
@pytest.mark.parametrize("k", [1, 4, 7])
def test_the_last_step_is_a_sum_between_two_relus(k: int, shortcut: float, edge: float, dtype: Any) -> None:
    edge_EC: np.ndarray = np.array([[edge]] + [[-1.0]] * (k - 1), dtype)
    output_VC: np.ndarray = np.empty((1, 1), dtype)
    add_edges(np.array([[0, shortcut]], dtype), 1, 0, edge_EC, k, output_VC)
    expected = np.maximum(dtype(shortcut) + np.maximum(edge_EC, 0).sum(), 0)
    np.testing.assert_array_equal(output_VC[0, 0], expected)
