"""Running a configuration file: what it sets, and what an error in it looks like."""

import keyword
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from phaze_ee.config.load import load_options
from phaze_ee.config.options import Options
from phaze_ee.errors import UsageError
from tests.config.test_options import CONTRACT

FILES = ["c.train_files = ['a.root']", "c.val_files = ['b.root']"]


def write(folder: Path, *lines: str) -> Path:
    """Write a configuration: line 1 is the def, lines 2 and 3 name the files, yours start at line 4."""
    path = folder / "p_config.py"
    path.write_text("\n    ".join(["def set_config(c):", *FILES, *lines]) + "\n", encoding="utf-8")
    return path


def message(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        load_options(path)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_contracts_example_loads(tmp_path: Path) -> None:
    options = load_options(write(tmp_path, *(f"c.{name} = {value!r}" for name, value in CONTRACT.items())))
    assert {name: getattr(options, name) for name in CONTRACT} == CONTRACT


def test_what_is_not_set_has_its_default(tmp_path: Path) -> None:
    options = load_options(write(tmp_path))
    assert options == Options(train_files=["a.root"], val_files=["b.root"])


def test_reading_gives_the_default_or_what_was_set(tmp_path: Path) -> None:
    path = write(tmp_path, "c.lr = c.lr * 2", "c.weight_decay = c.lr", "c.lr = 1", "c.gradient_clip = c.lr")
    options = load_options(path)
    assert (options.weight_decay, options.lr, options.gradient_clip) == (0.004, 1.0, 1.0)


def test_an_option_that_is_set_twice_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(
        tmp_path, "c.lr, c.batch_size = 0.01, 256", "c.lr = 0.01", "for size in (32, 64):", "    c.batch_size = size"
    )
    assert load_options(path).batch_size == 64
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: c.batch_size is set in line 4 and in line 7, which counts"
    ]


def test_a_configuration_that_starts_from_another_may_set_its_options_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "common_options.py").write_text("def set_config(c):\n    c.lr = 0.5\n", encoding="utf-8")
    path = write(tmp_path, "import common_options", "common_options.set_config(c)", "c.lr = 0.25")
    assert load_options(path).lr == 0.25
    assert not caplog.records


def test_a_function_that_changes_what_another_set_is_no_mistake(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, "c.lr = 0.5")
    path.write_text(
        f"{path.read_text()}\n\n_before = set_config\n\ndef set_config(c):\n    _before(c)\n    c.lr = 0.25\n"
    )
    assert load_options(path).lr == 0.25
    assert not caplog.records


def test_changing_a_default_in_place_counts(tmp_path: Path) -> None:
    assert load_options(write(tmp_path, "c.beta_max[0] = 0.1")).beta_max == [0.1, 0.5, 1.0]
    assert load_options(write(tmp_path)).beta_max == [0.3, 0.5, 1.0]


def test_reading_a_required_option_before_it_is_set(tmp_path: Path) -> None:
    path = tmp_path / "p_config.py"
    path.write_text("def set_config(c):\n    c.val_files = c.train_files\n", encoding="utf-8")
    assert message(path) == f"{path}:2: option 'train_files' is read before it is set; it has no default"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("learning_rate", None), ("epoch", "epochs"), ("zero_epoch", "zero_epochs"), ("lr_scheduler", "lr_schedule")],
)
def test_an_unknown_name(tmp_path: Path, name: str, nearest: str | None) -> None:
    path = write(tmp_path, "c.lr = 0.1", f"c.{name} = 1")
    text = message(path)
    assert text.startswith(f"{path}:5: unknown option {name!r}; ")
    assert nearest is None or text.endswith(f"did you mean {nearest!r}?")
    assert message(write(tmp_path, f"c.lr = c.{name}")).startswith(f"{path}:4: unknown option {name!r}; ")


def test_a_wrong_choice_names_the_nearest_one(tmp_path: Path) -> None:
    assert "did you mean 'signal_efficiency'?" in message(write(tmp_path, "c.exit_target = 'signal_efficency'"))
    assert "did you mean" not in message(write(tmp_path, "c.exit_target = 'xyz'"))


names = st.from_regex(r"[A-Za-z][A-Za-z_]{0,15}", fullmatch=True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(name=names.filter(lambda name: name not in Options.model_fields and not keyword.iskeyword(name)))
def test_no_other_name_is_taken(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, f"c.{name} = 1")
    assert message(path).startswith(f"{path}:4: unknown option {name!r}; ")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("c.epochs = '5'", "epochs: Input should be a valid integer (got '5')"),
        ("c.lr = None", "lr: Input should be a valid number (got None)"),
        ("c.lr = -1", "lr: Input should be greater than 0 (got -1)"),
        ("c.optimizer = 'sgd'", "optimizer: Input should be 'ranger', 'adamw' or 'adam' (got 'sgd')"),
        ("c.use_amp = 1", "use_amp: Input should be a valid boolean (got 1)"),
        ("c.train_files = 'a.root'", "train_files: Input should be a valid list (got 'a.root')"),
        ("c.beta_max = [1, 'x', 1]", "beta_max[1]: Input should be a valid number (got 'x')"),
        ("c.exit_stages = ['inputs', 0]", "exit_stages[0]: Input should be a valid integer or 'input' (got 'inputs')"),
        ("c.train_files = []", "train_files: give at least 1 (got [])"),
        ("c.validation_share = 0.0", "validation_share: Input should be greater than 0 (got 0.0)"),
    ],
)
def test_a_wrong_value(tmp_path: Path, line: str, expected: str) -> None:
    path = write(tmp_path, line)
    assert message(path) == f"{path}:4: {expected}"


def test_a_left_out_option(tmp_path: Path) -> None:
    path = tmp_path / "p_config.py"
    path.write_text("def set_config(c):\n    c.val_files = ['b.root']\n", encoding="utf-8")
    assert message(path) == f"{path}: train_files: Field required"


def test_several_errors_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path, "c.lr = 'high'", "c.epochs = 'many'")
    assert message(path).endswith("(and 1 more)")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("raise ValueError('first\\nsecond')", "ValueError: first second"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import nonexistent_module", "ModuleNotFoundError: No module named 'nonexistent_module'"),
        ("open('nonexistent.txt')", "FileNotFoundError: [Errno 2] No such file or directory: 'nonexistent.txt'"),
        ("assert False", "AssertionError"),
        ("c.lr = undefined", "NameError: name 'undefined' is not defined"),
        ("{}['x']", "KeyError: 'x'"),
        ("raise type('OwnError', (Exception,), {})('an error of your own')", "OwnError: an error of your own"),
    ],
)
def test_a_configuration_that_raises(tmp_path: Path, line: str, expected: str) -> None:
    path = write(tmp_path, line)
    assert message(path) == f"{path}:4: {expected}"


def test_an_import_outside_the_function(tmp_path: Path) -> None:
    path = tmp_path / "p_config.py"
    path.write_text("import os\nimport nonexistent_module\n", encoding="utf-8")
    assert message(path) == f"{path}:2: ModuleNotFoundError: No module named 'nonexistent_module'"


def test_an_imported_module_with_a_syntax_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_helper.py").write_text("def f(:\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    path = write(tmp_path, "import broken_helper")
    assert message(path).startswith(f"{path}:4: SyntaxError: ")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"def set_config(c):\n    c.lr = = 1\n", ":2: not valid Python: invalid syntax"),
        (b"def setconfig(c):\n    pass\n", ": defines no function set_config(c)"),
        (b"set_config = 3\n", ": defines no function set_config(c)"),
        (b"# caf\xe9\ndef set_config(c): pass\n", ": not a text file in UTF-8"),
        (b"", ": defines no function set_config(c)"),
        (b"def set_config():\n    pass\n", ": TypeError: set_config() takes 0 positional arguments but 1 was given"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "p_config.py"
    path.write_bytes(content)
    assert message(path).startswith(f"{path}{expected}")


def test_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "p_config.py"
    assert message(path) == f"cannot read configuration {path}: No such file or directory"


def test_names_can_be_set_by_a_loop(tmp_path: Path) -> None:
    values: dict[str, Any] = {"lr": 0.5, "epochs": 20}
    assert load_options(write(tmp_path, f"for name, value in {values}.items(): setattr(c, name, value)")).epochs == 20
