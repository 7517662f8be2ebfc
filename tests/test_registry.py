"""Registering parts: what is accepted, what is refused, and which names an option takes then."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

import phaze_ee
from phaze_ee.config.load import Configuration, load_options
from phaze_ee.config.options import ExitOptions, NetworkOptions
from phaze_ee.errors import UsageError
from phaze_ee.exits.scores import EXIT_SCORES
from phaze_ee.models.backbone import BACKBONES
from phaze_ee.models.heads import EXIT_HEADS, ExitHead, LinearExitHead
from phaze_ee.models.links import EXIT_LINKS
from phaze_ee.registry import BUILT_IN, REGISTERED, Registry, loss_strategies
from phaze_ee.training.losses import EXIT_LOSSES, ExitLoss, make_loss
from phaze_ee.types import State
from phaze_ee.user_files import import_file, import_plugin
from tests.parts import nothing_registered

REGISTRIES: list[Registry[Any]] = [BACKBONES, EXIT_HEADS, EXIT_LINKS, EXIT_LOSSES, EXIT_SCORES]
HEAD = """
import phaze_ee
from phaze_ee.models.backbone import Backbone
from phaze_ee.models.heads import ExitHead


@phaze_ee.register
class Mine(ExitHead):
    name = {name!r}

    def forward(self, state):
        return state

    def macs(self, particle_count_N):
        return particle_count_N
"""


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    with nothing_registered():
        yield


def written(folder: Path, name: str = "mine", file: str = "mine.py") -> Path:
    path = folder / file
    path.write_text(HEAD.format(name=name), encoding="utf-8")
    return path


@pytest.mark.parametrize("registry", REGISTRIES, ids=[registry.kind for registry in REGISTRIES])
def test_the_table_names_the_classes_of_the_package(registry: Registry[Any]) -> None:
    assert set(registry) == set(BUILT_IN[registry.kind])
    for name, part in registry.items():
        stored = part.model_fields["name"].default if hasattr(part, "model_fields") else part.name
        assert stored == name
        assert issubclass(part, registry.base)


def test_a_file_that_is_imported_again_registers_nothing_new(tmp_path: Path) -> None:
    path = written(tmp_path)
    import_plugin(path)
    first = EXIT_HEADS["mine"]
    import_plugin(path)
    copy = written(tmp_path, file="copy.py")
    import_plugin(copy)
    assert EXIT_HEADS["mine"] is first is phaze_ee.register(first)
    assert first.__module__ != import_file(copy).__name__


def test_a_changed_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    import_plugin(written(tmp_path))
    first = EXIT_HEADS["mine"]
    path = written(tmp_path)
    path.write_text(path.read_text(encoding="utf-8") + "\nx = 1\n", encoding="utf-8")
    import_plugin(path)
    assert EXIT_HEADS["mine"] is not first


def test_another_class_of_the_same_name_is_refused_with_both_places(tmp_path: Path) -> None:
    first, second = written(tmp_path), tmp_path / "other.py"
    second.write_text(HEAD.format(name="mine").replace("Mine", "Other"), encoding="utf-8")
    import_plugin(first)
    with pytest.raises(UsageError) as caught:
        import_plugin(second)
    assert str(caught.value) == (
        f"two classes have the name 'mine' (exit_head): class Mine of {first}, and class Other of {second}; rename one "
        "of them"
    )


class WithoutMacs(ExitHead):
    name: ClassVar[str] = "x"

    def forward(self, state: State) -> Tensor:
        return state.pool("mean")


class WithoutName(WithoutMacs):
    name: ClassVar[str] = ""

    def macs(self, particle_count_N: Tensor) -> Tensor:
        return particle_count_N


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (3, "takes a class, not 3"),
        (int, "derives from none of ExitHead, ExitLink, ExitLoss, ExitScore and Backbone"),
        (WithoutMacs, "lacks the method 'macs' of its base class; define it"),
        (WithoutName, 'has no name; give it one, as in name = "my_part"'),
        (LinearExitHead, "has the name 'linear', which the package has; choose another name"),
    ],
)
def test_what_is_no_part_is_refused(part: Any, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        phaze_ee.register(part)
    assert expected in str(caught.value)
    assert not any(REGISTERED.values())


def test_one_loss_gives_two_strategies() -> None:
    @phaze_ee.register
    class Zero(ExitLoss):
        name: ClassVar[str] = "zero"

        def __call__(self, logits_ENK: Tensor, label_N: Tensor) -> Tensor:
            return torch.zeros(len(logits_ENK) - 1)

    assert {"zero_detached", "zero_flow"} <= set(loss_strategies())
    options = ExitOptions(exit_loss_strategy="zero_flow")
    assert [make_loss(f"zero_{way}", options).detach for way in ("detached", "flow")] == [True, False]
    with pytest.raises(
        ValidationError, match=r"unknown exit_loss_strategy 'zero'; choose from .*did you mean 'zero_flow'"
    ):
        ExitOptions(exit_loss_strategy="zero")


def config(folder: Path, *lines: str, head: str = "") -> Path:
    path = folder / "config" / "p_config.py"
    path.parent.mkdir(exist_ok=True)
    body = ["c.train_files = c.val_files = ['a.root']", *lines]
    path.write_text(head + "\n\ndef set_config(c):\n" + "".join(f"    {line}\n" for line in body), encoding="utf-8")
    return path


def test_a_plugin_is_looked_up_in_the_folder_of_the_project(tmp_path: Path) -> None:
    written(tmp_path)
    options = load_options(config(tmp_path, "c.plugins = ['mine.py']", "c.exit_head = 'mine'"))
    assert options.exit_head == "mine"
    with nothing_registered(), pytest.raises(UsageError, match=r"exit_head: unknown exit_head 'mine'; .*c\.plugins"):
        load_options(config(tmp_path, "c.exit_head = 'mine'"))


@pytest.mark.parametrize(
    ("option", "value", "meant"),
    [
        ("exit_head", "min", "mine"),
        ("exit_head", ["mine", "lineal", "mlp"], "linear"),
        ("exit_link", "cascades", "cascade"),
        ("exit_score", "margine", "margin"),
        ("exit_loss_strategy", "mimic_flows", "mimic_flow"),
        ("model_name", "ParticleNeXtt", "ParticleNeXt"),
    ],
)
def test_an_unknown_name_is_told_with_its_line_and_the_nearest(
    tmp_path: Path, option: str, value: object, meant: str
) -> None:
    written(tmp_path)
    path = config(tmp_path, "c.plugins = ['mine.py']", f"c.{option} = {value!r}")
    with pytest.raises(UsageError) as caught:
        load_options(path)
    text = str(caught.value)
    assert text.startswith(f"{path}:6: {option}: unknown {option} ")
    assert f"did you mean {meant!r}?" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("1 / 0\n", "{plugin}:1: ZeroDivisionError: division by zero"),
        ("def f(:\n", "{plugin}:1: not valid Python: invalid syntax"),
        ("x = 1\nimport nonexistent_module\n", "{plugin}:2: ModuleNotFoundError: No module named 'nonexistent_module'"),
    ],
)
def test_a_plugin_that_fails_is_told_with_both_lines(tmp_path: Path, content: str, expected: str) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text(content, encoding="utf-8")
    path = config(tmp_path, "c.plugins = ['mine.py']")
    with pytest.raises(UsageError) as caught:
        load_options(path)
    assert str(caught.value) == f"{path}:5: {expected.format(plugin=plugin)}"


def test_a_plugin_that_is_not_there(tmp_path: Path) -> None:
    path = config(tmp_path, "c.plugins = ['none.py']")
    with pytest.raises(UsageError, match=r":5: plugins 'none\.py' does not exist \(looked in "):
        load_options(path)
    with pytest.raises(UsageError, match=r":5: plugins: Input should be a valid list"):
        load_options(config(tmp_path, "c.plugins = 'none.py'"))


def test_classes_of_a_configuration_that_runs_twice_are_the_first(tmp_path: Path) -> None:
    path = config(tmp_path, "c.exit_head = 'mine'", head=HEAD.format(name="mine"))
    load_options(path)
    first = EXIT_HEADS["mine"]
    load_options(path)
    config(tmp_path, "c.exit_head = 'mine'", "c.epochs = 3", head=HEAD.format(name="mine"))
    assert load_options(path).epochs == 3
    assert EXIT_HEADS["mine"] is first
    # Where it can be pickled from: another process that runs the file has it under the same name.
    assert getattr(importlib.import_module(first.__module__), "Mine") is first  # noqa: B009


def test_a_configuration_starts_afresh_each_time(tmp_path: Path) -> None:
    path = config(tmp_path, "SEEN.append(1)", "c.epochs = len(SEEN)", head="SEEN = []")
    assert [Configuration.read(path).options().epochs for _ in range(2)] == [1, 1]


def test_the_network_file_of_a_registered_network_is_its_own(tmp_path: Path) -> None:
    assert NetworkOptions(model_name="PFN").network_file == "network_configs/PFN_JetClass.py"
    methods = ("arguments", "embed", "stage", "readout", "stage_macs", "readout_macs")
    body = "".join(f"\n    def {method}(self, *_):\n        return 1\n" for method in methods)
    path = tmp_path / "net.py"
    path.write_text(HEAD.format(name="net").replace("Mine(ExitHead)", "Mine(Backbone)") + body, encoding="utf-8")
    import_plugin(path)
    assert NetworkOptions(model_name="net").network_file == str(path)
    assert NetworkOptions(model_name="net", network_config="x.py").network_file == "x.py"
