"""Checkpoints of strangers: they name files, and none of these runs."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import phaze_ee
from phaze_ee.errors import CheckpointError
from phaze_ee.models.checkpoint import Checkpoint, load_checkpoint, load_weights, save_checkpoint, stored_data_options
from phaze_ee.models.heads import ExitHead, HeadShape
from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import State
from phaze_ee.user_files import import_plugin
from tests.end_to_end.command import fails
from tests.jets import random_jets, small_tagger, small_weaver_network
from tests.parts import nothing_registered

PLUGIN = """
from pathlib import Path

import phaze_ee
from phaze_ee.models.heads import LinearExitHead, ExitHead

Path({marker!r}).touch()


@phaze_ee.register
class Mine(ExitHead):
    name = "mine"

    def __init__(self, channels, num_classes, shape):
        super().__init__(channels, num_classes, shape)
        self.linear = LinearExitHead(channels, num_classes, shape)

    def forward(self, state):
        return self.linear(state)

    def macs(self, particle_count_N):
        return self.linear.macs(particle_count_N)
"""


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    with nothing_registered():
        yield


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that the plug-in makes when it runs."""
    return tmp_path / "has_run"


@pytest.fixture
def plugin(tmp_path: Path, marker: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN.format(marker=str(marker)), encoding="utf-8")
    return path


@pytest.fixture
def model(tmp_path: Path, plugin: Path, marker: Path) -> Path:
    """A checkpoint that needs the plug-in, which has not run in this process."""
    path = tmp_path / "best_model.pt"
    with nothing_registered():
        import_plugin(plugin)
        tagger = Tagger(ParticleNet(small_weaver_network()), (0, 1), ("mine", "linear")).float().eval()
        save_checkpoint(path, Checkpoint(tagger, {}, {"inputs": {}}, "hash", 1, {}))
    marker.unlink()
    return path


def change(model: Path, **content: Any) -> None:
    torch.save({**torch.load(model, weights_only=True), **content}, model)


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("load", [load_checkpoint, phaze_ee.load])
def test_the_file_that_a_checkpoint_names_does_not_run(
    model: Path, marker: Path, plugin: Path, load: Callable[..., Any], trust: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    with pytest.raises(CheckpointError) as caught:
        load(model, trust=trust)
    assert str(caught.value) == (
        f"{model} needs the exit_head 'mine', which is unknown here; the checkpoint says that it comes from {plugin}: "
        "if you trust this file, name it in c.plugins, or in plugins=[...] of phaze_ee.load"
    )
    assert not marker.exists()
    assert phaze_ee.load(model, plugins=[plugin]).head_names == ("mine", "linear")
    assert marker.exists(), "it runs where the user names it"


def test_what_needs_no_part_needs_no_plugin(model: Path, marker: Path) -> None:
    assert stored_data_options(model) == {"inputs": {}}
    load_weights(small_tagger((0,)).float(), model)
    assert not marker.exists()


def test_parts_may_be_registered_on_demand(model: Path, plugin: Path) -> None:
    assert load_checkpoint(model, register_parts=lambda: import_plugin(plugin)).tagger.head_names[0] == "mine"
    load_checkpoint(model, register_parts=lambda: pytest.fail("all is registered"))


def test_the_recorded_hash_must_be_that_of_the_file(model: Path, plugin: Path, marker: Path) -> None:
    plugin.write_text(PLUGIN.format(marker=str(marker)) + "\nx = 1\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match="was made with another version of the exit_head 'mine': it records"):
        phaze_ee.load(model, plugins=[plugin])
    assert phaze_ee.load(model, plugins=[plugin], trust=True).head_names[0] == "mine"


@pytest.mark.parametrize(
    "plugins", [3, [{"path": 3}], [{"path": None, "sha256": None, "code_sha256": None, "parts": [1]}]]
)
def test_a_damaged_record(model: Path, plugins: object) -> None:
    change(model, plugins=plugins)
    with pytest.raises(CheckpointError, match="is a damaged checkpoint: its 'plugins' cannot be read"):
        load_checkpoint(model)


def test_an_older_checkpoint_does_not_say_where_a_part_comes_from(model: Path, plugin: Path) -> None:
    change(model, plugins=[])
    with pytest.raises(CheckpointError, match="does not say where it comes from: name the file that registers it"):
        load_checkpoint(model)
    assert phaze_ee.load(model, plugins=[plugin]).head_names[0] == "mine"


class Interactive(ExitHead):
    name: ClassVar[str] = "interactive"

    def __init__(self, channels: int, num_classes: int, shape: HeadShape) -> None:
        super().__init__(channels, num_classes, shape)
        self.linear = torch.nn.Linear(channels, num_classes)

    def forward(self, state: State) -> Tensor:
        logits: Tensor = self.linear(state.pool("mean"))
        return logits

    def macs(self, particle_count_N: Tensor) -> Tensor:
        return particle_count_N


def test_a_class_of_an_interactive_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Interactive, "__module__", "__main__of_a_notebook")
    path = tmp_path / "x.pt"
    with nothing_registered():
        phaze_ee.register(Interactive)
        tagger = Tagger(ParticleNet(small_weaver_network()), (0,), "interactive").float().eval()
        save_checkpoint(path, Checkpoint(tagger, {}, {}, "", 0, {}))
        jets = random_jets([3, 5], dtype=torch.float32)
        torch.testing.assert_close(load_checkpoint(path).tagger(jets), tagger(jets), rtol=0, atol=0)
    with pytest.raises(CheckpointError, match="in an interactive session: register the class again with phaze_ee"):
        load_checkpoint(path)


def test_retrofit_does_not_run_the_network_file_that_a_checkpoint_names(
    model: Path, marker: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PHAZE_EE_WORKSPACES", str(model.parent / "workspaces"))
    monkeypatch.chdir(model.parent)
    for named in (str(plugin), plugin.name, f"../{plugin.parent.name}/{plugin.name}"):
        change(model, options={"data_config": "data_configs/JetClass_ParT_kin.yaml", "network_config": named})
        text = fails(capsys, 2, "-m", "retrofit", "-p", "W", "new", "--checkpoint", str(model))
        assert f"{model} was made with the network file {named}, which is not one of the package" in text
    change(model, options={"model_name": "mine"})
    text = fails(capsys, 2, "-m", "retrofit", "-p", "W", "new", "--checkpoint", str(model))
    assert "holds an option that cannot be used, model_name: unknown model_name 'mine'" in text
    assert not marker.exists()
    assert not (model.parent / "workspaces").exists()
