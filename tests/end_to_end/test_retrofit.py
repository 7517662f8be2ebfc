"""Published weights get exits by one command; what is wrong with a checkpoint is told before anything is made."""

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from phaze_ee.cli import main
from phaze_ee.config.load import load_options
from phaze_ee.config.options import Options
from phaze_ee.config.template import RETROFIT_VALUES
from phaze_ee.data.schema import DataSchema
from phaze_ee.errors import RunError
from phaze_ee.models.build import build_tagger
from phaze_ee.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from phaze_ee.modes.request import Request
from phaze_ee.modes.retrofit import show_proof
from phaze_ee.modes.session import Session
from phaze_ee.workspace import Project, find_file
from tests.end_to_end.command import digest, fails
from tests.jets import small_weaver_network
from tests.modes.two_class_project import make_project, save_best_model

Capture = pytest.CaptureFixture[str]
Weights = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(tmp_path / "workspaces"))
    quick = {"train_files": ["sample_jets/val/HToBB*.root", "sample_jets/val/TTBar_*.root"], "epochs": 1}
    quick |= {"val_files": ["sample_jets/test/ZTo*.root"], "test_files": [], "device": "cpu", "tensorboard": False}
    for name, value in quick.items():
        monkeypatch.setitem(RETROFIT_VALUES, name, value)
    return tmp_path


def weaver_weights(prefix: str = "mod.", **changes: Any) -> Weights:
    network = small_weaver_network(**{"num_classes": 10, **changes}).float()
    return {f"{prefix}{name}": value for name, value in network.state_dict().items()}


def saved(folder: Path, weights: Any) -> Path:
    path = folder / "published.pt"
    torch.save(weights, path)
    return path


def retrofit(project: str, path: Path) -> tuple[str, ...]:
    return ("-m", "retrofit", "-p", "W", project, "--checkpoint", str(path))


@pytest.mark.parametrize("changes", [{"prefix": ""}, {"use_fusion": True, "use_fts_bn": False, "input_dims": 17}])
def test_weights_become_a_project_with_exits(folder: Path, capsys: Capture, changes: dict[str, Any]) -> None:
    weights = weaver_weights(**changes)
    assert main(retrofit("new", saved(folder, weights))) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "the full model answers bit for bit as" in printed
    assert f"its {len(weights)} tensors are the same" in printed
    assert "Note: the exits are trained on the 3,600 bundled jets." in printed
    data_config = {7: "kin", 17: "full"}[changes.get("input_dims", 7)]
    taken = f"16, no and data_configs/JetClass_ParT_{data_config}.yaml are those of the published networks"
    assert taken in printed
    project = Project("W", "new")
    options = load_options(project.config)
    assert options.conv_params == [(16, (8, 8)), (16, (8, 8)), (16, (12, 12))]
    assert (options.exit_stages, options.freeze_backbone) == (["input", 0, 1], True)
    trained = load_checkpoint(project.best_model).tagger.backbone.state_dict()
    bare = {name.removeprefix("mod."): value for name, value in weights.items()}
    assert all(torch.equal(trained[f"mod.{name}"], value) for name, value in bare.items())
    assert not [path for path in project.root.rglob(".*") if path.is_file()]


OTHER_NETWORKS: dict[str, dict[str, Any]] = {
    "ParticleTransformer": {"embed_dims": [8, 8], "pair_embed_dims": [6], "num_heads": 2, "num_layers": 3},
    "ParticleNeXt": {"node_dim": 6, "edge_dim": 5, "layer_params": [(6, 16, [(2, 1), (1, 1)], 16)] * 2},
    "PFN": {"particle_dims": [8, 8], "jet_dims": [8]},
}


@pytest.mark.parametrize("name", OTHER_NETWORKS)
def test_a_network_that_pads_to_its_longest_jet(folder: Path, capsys: Capture, name: str) -> None:
    data_config = "data_configs/JetClass_ParT_kin.yaml"
    network = {"model_name": name, "network_options": OTHER_NETWORKS[name], "data_config": data_config}
    options = Options.model_validate({**RETROFIT_VALUES, **network, "num_exit_points": 2, "beta_max": 1.0})
    schema = DataSchema.load(find_file("data_config", data_config, None))
    torch.manual_seed(0)
    tagger = build_tagger(options, find_file("network_config", options.network_file_for(1), None), schema.weaver)
    record = {**options.model_dump(mode="json", include=set(network)), "exit_stages": ["input", 0]}
    save_checkpoint(folder / "ours.pt", Checkpoint(tagger, record, schema.options, "", 0, {}))
    assert main(retrofit("new", folder / "ours.pt")) == 0
    assert "the full model answers bit for bit as" in " ".join(capsys.readouterr().out.split())


def test_a_project_that_exists_keeps_its_configuration(folder: Path, capsys: Capture) -> None:
    project = make_project(folder, "c.epochs = 1", "c.zero_epochs = 0", "c.tensorboard = False")
    before = project.config.read_text(encoding="utf-8")
    weights = weaver_weights(input_dims=3, num_classes=2, conv_params=[(4, (8, 8)), (4, (8, 8))], fc_params=[(8, 0.1)])
    path = saved(folder, weights)
    assert main(("-m", "retrofit", "-p", "Tops", "small", "--checkpoint", str(path))) == 0
    assert "bit for bit" in capsys.readouterr().out
    assert project.config.read_text(encoding="utf-8") == before
    shutil.copy(project.best_model, folder / "ours.pt")
    exits_of_ours = load_checkpoint(folder / "ours.pt").tagger.heads.state_dict()
    with project.config.open("a", encoding="utf-8") as file:
        file.write("    c.exit_stages = [0]\n    c.beta_max = [1.0]\n")
    assert main(("-m", "retrofit", "-p", "Tops", "small", "--checkpoint", str(folder / "ours.pt"))) == 0
    assert len(load_checkpoint(project.best_model).tagger.heads.state_dict()) < len(exits_of_ours)


def test_an_average_over_slots_is_compared_with_weaver_for_the_same_slots(folder: Path, capsys: Capture) -> None:
    make_project(folder, "c.epochs = 1", "c.zero_epochs = 0", "c.tensorboard = False", "c.use_counts = False")
    changes: dict[str, Any] = {"input_dims": 3, "num_classes": 2, "conv_params": [(4, (8, 8)), (4, (8, 8))]}
    weights = weaver_weights(**changes, fc_params=[(8, 0.1)], use_counts=False)
    assert main(("-m", "retrofit", "-p", "Tops", "small", "--checkpoint", str(saved(folder, weights)))) == 0
    assert "The logits of weaver's own module differ by" in " ".join(capsys.readouterr().out.split())


def test_a_project_that_exists_with_another_network_is_named(folder: Path, capsys: Capture) -> None:
    make_project(folder)
    path = saved(folder, weaver_weights())
    text = fails(capsys, 2, "-m", "retrofit", "-p", "Tops", "small", "--checkpoint", str(path))
    assert "project Tops/small exists and has another network" in text
    assert "choose a new name, or delete the project (" in text


def without(weights: Weights, name: str) -> Weights:
    return {key: value for key, value in weights.items() if key != name}


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "missing": (lambda: without(weaver_weights(), "mod.fc.1.bias"), "mod.fc.1.bias is missing"),
    "first block missing": (
        lambda: without(weaver_weights(), "mod.edge_convs.0.convs.0.weight"),
        "holds no ParticleNet that could be recognised",
    ),
    "extra": (lambda: {**weaver_weights(), "mod.more": torch.ones(2)}, "mod.more is not in this network"),
    "width": (lambda: weaver_weights(input_dims=5), "takes 5 features of a particle"),
    "classes": (lambda: weaver_weights(num_classes=3), "mod.fc.1.weight has shape (3, 16), here (10, 16)"),
    "no tensor": (lambda: {**weaver_weights(), "mod.fc.1.weight": 3}, "mod.fc.1.weight has shape none"),
    "numbers as names": (lambda: {1: torch.ones(1)}, "holds no weights"),
    "a module": (lambda: torch.nn.Linear(1, 1), "holds objects other than tensors"),
    "a tensor": (lambda: torch.ones(3), "holds no weights"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_weights_leave_no_project(folder: Path, capsys: Capture, name: str) -> None:
    make, expected = BAD[name]
    path = saved(folder, make())
    assert expected in fails(capsys, 2, *retrofit("new", path))
    assert list(folder.iterdir()) == [path]


class Payload:
    """What a malicious checkpoint holds: unpickling it would write a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("write", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
def test_a_malicious_pickle_does_not_run(folder: Path, capsys: Capture, write: Callable[[Any, Path], Any]) -> None:
    target, path = folder / "broken_into", folder / "evil.pt"
    write({**weaver_weights(), "mod.fc.1.bias": Payload(target)}, path)
    assert "holds objects other than tensors" in fails(capsys, 2, *retrofit("new", path))
    assert not target.exists()
    assert list(folder.iterdir()) == [path]
    torch.load(path, weights_only=False) if write is torch.save else pickle.loads(path.read_bytes())
    assert target.exists(), "it would have run"


def test_a_checkpoint_that_is_not_there(folder: Path, capsys: Capture) -> None:
    assert "--checkpoint " in fails(capsys, 2, *retrofit("new", folder / "none.pt"))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ([0, 7], "name a stage that is not there"),
        ([1, 1], "in ascending order without repeats"),
        (["x"], "exit_stages"),
    ],
)
def test_exit_stages_that_cannot_be(folder: Path, capsys: Capture, stages: list[Any], expected: str) -> None:
    path = saved(folder, weaver_weights(input_dims=3, num_classes=2))
    project = make_project(folder, "c.beta_max = [1.0]", f"c.exit_stages = {stages}", "c.zero_epochs = 0")
    before = digest(project.root / "config")
    for mode in ("retrofit", "train"):
        flags = ("--checkpoint", str(path)) if mode == "retrofit" else ()
        assert expected in fails(capsys, 2, "-m", mode, "-p", "Tops", "small", *flags)
    assert digest(project.root / "config") == before
    assert not project.best_model.exists()


def test_without_a_checkpoint_there_is_nothing_to_retrofit(folder: Path, capsys: Capture) -> None:
    make_project(folder, "c.zero_epochs = 0")
    assert "needs --checkpoint FILE, or c.init_from" in fails(capsys, 2, "-m", "retrofit", "-p", "Tops", "small")
    assert "creates it with --checkpoint FILE" in fails(capsys, 2, "-m", "retrofit", "-p", "W", "new")


def test_a_changed_backbone_is_noticed(folder: Path) -> None:
    project = make_project(folder, "c.zero_epochs = 0", "c.freeze_backbone = True")
    save_best_model(project, seed=1)
    original = folder / "original.pt"
    shutil.copy(project.best_model, original)
    request = Request("retrofit", "Tops", "small", flags={"init_from": str(original)})
    show_proof(Session.open(request))
    save_best_model(project, seed=2)
    with pytest.raises(RunError, match=r"the training changed mod\..* of the frozen backbone"):
        show_proof(Session.open(request))
