"""A command of weaver that fine-tunes: which layers start afresh, are frozen, or learn faster."""

from pathlib import Path

import pytest
import torch

from phaze_ee.cli import main
from phaze_ee.config.load import load_options
from phaze_ee.config.options import Options
from phaze_ee.config.weaver_command import LayerPatterns
from phaze_ee.errors import UsageError
from phaze_ee.models.build import adopt, build_network
from phaze_ee.models.checkpoint import load_checkpoint
from phaze_ee.modes.imported_layers import layer_options
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Session
from phaze_ee.workspace import PACKAGE_ROOT, Project
from tests.end_to_end.command import fails
from tests.models.network_files import HEAD_OUTSIDE, write
from tests.models.test_wrapped_head import data_config, network_options

JETS = PACKAGE_ROOT / "sample_jets"
DATA = PACKAGE_ROOT.parent / "data_configs" / "JetClass_ParT_kin.yaml"
FLAGS = f"--data-train {JETS}/train/*.root --network-config net.py --num-epochs 1 --gpus '' --num-workers 0"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(HEAD_OUTSIDE)
    text = DATA.read_text(encoding="utf-8")
    start, end = text.index("labels:"), text.index("observers:")
    labels = "labels: {type: simple, value: [label_Tbqq, label_QCD]}\nselection: label_Tbqq + label_QCD == 1\n"
    (tmp_path / "two.yaml").write_text(text[:start].replace("selection:\n", "", 1) + labels + text[end:])
    return tmp_path


def weaver(data: str, flags: str, project: str = "p") -> tuple[str, ...]:
    return "-m", "import_weaver", "-p", "w", project, "--command", f"weaver {FLAGS} --data-config {data} {flags}"


def pretrained(kind: str, *, outside: bool = False) -> dict[str, torch.Tensor]:
    """Return weights of ten classes, under the names of a network with the head inside, or outside."""
    assert main(weaver(str(DATA), f"-o kind '\"{kind}\"'", "ten")) == 0
    session = Session.open(Request("train", "w", "ten"))
    backbone = session.build(session.schema).architecture
    names = {ours: theirs for theirs, ours in backbone.names_in_wrapper.items()} if outside else {}
    return {names.get(name, name): torch.full_like(value, 0.5) for name, value in backbone.state_dict().items()}


def options(project: str = "p") -> Options:
    return load_options(Project("w", project).config)


@pytest.mark.parametrize(("kind", "head"), [("ParticleNet", "mod.fc.1"), ("ParticleTransformer", "mod.fc")])
def test_the_published_way_of_fine_tuning(
    folder: Path, capsys: pytest.CaptureFixture[str], kind: str, head: str
) -> None:
    torch.save(pretrained(kind), folder / "ten.pt")
    flags = (
        f"-o kind '\"{kind}\"' --load-model-weights ten.pt -p lr_mult '(\"fc_out.*\",50)' --freeze-model-weights mod.e"
    )
    assert main(weaver("two.yaml", flags)) == 0
    out = capsys.readouterr().out
    assert f"start afresh: {head} (c.fresh_layers)" in out
    own = options()
    assert own.fresh_layers == [head]
    frozen = {"mod.edge_convs": 0} if kind == "ParticleNet" else {"mod.embed": 0}
    assert own.lr_factors == {head: 50, "heads": 50, **frozen}
    assert main(["-m", "train", "-p", "w", "p"]) == 0
    weights = load_checkpoint(Project("w", "p").best_model).tagger.backbone.state_dict()
    kept = [name for name in weights if name.startswith(tuple(frozen)) and name.endswith(("weight", "bias"))]
    assert kept
    assert all(bool((weights[name] == 0.5).all()) for name in kept)
    assert not any(bool((value == 0.5).any()) for name, value in weights.items() if name.startswith(f"{head}."))


def test_a_whole_set_of_weights_leaves_nothing_afresh(folder: Path) -> None:
    torch.save(pretrained("ParticleNet", outside=True), folder / "ten.pt")
    assert main(weaver(str(DATA), "--load-model-weights ten.pt")) == 0
    assert (options().fresh_layers, options().lr_factors) == ([], {})


BARE = """
from weaver.nn.model.ParticleNet import ParticleNet


def get_model(data_config, **kwargs):
    features, classes = len(data_config.input_dicts["pf_features"]), len(data_config.label_value)
    blocks = [(4, (8, 8)), (4, (12, 12))]
    rest = {"fc_params": [(16, 0.1)], "use_fusion": False}
    return ParticleNet(input_dims=features, num_classes=classes, conv_params=blocks, **rest), {}
"""


def test_names_of_another_module_around_the_network_are_no_reason_to_start_afresh(folder: Path) -> None:
    weights = pretrained("ParticleNet")
    torch.save(weights, folder / "ten.pt")
    (folder / "net.py").write_text(BARE)
    assert main(weaver(str(DATA), "--load-model-weights ten.pt")) == 0
    assert options().fresh_layers == []


def test_weights_of_another_network_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"body.weight": torch.zeros(2)}, folder / "other.pt")
    text = fails(capsys, 2, *weaver(str(DATA), "--load-model-weights other.pt"))
    assert "other.pt is of another architecture" in text


def test_excluded_weights_start_afresh(folder: Path) -> None:
    weights = pretrained("ParticleNet", outside=True)
    torch.save({f"net.{name}": value for name, value in weights.items()}, folder / "ten.pt")
    flags = "--load-model-weights ten.pt:net --exclude-model-weights fc_out,mod.edge_convs.1"
    assert main(weaver(str(DATA), flags)) == 0
    assert options().fresh_layers == ["mod.edge_convs.1", "mod.fc.1"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            "-p lr_mult '(\"head.*\", 5)'",
            "lr_mult: no parameter of the network begins with 'head.*'; the last",
        ),
        ("--freeze-model-weights body", "--freeze-model-weights: no parameter of the network begins with 'body'"),
    ],
)
def test_a_pattern_without_a_layer_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], flags: str, words: str
) -> None:
    assert words in fails(capsys, 2, *weaver(str(DATA), flags))
    assert not Project("w", "p").root.exists()


def test_other_classes_need_a_fresh_head(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = pretrained("ParticleNet", outside=True)
    torch.save(weights, folder / "ten.pt")
    text = fails(capsys, 2, *weaver("two.yaml", "--load-model-weights ten.pt"))
    assert "c.fresh_layers = ['mod.fc.1'] (in a command of weaver: --exclude-model-weights)" in text
    assert main(weaver("two.yaml", "--load-model-weights ten.pt --exclude-model-weights fc_out")) == 0


def found(
    folder: Path, patterns: LayerPatterns, weights: dict[str, torch.Tensor] | None = None, own: str = ""
) -> dict[str, dict[str, float] | list[str]]:
    """Return the options of a network whose layer for the classes, fc_out, is beside weaver's network."""
    code = HEAD_OUTSIDE.replace("        self.mod = mod\n", f"        self.mod = mod\n        {own}\n")
    model = build_network(network_options("ParticleNet", "last"), write(folder, code), data_config())
    path = None if weights is None else folder / "weights.pt"
    if path is not None:
        torch.save(weights, path)
    return layer_options(patterns, model, adopt(model, "network.py"), path)


def weights_of(folder: Path, prefix: str = "") -> dict[str, torch.Tensor]:
    model = build_network(network_options("ParticleNet", "last"), write(folder, HEAD_OUTSIDE), data_config())
    return {f"{prefix}{name}": value for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("patterns", "factors"),
    [
        (LayerPatterns(factors={".*": 3.0}), {"mod": 3, "heads": 3}),
        (LayerPatterns(factors={"mod.e.*": 3.0}), {"mod.edge_convs": 3}),
        (LayerPatterns(factors={"fc_out.bias": 3.0}), {"mod.fc.1.bias": 3}),
        (LayerPatterns(factors={"fc_out.*": 0.0}), {"mod.fc.1": 0}),
        (LayerPatterns(factors={"fc_out.*": 3.0}, frozen=("fc_out",)), {"heads": 3, "mod.fc.1": 0}),
        (
            LayerPatterns(factors={r"mod.edge_convs.0.*": 3.0}, frozen=("mod.b", "mod.e", "mod.fc")),
            {"mod.bn_fts": 0, "mod.edge_convs": 0, "mod.fc.0": 0},
        ),
        (
            LayerPatterns(factors={"mod.e.*": 3.0}, frozen=("mod.edge_convs.0",)),
            {"mod.edge_convs": 3, "mod.edge_convs.0": 0},
        ),
    ],
)
def test_frozen_layers_are_still_and_exits_learn_with_the_head(
    tmp_path: Path, patterns: LayerPatterns, factors: dict[str, float]
) -> None:
    assert found(tmp_path, patterns) == {"lr_factors": factors}


@pytest.mark.parametrize(
    ("stored", "prefix"), [("module.", "module"), ("module.net.", "module.net"), ("net.", "net"), ("module.", "")]
)
def test_names_may_have_a_prefix_in_the_file(tmp_path: Path, stored: str, prefix: str) -> None:
    patterns = LayerPatterns(excluded=("fc_out.bias",) if prefix else (), prefix=prefix)
    fresh = {"fresh_layers": ["mod.fc.1.bias"]} if prefix else {}
    assert found(tmp_path, patterns, weights_of(tmp_path, stored)) == fresh


@pytest.mark.parametrize("prefix", ["other", "fc_out"])
def test_weights_without_the_prefix_are_not_dropped_in_silence(tmp_path: Path, prefix: str) -> None:
    with pytest.raises(UsageError, match=rf"holds \S+, which does not begin with '{prefix}\.'; correct"):
        found(tmp_path, LayerPatterns(prefix=prefix), weights_of(tmp_path))


def test_parameters_beside_the_network_and_its_head_have_no_layer(tmp_path: Path) -> None:
    own = "self.scale = nn.Parameter(torch.ones(1))"
    assert found(tmp_path, LayerPatterns(frozen=("mod.bn",)), own=own) == {"lr_factors": {"mod.bn_fts": 0}}
