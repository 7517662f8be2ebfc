"""A project from weaver's command line, with network files as users of weaver have them."""

import re
from pathlib import Path

import pytest

from phaze_ee.cli import main
from phaze_ee.config.load import load_options
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Session
from phaze_ee.workspace import PACKAGE_ROOT, Project
from tests.end_to_end.command import command, fails

PARTICLE_NET = """\
from weaver.nn.model.ParticleNet import ParticleNet
import torch

class Wrapped(torch.nn.Module):
    def __init__(self, **kwargs):
        super().__init__()
        self.mod = ParticleNet(**kwargs)

    def forward(self, points, features, lorentz_vectors, mask):
        return self.mod(points, features, mask)

def get_model(data_config, **kwargs):
    own = dict(
        input_dims=len(data_config.input_dicts["pf_features"]),
        num_classes=len(data_config.label_value),
        conv_params=kwargs.get("conv_params", [(4, (8, 8)), (4, (16, 16))]),
        fc_params=kwargs.get("fc_params", [(16, 0.1)]),
        use_fusion=kwargs.get("use_fusion", False),
        use_counts=kwargs.get("use_counts", True),
        for_inference=kwargs.get("for_inference", False),
    )
    return Wrapped(**own), {}
"""
PART = """\
from weaver.nn.model.ParticleTransformer import ParticleTransformer

def get_model(data_config, **kwargs):
    own = dict(
        input_dim=len(data_config.input_dicts["pf_features"]),
        num_classes=len(data_config.label_value),
        pair_input_dim=4,
        embed_dims=[16, 16],
        pair_embed_dims=[8],
        num_heads=2,
        num_layers=4,
        num_cls_layers=1,
        fc_params=[],
    )
    return ParticleTransformer(**{**own, **kwargs}), {}
"""
JETS = PACKAGE_ROOT / "sample_jets"
FILES = f"--data-train {JETS}/train/HToBB_*.root {JETS}/train/Z*.root --data-val {JETS}/val/*.root"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(PARTICLE_NET)
    (tmp_path / "part.py").write_text(PART)
    return tmp_path


DATA = PACKAGE_ROOT.parent / "data_configs" / "JetClass_ParT_full.yaml"


def weaver(flags: str, path: Path = DATA) -> tuple[str, ...]:
    data = f"--data-config {path}"
    return ("-m", "import_weaver", "-p", "w", "p", "--command", f"weaver {FILES} {data} {flags}")


def test_an_imported_project_trains(folder: Path) -> None:
    flags = "--network-config net.py --num-epochs 1 --steps-per-epoch 3 --start-lr 1e-2 --gpus '' --num-workers 0"
    flags = f"{flags} -o use_counts False --fetch-step 0.01 --predict-output p.root"
    made = command(folder, *weaver(flags), cwd=folder)
    batch = "without use_counts the answer for a jet depends on the longest jet of its batch, as in weaver\n"
    assert made.returncode == 0
    assert made.stderr == f"WARNING: {folder / 'net.py'}: {batch}"
    assert "left out  --predict-output: use -m predict" in made.stdout
    assert "left out  --fetch-step: jets are drawn from all files" in made.stdout
    options = load_options(Project("w", "p").config)
    assert (options.model_name, options.use_counts, options.network_options) == ("ParticleNet", False, {})
    assert [tuple(block) for block in options.conv_params] == [(4, (8, 8)), (4, (16, 16))]
    assert (options.epochs, options.lr, options.batch_size, options.weight_decay) == (1, 0.01, 128, 0.0)
    trained = command(folder, "-m", "train", "-p", "w", "p", cwd=folder)
    assert trained.returncode == 0
    assert trained.stderr.count("\n") == 2, "the files are of three of the ten classes, and nothing else is wrong"
    assert batch in trained.stderr
    assert "WARNING: the training files hold no jets of label_Hcc, label_Hgg, " in trained.stderr
    assert "Best model: " in trained.stdout


def test_keywords_of_another_network_stay_keywords(folder: Path) -> None:
    assert main(weaver("--network-config part.py -o num_layers 2")) == 0
    options = load_options(Project("w", "p").config)
    assert (options.model_name, options.network_options) == ("ParticleTransformer", {"num_layers": 2})
    assert options.exit_stages == ["input", 0]


def test_a_network_says_how_many_classes_have_a_number(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = "labels: {type: custom, value: {truth: jet_label}}\nobservers:"
    (folder / "data.yaml").write_text(re.sub(r"(?s)labels:.*observers:", labels, DATA.read_text(encoding="utf-8")))
    path = folder / "data.yaml"
    assert "or list labels.names" in fails(capsys, 2, *weaver("--network-config part.py", path))
    assert main(weaver("--network-config part.py -o num_classes 7", path)) == 0
    session = Session.open(Request("train", "w", "p"))
    assert session.build(session.schema).class_count == 7


def test_names_say_how_many_classes_have_a_number(folder: Path) -> None:
    labels = "labels: {type: custom, value: {truth: jet_label}, names: [qcd, higgs, top, w]}\nobservers:"
    path = folder / "data.yaml"
    path.write_text(re.sub(r"(?s)labels:.*observers:", labels, DATA.read_text(encoding="utf-8")))
    assert main(weaver("--network-config part.py", path)) == 0
    session = Session.open(Request("train", "w", "p"))
    assert session.build(session.schema).class_count == 4


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--network-config absent.py", "absent.py' does not exist"),
        ("--network-config net.py --data-test absent/*.root", "absent/*.root"),
        ("--network-config net.py --load-model-weights absent.pt", "absent.pt' does not exist"),
        ("--network-config net.py -o fc_params 3", "get_model fails"),
        ("--network-config net.py --batch-size 0", "batch_size"),
        ("", "--network-config"),
    ],
)
def test_what_cannot_be_used_leaves_no_project(
    folder: Path, capsys: pytest.CaptureFixture[str], flags: str, words: str
) -> None:
    assert words in fails(capsys, 2, *weaver(flags))
    assert not Project("w", "p").root.exists()


def test_without_a_command_the_mode_says_what_it_needs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert '--command "weaver …"' in fails(capsys, 2, "-m", "import_weaver", "-p", "w", "p")
