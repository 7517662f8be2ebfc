"""The network files of the package, as weaver calls them and as PHAZE-EE does."""

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from weaver.utils.data.config import DataConfig

from phaze_ee.config.options import NetworkOptions
from phaze_ee.errors import UsageError
from phaze_ee.models.build import adopt, build_tagger
from phaze_ee.models.checkpoint import load_weights
from phaze_ee.models.tagger import Tagger
from tests.jets import random_jets

ROOT = Path(__file__).parents[2]
SMALL: dict[str, dict[str, Any]] = {
    "ParticleNeXt": {"node_dim": 6, "edge_dim": 5, "layer_params": [(4, 16, [(2, 1), (1, 1)], 16)] * 2},
    "ParticleTransformer": {"embed_dims": [16, 8], "pair_embed_dims": [4], "num_heads": 2, "num_layers": 3},
    "PFN": {"particle_dims": [8, 9, 12], "jet_dims": [10, 11]},
}


@pytest.fixture(scope="module")
def data_config() -> DataConfig:
    path = ROOT / "data_configs" / "JetClass_ParT_kin.yaml"
    return DataConfig.load(str(path), load_observers=False, load_reweight_info=False)


def network_file(name: str) -> Path:
    return ROOT / "network_configs" / f"{name}_JetClass.py"


def functions(name: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    exec(compile(network_file(name).read_text(encoding="utf-8"), name, "exec"), namespace)
    return namespace


@pytest.mark.parametrize("name", SMALL)
def test_both_ways_of_calling_it_give_the_same(name: str, data_config: DataConfig) -> None:
    torch.manual_seed(0)
    module = functions(name)
    model, information = module["get_model"](data_config, **SMALL[name], use_amp=True)
    assert information["input_names"] == ["pf_points", "pf_features", "pf_vectors", "pf_mask"]
    jets = random_jets([3, 12, 8], dtype=torch.float32)
    expected = Tagger(adopt(model, "here"), []).eval()(jets)[-1]
    arguments = [
        tensor.clone() for tensor in (jets.points, jets.features, jets.vectors, jets.mask) if tensor is not None
    ]
    logits = model.eval()(*arguments)
    torch.testing.assert_close(logits, expected)
    assert module["get_loss"](data_config)(logits, torch.tensor([0, 1, 2])).isfinite()


@pytest.mark.parametrize("name", SMALL)
def test_weights_that_weaver_saved_are_loaded(name: str, tmp_path: Path, data_config: DataConfig) -> None:
    torch.manual_seed(0)
    model, _ = functions(name)["get_model"](data_config, **SMALL[name])
    torch.save(model.state_dict(), tmp_path / "net_epoch-0_state.pt")
    tagger = build_tagger(options(name, SMALL[name]), network_file(name), data_config)
    load_weights(tagger, tmp_path / "net_epoch-0_state.pt")
    own, theirs = tagger.backbone.state_dict(), adopt(model, "here").state_dict()
    assert all(own[key].equal(theirs[key]) for key in theirs)


@pytest.mark.parametrize("name", SMALL)
def test_without_options_it_is_the_published_size(name: str, data_config: DataConfig) -> None:
    tagger = build_tagger(options(name, {}), network_file(name), data_config)
    assert tagger.backbone.num_classes == 10
    stages = 8 if name == "ParticleTransformer" else 3
    assert len(tagger.exit_stages) == len(tagger.backbone.stage_channels) == stages


@pytest.mark.parametrize("name", SMALL)
def test_an_unknown_option_is_an_error(name: str, data_config: DataConfig) -> None:
    with pytest.raises(
        UsageError,
        match=r"fails: TypeError: unknown network option 'layers'; choose from .*; its options are layers = 3$",
    ):
        build_tagger(options(name, {"layers": 3}), network_file(name), data_config)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("PFN", {"num_classes": 12}, r"with 12 outputs, and the data_config has 10 classes; .*option .*num_classes"),
        ("PFN", {"input_dims": 5}, r"for 5 features, and the data_config has \d+ features; .*option .*input_dims"),
        ("ParticleNeXt", {"feature_input_dim": 5}, r"for 5 features, .*option .*feature_input_dim"),
        ("ParticleTransformer", {"num_classes": 3}, r"with 3 outputs, .*option .*num_classes"),
    ],
)
def test_an_option_that_does_not_fit_the_data_is_an_error(
    name: str, given: dict[str, int], message: str, data_config: DataConfig
) -> None:
    with pytest.raises(UsageError, match=message):
        build_tagger(options(name, {**SMALL[name], **given}), network_file(name), data_config)


def test_an_option_in_its_short_form_is_not_reported_as_ignored(
    data_config: DataConfig, caplog: pytest.LogCaptureFixture
) -> None:
    short = {**SMALL["ParticleNeXt"], "layer_params": [(4, 16), (4, 16)]}
    with caplog.at_level(logging.WARNING, "phaze_ee"):
        build_tagger(options("ParticleNeXt", short), network_file("ParticleNeXt"), data_config)
    assert caplog.records == []


def test_export_returns_probabilities(data_config: DataConfig) -> None:
    model, _ = functions("PFN")["get_model"](data_config, **SMALL["PFN"], for_inference=True)
    jets = random_jets([3, 12, 8], dtype=torch.float32)
    torch.testing.assert_close(model(jets.points, jets.features, jets.vectors, jets.mask).sum(dim=1), torch.ones(3))


def options(name: str, keywords: dict[str, Any]) -> NetworkOptions:
    return NetworkOptions.model_validate({"model_name": name, "network_options": keywords})


def test_part_without_momenta_is_refused(data_config: DataConfig) -> None:
    without = copy.deepcopy(data_config)
    without.input_names = tuple(name for name in data_config.input_names if name != "pf_vectors")
    with pytest.raises(UsageError, match=r"get_model fails: ValueError: pair features need .*: add pf_vectors"):
        build_tagger(options("ParticleTransformer", {}), network_file("ParticleTransformer"), without)
    small = {**SMALL["ParticleTransformer"], "pair_embed_dims": None}
    tagger = build_tagger(options("ParticleTransformer", small), network_file("ParticleTransformer"), without)
    assert tagger.backbone.num_classes == 10


def test_weaver_spares_the_class_token_from_weight_decay(data_config: DataConfig) -> None:
    model, _ = functions("ParticleTransformer")["get_model"](data_config, **SMALL["ParticleTransformer"])
    assert model.no_weight_decay() == {"mod.cls_token"} <= dict(model.named_parameters()).keys()
    model, _ = functions("PFN")["get_model"](data_config, **SMALL["PFN"])
    assert model.no_weight_decay() == set()
