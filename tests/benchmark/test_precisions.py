"""The precisions of a device are compared with float64."""

import pytest
import torch
from torch import Tensor

from phaze_ee.benchmark.precisions import compare_precisions, precisions_of
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetInputs
from tests.jets import random_jets, small_tagger


def single(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def network_and_jets() -> tuple[Tagger, JetInputs]:
    return small_tagger((0,)).float(), random_jets([5, 10, 15, 1, 0], length=20).map(single)


def test_a_cpu_has_float32_only() -> None:
    assert precisions_of(torch.device("cpu")) == ["float32"]


@pytest.mark.parametrize("form", ["padded", "packed"])
def test_float32_differs_by_rounding(form: str) -> None:
    tagger, jets = network_and_jets()
    tagger = tagger if form == "padded" else tagger.packed()
    (one,) = compare_precisions(tagger, jets, seconds=0.0)
    assert (one.precision, one.same_class) == ("float32", 1.0)
    assert 0 < one.largest_difference < 1e-4
    assert next(tagger.parameters()).dtype == torch.float32, "the tagger itself is left as it is"


def test_fewer_bits_differ_by_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("phaze_ee.benchmark.precisions.precisions_of", lambda device: ["float32", "bfloat16"])
    monkeypatch.setattr("phaze_ee.engine.engine.checked_precision", lambda precision, device: precision)
    exact, rough = compare_precisions(*network_and_jets(), seconds=0.0)
    assert (exact.precision, rough.precision) == ("float32", "bfloat16")
    assert 10 * exact.largest_difference < rough.largest_difference


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_card_has_all_its_precisions() -> None:
    tagger, jets = network_and_jets()
    found = compare_precisions(tagger.to("cuda").fastest_form(), jets.to("cuda"), seconds=0.0)
    assert [one.precision for one in found] == precisions_of(torch.device("cuda"))
    assert found[0].largest_difference < 1e-4
    assert all(one.largest_difference < 1 for one in found)
