"""The network files for several collections, as weaver calls them and as PHAZE-EE does."""

from dataclasses import replace
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
from tests.models.merged_networks import FAMILIES, Family, jets_with_vertices

ROOT = Path(__file__).parents[2]
KINDS = ("points", "features", "vectors", "mask")
SMALL: dict[str, dict[str, Any]] = {
    "ParticleNet": {"conv_params": [(4, (8, 8)), (4, (8, 8)), (4, (12, 12))], "fc_params": [(16, 0.0)]},
    "ParticleNeXt": {"node_dim": 6, "edge_dim": 5, "layer_params": [(6, 16, [(2, 1), (1, 1)], 16)] * 2},
    "ParticleTransformer": {"embed_dims": [12, 8], "pair_embed_dims": [6], "num_heads": 2, "num_layers": 2},
}
USER_FILE = """
from weaver.nn.model.ParticleNet import ParticleNetTagger

def get_model(data_config, **kwargs):
    network = ParticleNetTagger(7, 5, 4, conv_params=[(4, (8, 8))], fc_params=[(16, 0.0)], **kwargs)
    return network, {}
"""


def data_config(*collections: tuple[str, int]) -> DataConfig:
    """A data configuration with these collections and numbers of features, and four classes."""
    inputs: dict[str, Any] = {}
    for name, count in collections:
        widths = {"points": 2, "features": count, "vectors": 4, "mask": 1}
        for kind, width in widths.items():
            variables = [[f"{name}_{kind}_{number}", None] for number in range(width)]
            inputs[f"{name}_{kind}"] = {"length": 12, "vars": variables}
    return DataConfig(print_info=False, inputs=inputs, labels={"type": "simple", "value": ["a", "b", "c", "d"]})


PF_SV = (("pf", 7), ("sv", 5))


def network_file(name: str) -> Path:
    return ROOT / NetworkOptions(model_name=name).network_file_for(2)


def functions(name: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    exec(compile(network_file(name).read_text(encoding="utf-8"), name, "exec"), namespace)
    return namespace


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("collections", [PF_SV, (*PF_SV, ("lt", 5))], ids=["two", "three"])
def test_both_ways_of_calling_it_give_the_same(name: str, collections: tuple[tuple[str, int], ...]) -> None:
    torch.manual_seed(0)
    module, config = functions(name), data_config(*collections)
    model, information = module["get_model"](config, **SMALL[name], sv_input_dropout=0.2, use_amp=True)
    assert information["input_names"] == [f"{own}_{kind}" for own, _ in collections for kind in KINDS]
    jets = jets_with_vertices([3, 12, 8]).map(torch.Tensor.float)
    if len(collections) == 3:
        jets = replace(jets, more={**jets.more, "lt": jets.more["sv"]})
    backbone = adopt(model, "here")
    assert backbone.collections == dict(collections)
    expected = Tagger(backbone, []).eval()(jets)[-1]
    parts = [jets, *jets.more.values()]
    logits = model.eval()(*(getattr(part, kind).clone() for part in parts for kind in KINDS))
    torch.testing.assert_close(logits, expected)
    assert module["get_loss"](config)(logits, torch.tensor([0, 1, 2])).isfinite()


@pytest.mark.parametrize(("name", "family"), FAMILIES.items(), ids=FAMILIES.keys())
def test_weights_of_weavers_network_are_loaded(name: str, family: Family, tmp_path: Path) -> None:
    network = family.network().float()
    torch.save({f"mod.{key}": value for key, value in network.state_dict().items()}, tmp_path / "net_best.pt")
    tagger = build_tagger(
        NetworkOptions(model_name=name, network_options=as_weaver_has_it(name), exit_stages=[0]),
        network_file(name),
        data_config(*PF_SV),
    )
    load_weights(tagger, tmp_path / "net_best.pt")
    jets = jets_with_vertices([3, 12, 8], length=12).map(torch.Tensor.float)
    with torch.no_grad():
        torch.testing.assert_close(tagger.eval()(jets)[-1], family.answer(network, jets), rtol=0, atol=1e-5)


def as_weaver_has_it(name: str) -> dict[str, Any]:
    """Return the options of the network file for the network of weaver in the tests."""
    arguments = FAMILIES[name].arguments
    own = {key: value for key, value in arguments.items() if not key.startswith(("pf_", "sv_"))}
    defaults = {"ParticleNet": {"use_fusion": True}, "ParticleTransformer": {"use_pre_activation_pair": True}}
    return {**own, **defaults.get(name, {})}


@pytest.mark.parametrize("name", SMALL)
def test_an_unknown_option_is_an_error(name: str) -> None:
    with pytest.raises(UsageError, match=r"unknown network option 'layers'; choose from .*sv_input_dropout"):
        build_tagger(
            NetworkOptions(model_name=name, network_options={"layers": 3}), network_file(name), data_config(*PF_SV)
        )


def test_weavers_own_class_in_a_network_file_is_used(tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    path.write_text(USER_FILE, encoding="utf-8")
    tagger = build_tagger(NetworkOptions(exit_stages=["input", 0]), path, data_config(*PF_SV))
    assert tagger.backbone.collections == dict(PF_SV)
    with pytest.raises(
        UsageError, match=r"net\.py builds a ParticleNet for the collections pf, sv, and the data_config has one"
    ):
        build_tagger(NetworkOptions(), path, data_config(("pf", 7)))
    with pytest.raises(
        UsageError, match=r"for the collections pf, sv, and .* has the collections sv, pf; list .* in that order"
    ):
        build_tagger(NetworkOptions(), path, data_config(("sv", 5), ("pf", 7)))
    tagger = build_tagger(NetworkOptions(), path, data_config(("cpf", 7), ("npf", 5)))
    assert tagger.backbone.collections == dict(PF_SV)


@pytest.mark.parametrize("name", ["ParticleNet", "PFN"])
def test_a_network_for_one_collection_is_refused(name: str) -> None:
    path = ROOT / "network_configs" / f"{name}_JetClass.py"
    with pytest.raises(
        UsageError, match=f"builds a {name} for one collection of particles, and .* has the collections pf, sv"
    ):
        build_tagger(NetworkOptions(model_name=name), path, data_config(*PF_SV))


def test_the_file_depends_on_the_number_of_collections() -> None:
    assert NetworkOptions().network_file_for(2) == "network_configs/ParticleNetTagger_CMS.py"
    assert (
        NetworkOptions().network_file_for(1)
        == NetworkOptions().network_file
        == "network_configs/ParticleNet_JetClass.py"
    )
    assert NetworkOptions(model_name="PFN").network_file_for(2) == "network_configs/PFN_JetClass.py"
    assert NetworkOptions(network_config="own.py").network_file_for(2) == "own.py"
