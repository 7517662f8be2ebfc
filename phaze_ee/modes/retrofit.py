"""Mode retrofit: add exits to a trained network, and prove that its answers are unchanged."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError
from rich.table import Table
from torch import Tensor

from phaze_ee.config.options import Options
from phaze_ee.config.template import RETROFIT_VALUES, render_retrofit
from phaze_ee.data.schema import DataSchema
from phaze_ee.errors import CheckpointError, RunError, UsageError
from phaze_ee.evaluation.answers import predict
from phaze_ee.evaluation.metrics import evaluate_exit
from phaze_ee.exits.answers import Answers
from phaze_ee.models.backbone import Backbone
from phaze_ee.models.build import adopt, build_network
from phaze_ee.models.checkpoint import load_backbone
from phaze_ee.models.checkpoint_content import is_tagger, read
from phaze_ee.models.particle_net.from_weights import NEIGHBOURS, particle_net_arguments
from phaze_ee.models.states import fit_length
from phaze_ee.models.tagger import Tagger
from phaze_ee.models.wrapper_check import are_alike, as_weaver
from phaze_ee.modes import train
from phaze_ee.modes.console import counted, say, say_in_columns, show
from phaze_ee.modes.jets import shares_validation_files, validation_jets
from phaze_ee.modes.new_project import create_project
from phaze_ee.modes.session import Session
from phaze_ee.names import exit_title
from phaze_ee.tables.style import empty_table, with_error
from phaze_ee.workspace import PACKAGE_ROOT, find_file

_WEAVER_JETS = 64  # few, because weaver's form takes gigabytes for many padded jets


def show_proof(session: Session) -> None:
    """Compare the best model with ``c.init_from`` on the validation jets, and print the result.

    Raises:
        RunError: an answer of the full model, or a tensor of its backbone, is not the same bit for bit.
    """
    schema, tagger = session.model.schema, session.model.tagger
    original, weaver = _original(session, schema)
    best = _predict(session, schema, tagger)
    before = _predict(session, schema, Tagger(original, [], targets=tagger.targets).eval())
    tensors = _check_tensors(tagger.architecture, original)
    different = int((_full_model(best) != _full_model(before)).any(axis=1).sum())
    if different:
        raise RunError(
            f"the full model of {session.project.best_model} gives other answers than {session.options.init_from} for "
            f"{different} of {len(best)} validation jets; do not use it, and report this"
        )
    show(_table(session, best))
    say_in_columns(
        f"Verified: on {len(best):,} validation jets the full model answers bit for bit as {session.options.init_from} "
        f"does, and its {tensors} tensors are the same."
    )
    if weaver is None:
        return
    say_in_columns(
        f"The logits of weaver's own module differ by {weaver.median():.1e} (median of {len(weaver)} jets) and at most "
        f"{weaver.max():.1e}: this is rounding, which can also change which particles are nearest."
    )


def _original(session: Session, schema: DataSchema) -> tuple[Backbone[Any], Tensor | None]:
    """Return a backbone with the weights of the checkpoint, and its largest difference to weaver's module per jet.

    No module of weaver takes numbers of the jet itself; then there is no difference.
    """
    options, root = session.options, session.project.root
    assert options.init_from is not None
    network_config = find_file("network_config", options.network_file_for(len(schema.collections)), root)
    model = build_network(options, network_config, schema.weaver).eval()
    backbone = adopt(model, str(network_config)).eval()
    if schema.globals is not None:
        backbone.take_globals(schema.globals.feature_count)
    load_backbone(backbone, find_file("init_from", options.init_from, root))
    if schema.globals is not None:
        return backbone, None
    batches = validation_jets(session, schema, _WEAVER_JETS)
    jets = next(iter(batches)).inputs.padded()
    if not jets.more:
        # Weaver cuts a batch to its longest jet too, but only after five calls. An average over slots depends on it.
        jets = fit_length(jets, getattr(backbone, "minimum_length", 1))
    with torch.inference_mode():
        theirs_NK = model(*as_weaver(jets, schema.collections, schema.weaver.input_names))
        ours_NK = Tagger(backbone, []).eval().fastest_form()(jets)[-1]
    if not are_alike(theirs_NK, ours_NK):
        raise RunError(
            f"the full model gives other answers than the network of {network_config} with the weights of "
            f"{options.init_from}; do not use it, and report this"
        )
    return backbone, (theirs_NK - ours_NK).abs().amax(dim=1)


def _predict(session: Session, schema: DataSchema, tagger: Tagger) -> Answers:
    batches = counted(validation_jets(session, schema))
    return predict(tagger, batches, schema.class_names, session.device, targets=tuple(schema.targets))


def _full_model(answers: Answers) -> npt.NDArray[np.floating[Any]]:
    """Return the logits of the full model, and beside them what it predicts for targets."""
    values = [] if answers.predictions is None else [answers.predictions.value_ENR[-1]]
    return np.concatenate([answers.logits_ENK[-1], *values], axis=1)


def _check_tensors(backbone: Backbone[Any], original: Backbone[Any]) -> int:
    before = {name: value.cpu() for name, value in original.state_dict().items()}
    changed = [name for name, value in backbone.state_dict().items() if not torch.equal(value.cpu(), before[name])]
    if changed:
        raise RunError(
            f"the training changed {changed[0]} of the frozen backbone; do not use the model, and report this"
        )
    return len(before)


def _table(session: Session, answers: Answers) -> Table:
    kept = ", those for calibrate too" if shares_validation_files(session) else ""  # the table of train has the others
    title = f"{session.project}: all {len(answers):,} validation jets{kept}"
    table = empty_table(title, ["accuracy", "loss", "of full"])
    macs_E = answers.costs.all_heads_EN.mean(axis=1)
    share_E = (macs_E / macs_E[-1]).tolist()
    for name, share, logits_NK in zip(answers.exit_names, share_E, answers.logits_ENK, strict=True):
        judged = evaluate_exit(logits_NK, answers.label_N, answers.class_names, None)
        accuracy = with_error(judged.accuracy, judged.accuracy_error)
        table.add_row(exit_title(name), accuracy, f"{judged.loss:.4f}", f"{100 * share:.2f} %")
    return table


# Data configurations of the published JetClass networks, by the number of features of a particle.
_DATA_CONFIGS = {
    7: "data_configs/JetClass_ParT_kin.yaml",
    13: "data_configs/JetClass_ParT_kinpid.yaml",
    17: "data_configs/JetClass_ParT_full.yaml",
}
# Options in a checkpoint of ours that describe its network and its inputs.
_OWN_OPTIONS = (
    "data_config", "model_name", "network_config", "network_options",
    "conv_params", "fc_params", "use_fusion", "use_fts_bn", "use_counts", "exit_stages",
)  # fmt: skip
_MOST_EXITS = 3
_PACKAGE_NETWORKS = (PACKAGE_ROOT / "network_configs", PACKAGE_ROOT.parent / "network_configs")


def run(session: Session) -> None:
    """Train exits on the frozen network of ``--checkpoint``. The project of ``-p`` is created if it does not exist."""
    project, checkpoint = session.project, session.request.checkpoint
    if checkpoint is None and not project.config.is_file():
        raise UsageError(
            f"no project {project} ({project.config} does not exist); mode 'retrofit' creates it with --checkpoint FILE"
        )
    session = session.with_flags(freeze_backbone=True)
    if checkpoint is not None:
        path = find_file("--checkpoint", str(checkpoint), project.root).resolve()
        session = session.with_flags(init_from=str(path))
        if project.config.is_file():
            _check_network(session, path)
        else:
            _create(session, path)
    if session.options.init_from is None:
        raise UsageError(f"mode 'retrofit' needs --checkpoint FILE, or c.init_from in {project.config}")
    train.run(session)
    show_proof(session)
    say(f"Next: phaze_ee -m chain -p {project.workspace} {project.name} -o calibrate_evaluate_benchmark_plot")


def _create(session: Session, path: Path) -> None:
    """Create the project, after checking that the network takes the weights of ``path``."""
    network = {**network_options(path), "init_from": str(path)}
    try:
        options = Options.model_validate({**RETROFIT_VALUES, **network})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name, reason = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        raise CheckpointError(
            f"{path} holds an option that cannot be used, {name}: {reason}; create a project with -m new_project, "
            "describe the network there, set init_from, and run retrofit again"
        ) from error
    schema = DataSchema.load(find_file("data_config", options.data_config, None))
    session.with_options(options).build(schema)
    project = create_project(session.project, partial(render_retrofit, network=network))
    say(f"Created project {project} for the network of {path}")
    say_in_columns(
        f"Note: the exits are trained on the 3,600 bundled jets. Set train_files, val_files and test_files in "
        f"{project.config} to your own jets, and run retrofit again"
    )
    if not is_tagger(read(path)[0]):
        say_in_columns(
            "Note: weights of weaver do not tell how many neighbours a block has, whether padding is averaged and "
            f"how inputs are scaled. {NEIGHBOURS}, no and {options.data_config} are those of the published networks. "
            "If yours was trained otherwise, correct conv_params, use_counts and data_config there; no check notices it"
        )


def _check_network(session: Session, path: Path) -> None:
    """Raise CheckpointError if the network of an existing project does not take the weights of ``path``."""
    read(path)  # a file that is no checkpoint is an error of its own
    try:
        session.build(session.schema)
    except CheckpointError as error:
        raise CheckpointError(
            f"project {session.project} exists and has another network than {path}; choose a new name, or delete the "
            f"project ({error})"
        ) from error


def _check_in_package(path: Path, network_config: object) -> None:
    """Refuse a network file that a checkpoint names, unless it is one of the package: a network file is a program."""
    found = find_file("network_config", str(network_config), None).resolve()
    if not any(found.is_relative_to(folder.resolve()) for folder in _PACKAGE_NETWORKS):
        raise CheckpointError(
            f"{path} was made with the network file {network_config}, which is not one of the package; a checkpoint "
            "does not make a Python file run: create a project with -m new_project, set network_config and init_from "
            "there, and run retrofit again"
        )


def network_options(path: Path) -> dict[str, Any]:
    """Return the options that rebuild the network of a checkpoint, and a data configuration that fits it.

    Raises:
        CheckpointError: it cannot be read, its network cannot be recognised, or it names a network file that is not one
            of the package.
    """
    content, _ = read(path)
    if is_tagger(content):
        own = content.get("options", {})
        if (file := own.get("network_config")) is not None:
            _check_in_package(path, file)
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
