"""The configuration file that a new project starts with."""

import inspect
import textwrap
from collections.abc import Mapping
from typing import Any

from phaze_ee.config.options import SECTIONS, Section

# A new project trains on the sample jets on a laptop in a few minutes. The file shows the default of each option here.
SAMPLE_VALUES: dict[str, Any] = {
    "data_config": "data_configs/JetClass_ParT_full.yaml",
    "train_files": ["sample_jets/train/*.root"],
    "val_files": ["sample_jets/val/*.root"],
    "test_files": ["sample_jets/test/*.root"],
    "conv_params": [(8, (16, 16, 16)), (8, (32, 32, 32)), (8, (64, 64, 64))],
    "fc_params": [(64, 0.1)],
    "epochs": 12,
    "zero_epochs": 0,
    "lr": 0.01,
    "batch_size": 64,
    "exit_stages": ["input", 0, 1],
    "beta_max": [1.0, 1.0, 1.0],
    "num_workers": 0,
    "log_interval": 10,
    "epsilon": 0.05,
    "seed": 1,
}

# Mode demo: H->bb against QCD, on 16,500 other bundled jets.
DEMO_VALUES: dict[str, Any] = {
    **SAMPLE_VALUES,
    "data_config": "data_configs/SampleJets_Hbb.yaml",
    "train_files": ["sample_jets/hbb/train/*.root"],
    "val_files": ["sample_jets/hbb/val/*.root"],
    "test_files": ["sample_jets/hbb/test/*.root"],
    "background": "label_QCD",
    "conv_params": [(12, (32, 32, 32)), (12, (48, 48, 48)), (12, (64, 64, 64))],
    "epochs": 8,
    "exit_target": "signal_efficiency",
    "signal": "label_Hbb",
    "signal_efficiency": 0.5,
    "exit_form": "reject",
    "epsilon": 0.01,
    "class_prior": {"label_QCD": 0.999, "label_Hbb": 0.001},
    "calibration_share": 0.8,
}

_HEADER = '''"""Configuration of project {project}.

Every option is listed here with its value; an option that you delete has its default. File patterns and paths are
looked up in the current directory, in this project's folder, and in the package (sample_jets, data_configs).
{note}
"""


def set_config(c):
'''


SAMPLE_NOTE = """\
For your own jets, change data_config and the three lists of files. For the full-size network, delete conv_params and
fc_params. Options marked [sample] were chosen for the 3,600 bundled jets."""


_DEMO_NOTE = """\
H->bb against QCD, which is 999 of 1,000 jets. For your own jets, start with mode new_project. Options
marked [demo] were chosen for the bundled jets of sample_jets/hbb."""


def render_config(
    project: str, values: Mapping[str, Any] = SAMPLE_VALUES, note: str = SAMPLE_NOTE, mark: str = "sample"
) -> str:
    """Return the text of a configuration file with all options, by default those for the sample jets.

    Args:
        project: the name of the project.
        values: the options that differ from their defaults.
        note: text about these options, at the top of the file.
        mark: word that marks each of these options.
    """
    sections = "\n".join(_section(section, values, mark) for section in SECTIONS)
    return _HEADER.format(project=project, note=note) + sections


def _section(section: type[Section], values: Mapping[str, Any], mark: str) -> str:
    title = f"    # ===== {(inspect.getdoc(section) or section.__name__).splitlines()[0].rstrip('.')} ====="
    own = inspect.get_annotations(section)
    return "\n".join([title, *(_option(name, section.model_fields[name], values, mark) for name in own), ""])


def _option(name: str, field: Any, values: Mapping[str, Any], mark: str) -> str:
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    value = values.get(name, default)
    note = field.description or ""
    if value != default:
        note += f" [{mark}]" if field.is_required() else f" [{mark}; default {default!r}]"
    comment = textwrap.fill(note, 110, initial_indent="    # ", subsequent_indent="    #   ")
    return f"{comment}\n    c.{name} = {value!r}"


def render_demo(project: str) -> str:
    """Return the text of the configuration of mode demo."""
    return render_config(project, DEMO_VALUES, _DEMO_NOTE, "demo")


# All options except those of the network. The jets are the bundled ones until the user names others.
RETROFIT_VALUES: dict[str, Any] = {
    "train_files": ["sample_jets/train/*.root"],
    "val_files": ["sample_jets/val/*.root"],
    "test_files": ["sample_jets/test/*.root"],
    "exit_head": "deep_sets",
    "exit_loss_strategy": "distill_detached",
    "freeze_backbone": True,
    "beta_max": [1.0],
    "beta_schedule": "switch",
    "zero_epochs": 0,
    # Accuracy of the exits after 15 epochs on the bundled jets: 0.58, 0.74, 0.78; ranger at 0.005: 0.49, 0.70, 0.76.
    "epochs": 20,
    "batch_size": 128,
    "lr": 0.005,
    "optimizer": "adamw",
    "lr_schedule": "one_cycle",
    "num_workers": 0,
    "log_interval": 10,
    "epsilon": 0.05,
    "seed": 1,
}

_NOTE = """\
The network is that of the checkpoint in init_from and does not change; only the exits learn. train_files, val_files and
test_files are the bundled jets: name your own, the more the better, and run mode retrofit again. Options marked
[retrofit] fit the checkpoint or the bundled jets."""


def render_retrofit(project: str, network: Mapping[str, Any]) -> str:
    """Return the text of a configuration for mode retrofit, with the options of the network and ``init_from``."""
    return render_config(project, {**RETROFIT_VALUES, **network}, _NOTE, "retrofit")
