"""Mode retrofit: put exits on a network that was trained elsewhere, and prove that it answers as before."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

from phaze_ee.config.options import Options
from phaze_ee.config.retrofit import RETROFIT_VALUES, render_retrofit
from phaze_ee.data.schema import DataSchema
from phaze_ee.errors import CheckpointError, UsageError
from phaze_ee.models.architecture import particle_net_arguments
from phaze_ee.models.checkpoint import is_tagger, read_content
from phaze_ee.modes import train
from phaze_ee.modes.console import console
from phaze_ee.modes.inputs import Setup, load_setup
from phaze_ee.modes.new_project import create_project
from phaze_ee.modes.request import Request
from phaze_ee.modes.unchanged import show_unchanged
from phaze_ee.workspace import Project, find_file

# By the number of features of a particle: what the published networks of JetClass were trained with.
_DATA_CONFIGS = {
    7: "data_configs/JetClass_ParT_kin.yaml",
    13: "data_configs/JetClass_ParT_kinpid.yaml",
    17: "data_configs/JetClass_ParT_full.yaml",
}
# What a checkpoint of ours says of its network and of the jets that it takes.
_OWN_OPTIONS = (
    "data_config", "model_name", "network_config", "network_options",
    "conv_params", "fc_params", "use_fusion", "use_fts_bn", "use_counts", "exit_stages",
)  # fmt: skip
_MOST_EXITS = 3


def run(request: Request) -> None:
    """Train exits on the frozen network of ``--checkpoint``, in the project of ``-p``, which is created if need be."""
    project = request.named_project
    flags: dict[str, Any] = {**request.flags, "freeze_backbone": True}
    if request.checkpoint is not None:
        path = find_file("--checkpoint", str(request.checkpoint), project.root).resolve()
        flags["init_from"] = str(path)
        if project.config.is_file():
            _check_network(load_setup(dataclasses.replace(request, flags=flags)), path)
        else:
            _create(project, path)
    request = dataclasses.replace(request, flags=flags)
    setup = load_setup(request)
    if setup.options.init_from is None:
        raise UsageError(f"mode 'retrofit' needs --checkpoint FILE, or c.init_from in {project.config}")
    train.run(request)
    show_unchanged(setup)
    console.print(
        f"Next: phaze_ee -m chain -p {project.workspace} {project.name} -o calibrate_evaluate_benchmark_plot",
        soft_wrap=True,
    )


def _create(project: Project, path: Path) -> None:
    """Create the project, if a network can be built and takes the weights of ``path``."""
    network = {**network_options(path), "init_from": str(path)}
    options = Options.model_validate({**RETROFIT_VALUES, **network})
    schema = DataSchema.load(find_file("data_config", options.data_config, None))
    Setup(project, options, schema).build(schema)
    create_project(project, partial(render_retrofit, network=network))
    console.print(f"Created project {project} for the network of {path}", soft_wrap=True)
    console.print(
        f"Note: the exits learn from the 3,600 bundled jets. Name your own in train_files, val_files and test_files of "
        f"{project.config}, and run retrofit again",
        soft_wrap=True,
    )


def _check_network(setup: Setup, path: Path) -> None:
    """Refuse weights that the network of an existing project does not take."""
    read_content(path)  # a file that is no checkpoint is an error of its own
    try:
        setup.build(setup.schema)
    except CheckpointError as error:
        raise CheckpointError(
            f"project {setup.project} exists, with another network than that of {path}; choose a new name, or delete "
            f"the project ({error})"
        ) from error


def network_options(path: Path) -> dict[str, Any]:
    """Return the options of the network that a checkpoint is of, with a data configuration that fits it.

    Raises:
        CheckpointError: it cannot be read, or does not tell which network it is of.
    """
    content = read_content(path)
    if is_tagger(content):
        own = content.get("options", {})
        return {name: own[name] for name in _OWN_OPTIONS if name in own}
    arguments = particle_net_arguments(content, path)
    width = arguments.pop("input_dims")
    if width not in _DATA_CONFIGS:
        known = ", ".join(map(str, _DATA_CONFIGS))
        raise CheckpointError(
            f"{path} takes {width} features of a particle, and the data configurations of JetClass have {known}; "
            "create a project with -m new_project, set data_config and conv_params there, and run retrofit again"
        )
    stages = ["input", *range(len(arguments["conv_params"]) - 1)]
    return {"data_config": _DATA_CONFIGS[width], **arguments, "exit_stages": stages[:_MOST_EXITS]}
