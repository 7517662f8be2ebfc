"""Networks for fine-tuning, whose head is in the module around weaver's network."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from weaver.train import init_opt
from weaver.utils.data.config import DataConfig

from phaze_ee.config.options import NetworkOptions
from phaze_ee.errors import CheckpointError, UsageError
from phaze_ee.input_groups import input_collections
from phaze_ee.models.build import adopt, build_network, build_tagger
from phaze_ee.models.checkpoint import Checkpoint, load_checkpoint, load_weights, save_checkpoint
from phaze_ee.models.tagger import Tagger
from phaze_ee.models.wrapper_check import as_weaver
from phaze_ee.training.optim import parameter_groups
from phaze_ee.types import JetInputs
from tests.jets import random_jets
from tests.models.network_files import HEAD_OUTSIDE, write

KINDS = ["ParticleNet", "ParticleTransformer"]
CASES = [
    ("ParticleNet", "last"),
    ("ParticleNet", "nested"),
    ("ParticleTransformer", "last"),
    ("ParticleTransformer", "flat"),
]
DATA = {
    "inputs": {
        "pf_points": {"length": 16, "vars": ["eta", "phi"]},
        "pf_features": {"length": 16, "vars": ["pt", "eta", "phi"]},
        "pf_vectors": {"length": 16, "vars": ["px", "py", "pz", "energy"]},
        "pf_mask": {"length": 16, "vars": ["mask"]},
    },
    "labels": {"type": "simple", "value": ["is_a", "is_b", "is_c"]},
    "preprocess": {"method": "manual"},
}


@pytest.fixture
def data() -> DataConfig:
    return data_config()


def data_config() -> DataConfig:
    config = DataConfig(print_info=False, **DATA)
    config.origin = "data config"
    return config


def network_options(kind: str, head: str) -> NetworkOptions:
    return NetworkOptions(model_name=kind, network_options={"kind": kind, "head": head}, num_exit_points=1)


def jets() -> JetInputs:
    return random_jets([16, 3, 1, 9], length=16, channels=3, dtype=torch.float32)


@pytest.mark.parametrize(("kind", "head"), CASES)
def test_the_answers_are_those_of_the_whole(tmp_path: Path, data: DataConfig, kind: str, head: str) -> None:
    model = build_network(network_options(kind, head), write(tmp_path, HEAD_OUTSIDE), data).eval()
    tagger = Tagger(adopt(model, "network.py"), []).eval()
    inputs = jets()
    with torch.no_grad():
        expected = model(*as_weaver(inputs, input_collections(data, ""), data.input_names))
        torch.testing.assert_close(tagger(inputs)[-1], expected, rtol=0, atol=1e-5)
    shared = {id(value) for value in model.parameters()}
    assert {id(value) for value in tagger.parameters()} == shared


@pytest.mark.parametrize("kind", KINDS)
def test_a_head_may_be_replaced_by_an_identity(tmp_path: Path, data: DataConfig, kind: str) -> None:
    bare = "    mod.fc, width = nn.Identity(), width if mod.fc is None else 12\n    return Headless"
    file = write(tmp_path, HEAD_OUTSIDE.replace("    return Headless", bare))
    layers = adopt(build_network(network_options(kind, "nested"), file, data), "network.py").readout_layers
    assert layers is not None
    assert [type(layer) for layer in layers.children()] == [nn.Sequential, nn.Linear]
    assert build_tagger(network_options(kind, "nested"), file, data).architecture.num_classes == 3


def test_a_layer_behind_a_whole_network_is_no_head_of_it(tmp_path: Path, data: DataConfig) -> None:
    file = write(tmp_path, HEAD_OUTSIDE.replace("mod.fc = mod.fc[:-1]", "width = classes"))
    with pytest.raises(UsageError, match="does more than its ParticleNet: it gives other answers"):
        build_tagger(network_options("ParticleNet", "last"), file, data)


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_a_dropout_that_would_be_lost_is_named(
    tmp_path: Path, data: DataConfig, caplog: pytest.LogCaptureFixture, rate: float
) -> None:
    code = HEAD_OUTSIDE.replace(
        "        self.mod = mod\n", f"        self.mod = mod\n        self.drop = nn.Dropout({rate})\n"
    )
    build_tagger(network_options("ParticleNet", "last"), write(tmp_path, code), data)
    assert ("the Dropout beside its ParticleNet has no effect here" in caplog.text) == (rate > 0)


@pytest.mark.parametrize(("kind", "head"), CASES)
def test_weights_of_the_whole_are_loaded(tmp_path: Path, data: DataConfig, kind: str, head: str) -> None:
    file = write(tmp_path, HEAD_OUTSIDE)
    trained = build_network(network_options(kind, head), file, data).eval()
    torch.save(trained.state_dict(), tmp_path / "weaver.pt")
    tagger = build_tagger(network_options(kind, head), file, data).eval()
    load_weights(tagger, tmp_path / "weaver.pt")
    save_checkpoint(tmp_path / "best.pt", Checkpoint(tagger, {}, {}, "", 0, {}))
    tagger = load_checkpoint(tmp_path / "best.pt").tagger
    inputs = jets()
    with torch.no_grad():
        expected = trained(*as_weaver(inputs, input_collections(data, ""), data.input_names))
        torch.testing.assert_close(tagger(inputs)[-1], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "head"),
    [("ParticleNet", "other"), ("ParticleTransformer", "other"), ("ParticleNet", "flat"), ("ParticleNet", "unbiased")],
)
def test_a_head_of_other_layers_is_refused(tmp_path: Path, data: DataConfig, kind: str, head: str) -> None:
    with pytest.raises(UsageError, match=f"this {kind} cannot have exits: "):
        build_tagger(network_options(kind, head), write(tmp_path, HEAD_OUTSIDE), data)


@pytest.mark.parametrize("kind", KINDS)
def test_rates_and_decays_of_parameters_are_those_of_weaver(tmp_path: Path, data: DataConfig, kind: str) -> None:
    model = build_network(network_options(kind, "nested"), write(tmp_path, HEAD_OUTSIDE), data)
    backbone = adopt(model, "network.py")
    arguments = argparse.Namespace(start_lr=1e-3, optimizer="adamw", load_epoch=None, lr_finder="given")
    theirs, _ = init_opt(arguments, model, weight_decay=0.1, lr_mult=("fc_out.*", 50))
    layers = ["mod.fc"] if kind == "ParticleTransformer" else ["mod.fc.1", "mod.fc.2"]
    ours = parameter_groups(backbone, 0.1, 1e-3, dict.fromkeys(layers, 50.0))
    assert _table(ours) == _table(theirs.param_groups)
    assert {rate for rate, _ in _table(ours).values()} == {1e-3, 5e-2}


def _table(groups: list[dict[str, Any]]) -> dict[int, tuple[float, float]]:
    return {id(value): (group["lr"], group["weight_decay"]) for group in groups for value in group["params"]}


def test_fresh_layers_keep_their_weights(tmp_path: Path, data: DataConfig) -> None:
    file = write(tmp_path, HEAD_OUTSIDE)
    network = network_options("ParticleNet", "last")
    weights = build_tagger(network, file, data).backbone.state_dict()
    weights["mod.fc.1.weight"], weights["mod.fc.1.bias"] = torch.zeros(10, 16), torch.zeros(10)
    torch.save(weights, tmp_path / "ten_classes.pt")
    tagger = build_tagger(network, file, data)
    with pytest.raises(CheckpointError, match=r"start the head afresh: c\.fresh_layers = \['mod\.fc\.1'\] \(in a comm"):
        load_weights(tagger, tmp_path / "ten_classes.pt")
    before = {name: value.clone() for name, value in tagger.backbone.state_dict().items()}
    load_weights(tagger, tmp_path / "ten_classes.pt", ["mod.fc.1"])
    for name, value in tagger.backbone.state_dict().items():
        expected = before if name.startswith("mod.fc.1.") else weights
        assert torch.equal(value, expected[name]), name


def test_weights_of_another_body_are_no_matter_of_the_head(tmp_path: Path, data: DataConfig) -> None:
    tagger = build_tagger(network_options("ParticleNet", "last"), write(tmp_path, HEAD_OUTSIDE), data)
    weights = tagger.backbone.state_dict()
    weights["mod.edge_convs.0.convs.1.weight"] = torch.zeros(9, 8, 1, 1)
    torch.save(weights, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="of another architecture") as caught:
        load_weights(tagger, tmp_path / "other.pt")
    assert "fresh_layers" not in str(caught.value)


def test_an_unknown_layer_is_named_with_the_nearest(tmp_path: Path, data: DataConfig) -> None:
    tagger = build_tagger(network_options("ParticleNet", "last"), write(tmp_path, HEAD_OUTSIDE), data)
    torch.save(tagger.backbone.state_dict(), tmp_path / "weights.pt")
    with pytest.raises(UsageError, match=r"fresh_layers names 'mod\.fcs', .* did you mean 'mod\.fc'\?"):
        load_weights(tagger, tmp_path / "weights.pt", ["mod.fcs"])
    parts = r"heads, mod\.bn_fts, mod\.edge_convs, mod\.fc"
    with pytest.raises(UsageError, match=rf"names 'transformer', which .*; its parts are {parts}$"):
        load_weights(tagger, tmp_path / "weights.pt", ["transformer"])
