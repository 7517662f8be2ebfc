"""Mode retrofit: put exits on a network that was trained elsewhere, and prove that it answers as before."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from phaze_ee.config.options import Options
from phaze_ee.config.template import RETROFIT_VALUES, render_retrofit
from phaze_ee.data.loaders import evaluation_loader
from phaze_ee.data.schema import DataSchema
from phaze_ee.errors import CheckpointError, RunError, UsageError
from phaze_ee.evaluation.answers import predict
from phaze_ee.evaluation.metrics import evaluate_exit
from phaze_ee.machine import resolve_device
from phaze_ee.models.backbone import Backbone
from phaze_ee.models.build import adopt, build_network
from phaze_ee.models.checkpoint import is_tagger, load_backbone, load_checkpoint, read_content
from phaze_ee.models.particle_net.from_weights import particle_net_arguments
from phaze_ee.models.tagger import Tagger
from phaze_ee.modes import train
from phaze_ee.modes.console import console, counted, show
from phaze_ee.modes.new_project import create_project
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Setup, load_setup
from phaze_ee.names import exit_title
from phaze_ee.tables.style import empty_table, with_error
from phaze_ee.types import JetInputs, Predictions
from phaze_ee.workspace import Project, find_file

_WEAVER_JETS = 64  # so few, because weaver's form takes gigabytes for many padded jets


def show_proof(setup: Setup) -> None:
    """Compare the project's best model with ``c.init_from`` on the validation jets, and print what was found.

    Raises:
        RunError: the full model's answers, or a tensor of the backbone, are not bit for bit the same.
    """
    checkpoint = load_checkpoint(setup.project.best_model)
    schema = DataSchema.from_options(checkpoint.data_options)
    original, weaver = _original(setup, schema)
    best = _predict(setup, schema, checkpoint.tagger)
    before = _predict(setup, schema, Tagger(original, []).eval())
    tensors = _check_tensors(checkpoint.tagger.backbone, original)
    different = int((best.logits_ENK[-1] != before.logits_ENK[-1]).any(axis=1).sum())
    if different:
        raise RunError(
            f"the full model of {setup.project.best_model} answers {different} of {len(best)} validation jets "
            f"otherwise than {setup.options.init_from}; do not use it, and report this"
        )
    show(_table(setup, best, checkpoint.tagger))
    console.print(
        f"Verified: on {len(best):,} validation jets the full model answers bit for bit as {setup.options.init_from} "
        f"does, and its {tensors} tensors are the same.",
        soft_wrap=True,
    )
    console.print(
        f"Logits of weaver's own module differ by {weaver.median():.1e} (median of {len(weaver)} jets), at most "
        f"{weaver.max():.1e}: rounding, which may also decide which particles are the nearest.",
        soft_wrap=True,
    )


def _original(setup: Setup, schema: DataSchema) -> tuple[Backbone[Any], Tensor]:
    """Return a fresh backbone with the weights of the checkpoint, and how far weaver's module is from it."""
    options, root = setup.options, setup.project.root
    assert options.init_from is not None
    network_config = find_file("network_config", options.network_file, root)
    model = build_network(options, network_config, schema.weaver).eval()
    backbone = adopt(model, str(network_config)).eval()
    load_backbone(backbone, find_file("init_from", options.init_from, root))
    loader = evaluation_loader(schema, setup.files("val_files"), batch_size=_WEAVER_JETS)
    jets = next(iter(loader)).inputs.padded()
    with torch.inference_mode():
        theirs_NK = model(*_as_weaver(jets, schema))
        ours_NK = Tagger(backbone, []).eval().fastest_form()(jets)[-1]
    return backbone, (theirs_NK - ours_NK).abs().amax(dim=1)


def _as_weaver(jets: JetInputs, schema: DataSchema) -> list[Tensor]:
    """Return the inputs in the order of the data configuration, in which weaver passes them."""
    return [getattr(jets, name.rsplit("_", 1)[-1]) for name in schema.weaver.input_names]


def _predict(setup: Setup, schema: DataSchema, tagger: Tagger) -> Predictions:
    options = setup.options
    loader = evaluation_loader(
        schema, setup.files("val_files"), batch_size=options.batch_size, num_workers=options.num_workers
    )
    return predict(tagger, counted(loader), schema.class_names, resolve_device(options.device))


def _check_tensors(backbone: Backbone[Any], original: Backbone[Any]) -> int:
    before = {name: value.cpu() for name, value in original.state_dict().items()}
    changed = [name for name, value in backbone.state_dict().items() if not torch.equal(value.cpu(), before[name])]
    if changed:
        raise RunError(
            f"the training changed {changed[0]} of the frozen backbone; do not use the model, and report this"
        )
    return len(before)


def _table(setup: Setup, predictions: Predictions, tagger: Tagger) -> Table:
    table = empty_table(f"{setup.project}: {len(predictions):,} validation jets", ["accuracy", "loss", "of full"])
    macs_EN = tagger.fastest_form().exit_macs(torch.from_numpy(predictions.particle_count_N)).double()
    share_E = (macs_EN.mean(dim=1) / macs_EN[-1].mean()).tolist()
    for name, share, logits_NK in zip(predictions.exit_names, share_E, predictions.logits_ENK, strict=True):
        judged = evaluate_exit(logits_NK, predictions.label_N, predictions.class_names, None)
        accuracy = with_error(judged.accuracy, judged.accuracy_error)
        table.add_row(exit_title(name), accuracy, f"{judged.loss:.4f}", f"{100 * share:.2f} %")
    return table


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
    show_proof(setup)
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
