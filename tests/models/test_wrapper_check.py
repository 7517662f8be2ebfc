"""Network files whose network does more than call the known network in it."""

import copy
import logging
from pathlib import Path

import pytest
import torch
from weaver.utils.data.config import DataConfig

from phaze_ee.config.options import NetworkOptions
from phaze_ee.errors import UsageError
from phaze_ee.models.build import build_tagger
from phaze_ee.models.wrapper_check import are_alike
from tests.models.network_files import write

DATA_CONFIG = Path(__file__).parents[2] / "data_configs" / "JetClass_ParT_kin.yaml"

WRAPPER = """
import torch
from weaver.nn.model.ParticleNet import ParticleNet


class Wrapper(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.mod = ParticleNet(7, 10, [(4, (8, 8)), (4, (12, 12))], [(16, 0.1)])
        if {own}:
            self.own = torch.nn.Sequential(torch.nn.BatchNorm1d(7), torch.nn.Conv1d(7, 7, 1), torch.nn.ReLU())
            self.extra = torch.nn.Linear(10, 3)

    def forward(self, points, features, vectors, mask{more}):
        {body}


def get_model(data_config, **kwargs):
    return Wrapper(), {{}}
"""
AS_IT_IS = "return self.mod(points, features, mask)"


@pytest.fixture(scope="module")
def data_config() -> DataConfig:
    return DataConfig.load(str(DATA_CONFIG), load_observers=False, load_reweight_info=False)


def wrapper(folder: Path, body: str, more: str = "", *, own: bool = True) -> Path:
    return write(folder, WRAPPER.format(body=body, more=more, own=own))


@pytest.mark.parametrize(
    "body",
    [
        "return self.mod(points, features - features.mean(dim=2, keepdim=True), mask)",
        "return self.mod(points, self.own(features) * mask, mask)",
        "return 0.5 * self.mod(points, features, mask)",
        "return self.mod(points, features, mask).softmax(dim=1)",
        "return self.extra(self.mod(points, features, mask))",
        "return self.mod(points[:, :, :9], features[:, :, :9], mask[:, :, :9])",
    ],
)
def test_what_is_done_beside_the_network_is_not_lost_in_silence(
    tmp_path: Path, data_config: DataConfig, body: str
) -> None:
    path = wrapper(tmp_path, body)
    with pytest.raises(UsageError, match="returns a Wrapper that does more than its ParticleNet: it gives") as caught:
        build_tagger(NetworkOptions(), path, data_config)
    assert "\n" not in str(caught.value)


def test_a_wrapper_that_passes_on_is_taken_and_leaves_no_trace(
    tmp_path: Path, data_config: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn_after() -> torch.Tensor:
        torch.manual_seed(1)
        tagger = build_tagger(NetworkOptions(), wrapper(tmp_path, AS_IT_IS), data_config)
        assert all(module.training for module in tagger.modules())
        return torch.rand(1)

    compared = drawn_after()
    monkeypatch.setattr("phaze_ee.models.build.check_wrapper", lambda *_: None)
    assert torch.equal(compared, drawn_after()), "the random numbers of a training stay the same"


def test_a_network_that_cannot_be_called_is_said(
    tmp_path: Path, data_config: DataConfig, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UsageError, match="does more than its ParticleNet: it has parameters of its own"):
        build_tagger(NetworkOptions(), wrapper(tmp_path, AS_IT_IS, ", tracks"), data_config)
    path = wrapper(tmp_path, AS_IT_IS, ", tracks", own=False)
    with caplog.at_level(logging.WARNING, "phaze_ee"):
        build_tagger(NetworkOptions(), path, data_config)
    assert "cannot be called with the inputs of the data_config" in caplog.text
    assert "missing 1 required positional argument: 'tracks'" in caplog.text


def test_numbers_of_the_jet_do_not_hide_it(tmp_path: Path, data_config: DataConfig) -> None:
    options = copy.deepcopy(data_config.options)
    options["inputs"]["jet_globals"] = {"length": None, "vars": ["jet_pt"]}
    with_numbers = DataConfig(print_info=False, **options)
    assert build_tagger(NetworkOptions(), wrapper(tmp_path, AS_IT_IS), with_numbers).backbone.num_classes == 10
    with pytest.raises(UsageError, match="does more than its ParticleNet"):
        build_tagger(NetworkOptions(), wrapper(tmp_path, "return self.mod(points, 2 * features, mask)"), with_numbers)


def test_most_jets_must_be_alike_but_for_rounding() -> None:
    logits_NK = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))
    swapped_NK = logits_NK.clone()
    swapped_NK[3] += 1  # other neighbours, for rounding
    assert are_alike(logits_NK * (1 + 1e-5), logits_NK)
    assert are_alike(swapped_NK, logits_NK)
    assert not are_alike(logits_NK * 1.1, logits_NK)
    assert not are_alike(logits_NK[:, :3], logits_NK)
