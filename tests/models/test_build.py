"""From a weaver network file to a tagger."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from weaver.nn.model.ParticleNet import ParticleNet as WeaverParticleNet
from weaver.utils.data.config import DataConfig

from phaze_ee.config.options import NetworkOptions
from phaze_ee.errors import UsageError, shortened
from phaze_ee.models.build import adopt, build_tagger
from tests.jetclass_files import random_jets as jets_without_physics
from tests.jetclass_files import write_jetclass_root
from tests.jets import random_jets
from tests.models.network_files import HARD_CODED, PUBLISHED_STYLE, write

ROOT = Path(__file__).parents[2]
DATA_CONFIG = ROOT / "data_configs" / "JetClass_ParT_kin.yaml"
NETWORK_CONFIG = ROOT / "network_configs" / "ParticleNet_JetClass.py"
SMALL: dict[str, Any] = {"conv_params": [(4, (8, 8)), (4, (12, 12))], "fc_params": [(16, 0.1)]}


@pytest.fixture(scope="module")
def data_config() -> DataConfig:
    return DataConfig.load(str(DATA_CONFIG), load_observers=False, load_reweight_info=False)


def network(**changes: Any) -> NetworkOptions:
    return NetworkOptions.model_validate({**SMALL, **changes})


def refused(path: Path, data_config: DataConfig, **changes: Any) -> str:
    with pytest.raises(UsageError) as caught:
        build_tagger(network(**changes), path, data_config)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("content", [PUBLISHED_STYLE, NETWORK_CONFIG.read_text(encoding="utf-8")])
def test_the_options_shape_the_network(tmp_path: Path, data_config: DataConfig, content: str) -> None:
    options = network(use_fusion=True, use_fts_bn=False, use_counts=False)
    tagger = build_tagger(options, write(tmp_path, content), data_config)
    assert dict(tagger.architecture.arguments) == {
        "input_dims": 7,
        "num_classes": 10,
        "conv_params": [[4, [8, 8]], [4, [12, 12]]],
        "fc_params": [[16, 0.1]],
        "use_fusion": True,
        "use_fts_bn": False,
        "use_counts": False,
    }
    assert tagger.exit_names == ("exit_0", "exit_1", "full_model")


@pytest.mark.parametrize("use_counts", [True, False])
def test_answers_that_depend_on_the_batch_are_reported(
    data_config: DataConfig, caplog: pytest.LogCaptureFixture, use_counts: bool
) -> None:
    with caplog.at_level(logging.WARNING, "phaze_ee"):
        build_tagger(network(use_counts=use_counts), NETWORK_CONFIG, data_config)
    assert ("depends on the longest jet of its batch" in caplog.text) is not use_counts


def test_the_exits_are_those_of_the_options(data_config: DataConfig) -> None:
    assert build_tagger(network(num_exit_points=1), NETWORK_CONFIG, data_config).exit_stages == (0,)
    message = refused(NETWORK_CONFIG, data_config, num_exit_points=7)
    assert message == "num_exit_points = 7, and this ParticleNet has 2 stages; give at most as many"
    assert build_tagger(network(num_exit_points=0), NETWORK_CONFIG, data_config).exit_stages == ()
    assert build_tagger(network(exit_stages=["input", 1]), NETWORK_CONFIG, data_config).exit_stages == ("input", 1)
    assert "name a stage that is not there" in refused(NETWORK_CONFIG, data_config, exit_stages=[0, 2])
    assert "unknown exit_head 'mlpp'" in refused(NETWORK_CONFIG, data_config, exit_head="mlpp")


@pytest.mark.parametrize(
    ("model", "keywords"),
    [("ParticleTransformer", {"embed_dims": [16, 8], "num_heads": 2}), ("ParticleNeXt", {"node_dim": 16})],
)
def test_widths_of_the_embeddings_of_several_collections_are_no_ignored_option(
    model: str, keywords: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    both = DataConfig.load(str(ROOT / "data_configs" / "CMS_AK8_pf_sv.yaml"), load_observers=False)
    path = ROOT / "network_configs" / f"{model}Tagger_CMS.py"
    options = NetworkOptions.model_validate({"model_name": model, "network_options": keywords})
    with caplog.at_level(logging.WARNING, "phaze_ee"):
        build_tagger(options, path, both)
    assert "has no effect" not in caplog.text


def test_an_architecture_fixed_in_the_file_is_reported(
    tmp_path: Path, data_config: DataConfig, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, HARD_CODED)
    with caplog.at_level(logging.WARNING, "phaze_ee"):
        tagger = build_tagger(network(num_exit_points=3), path, data_config)
    assert tagger.backbone.stage_channels == (8, 12, 16)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [text.split(" itself")[0].split(" sets ")[1].split(" ")[0] for text in warnings] == [
        "conv_params",
        "fc_params",
    ]
    assert all(text.startswith(str(path)) for text in warnings)


def test_what_the_file_does_not_differ_in_is_not_reported(
    data_config: DataConfig, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "phaze_ee"):
        build_tagger(network(), NETWORK_CONFIG, data_config)
    assert caplog.records == []


def test_another_number_of_classes_is_refused(data_config: DataConfig) -> None:
    text = refused(NETWORK_CONFIG, data_config, num_classes=2)
    assert text.startswith("num_classes = 2, but ")
    assert "10 classes" in text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("x = 1\n", "defines no get_model(data_config, **kwargs)"),
        ("get_model = 3\n", "defines no get_model(data_config, **kwargs)"),
        (
            "import nonexistent_module\n",
            "cannot be imported: ModuleNotFoundError: No module named 'nonexistent_module'",
        ),
        ("def get_model(:\n", "cannot be imported: SyntaxError: invalid syntax"),
        ("1 / 0\n", "cannot be imported: ZeroDivisionError: division by zero"),
        (
            "def get_model(data_config):\n    pass\n",
            "get_model fails: TypeError: get_model() got an unexpected keyword",
        ),
        ("def get_model(data_config, **kwargs):\n    raise ValueError('a\\nb')\n", "get_model fails: ValueError: a b"),
        ("def get_model(data_config, **kwargs):\n    return None, {}\n", "get_model returns a NoneType, not a network"),
        ("def get_model(data_config, **kwargs):\n    return None\n", "get_model fails: TypeError: cannot unpack"),
        (
            "import torch\ndef get_model(d, **kw):\n    return torch.nn.Linear(1, 1), {}\n",
            "returns a Linear, which holds none ",
        ),
    ],
)
def test_a_file_that_makes_no_network(tmp_path: Path, data_config: DataConfig, content: str, expected: str) -> None:
    path = write(tmp_path, content)
    text = refused(path, data_config)
    assert str(path) in text
    assert expected in text


def test_two_networks_in_one_are_refused() -> None:
    pair = torch.nn.ModuleList(
        WeaverParticleNet(input_dims=2, num_classes=2, conv_params=[(2, (4, 4))], fc_params=[(4, 0)]) for _ in range(2)
    )
    with pytest.raises(UsageError, match=r"here\.py: get_model returns a ModuleList, which holds 2 of the networks P"):
        adopt(pair, "here.py")


def test_a_network_that_cannot_get_exits_gets_a_remedy() -> None:
    class Own(WeaverParticleNet):  # type: ignore[misc]
        pass

    own = Own(input_dims=2, num_classes=2, conv_params=[(2, (4, 4))], fc_params=[(4, 0)])
    remedy = r"a subclass of ParticleNet; return ParticleNet itself, or see docs/EXTENDING\.md$"
    with pytest.raises(UsageError, match=f"get_model returns a Own, {remedy}"):
        adopt(own, "here.py")
    with pytest.raises(UsageError, match=f"get_model returns a Sequential, which holds {remedy}"):
        adopt(torch.nn.Sequential(own), "here.py")
    with pytest.raises(UsageError, match=r"ParticleNeXt, PFN.*; return one, or see docs/EXTENDING\.md$") as caught:
        adopt(torch.nn.Linear(1, 1), "network_configs/of_mine/here.py")
    assert shortened(str(caught.value)) == str(caught.value)


def test_our_network_file_answers_as_weaver_calls_it(data_config: DataConfig) -> None:
    """Inputs in the order of the data configuration; the same logits as the staged form of the same parameters."""
    torch.manual_seed(0)
    specification: dict[str, Any] = {}
    exec(compile(NETWORK_CONFIG.read_text(encoding="utf-8"), str(NETWORK_CONFIG), "exec"), specification)
    model, information = specification["get_model"](data_config, **SMALL)
    assert information["input_names"] == ["pf_points", "pf_features", "pf_vectors", "pf_mask"]
    assert information["input_shapes"]["pf_features"] == (1, 7, 128)
    jets = random_jets([3, 12, 8], dtype=torch.float32)
    backbone = adopt(model, "here").eval()
    expected = model.eval()(jets.points, jets.features, jets.vectors, jets.mask)
    torch.testing.assert_close(backbone.readout(backbone.stage(1, backbone.stage(0, backbone.embed(jets)))), expected)
    assert specification["get_loss"](data_config)(expected, torch.tensor([0, 1, 2])).isfinite()


def test_our_network_file_trains_under_the_weaver_command(tmp_path: Path) -> None:
    jets = write_jetclass_root(tmp_path / "jets.root", *jets_without_physics(120))
    command = [
        *("--data-train", jets, "--data-val", jets, "--data-config", DATA_CONFIG, "--network-config", NETWORK_CONFIG),
        *("--network-option", "conv_params", "[(4,(8,8)),(4,(8,8))]", "--network-option", "fc_params", "[(8,0.1)]"),
        *("--model-prefix", tmp_path / "net", "--num-epochs", "1", "--batch-size", "20", "--gpus", ""),
        *("--num-workers", "0", "--fetch-by-files", "--fetch-step", "1", "--steps-per-epoch", "2"),
        *("--steps-per-epoch-val", "1"),
    ]
    program = "from weaver.train import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", program, *map(str, command)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, result.stderr
    weights = torch.load(tmp_path / "net_epoch-0_state.pt", weights_only=True)
    assert "mod.edge_convs.1.convs.0.weight" in weights


def test_functions_of_a_training_of_weaver_have_no_effect_and_that_is_said(
    tmp_path: Path, data_config: DataConfig, caplog: pytest.LogCaptureFixture
) -> None:
    own = "    return torch.nn.CrossEntropyLoss(label_smoothing=0.1)\n\n\ndef get_train_fn(*options):\n    ...\n"
    unusual = PUBLISHED_STYLE.replace("    return torch.nn.CrossEntropyLoss()\n", own)
    for content, expected in ((PUBLISHED_STYLE, False), (unusual, True)):
        with caplog.at_level(logging.WARNING, "phaze_ee"):
            build_tagger(network(), write(tmp_path, content), data_config)
        assert ("its get_train_fn and get_loss have no effect here" in caplog.text) == expected
        assert ("no effect" in caplog.text) == expected
