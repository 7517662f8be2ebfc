"""Mode import_weaver: make a project from a command line of weaver."""

from functools import partial
from pathlib import Path
from typing import Any

from phaze_ee.config.load import Configuration
from phaze_ee.config.options import NetworkOptions, Options
from phaze_ee.config.template import render_config
from phaze_ee.config.weaver_command import WeaverCommand, read_command
from phaze_ee.data.files import expand_patterns
from phaze_ee.data.schema import DataSchema
from phaze_ee.errors import UsageError
from phaze_ee.models.build import adopt, build_network, build_tagger
from phaze_ee.models.checkpoint import load_weights
from phaze_ee.modes.classes import unnamed_classes
from phaze_ee.modes.console import say
from phaze_ee.modes.imported_layers import layer_options
from phaze_ee.modes.new_project import check_new, create_project
from phaze_ee.modes.session import Session
from phaze_ee.names import quantity
from phaze_ee.workspace import find_file

_SOURCE = Path("--command")
_MOST_EXITS = 3
_LONGEST_ZERO = 10  # epochs without exits, as the default of zero_epochs
_NOTE = """\
Options marked [weaver] are those of the command of weaver that this project was made from, with weaver's defaults. The
exits are new: see the options after "How the exits are trained"."""


def run(session: Session) -> None:
    """Create the project of ``-p`` from ``--command``.

    Raises:
        UsageError: the command is none of weaver, asks for what cannot be imported, or names files that do not exist;
            no project is made.
    """
    command = session.request.command
    if command is None:
        raise UsageError("mode 'import_weaver' needs --command \"weaver …\", the command in quotes")
    check_new(session.project)
    from weaver.train import parser  # after phaze_ee.models, which spares the import of torch's compiler

    imported = read_command(command, parser)
    values = _with_exits(imported)
    _check(values)
    project = create_project(session.project, partial(render_config, values=values, note=_NOTE, mark="weaver"))
    say(f"Created project {project} from the command of weaver:")
    _report(imported, values)
    say(f"  edit  {project.config}")
    say(f"  run   phaze_ee -m chain -p {project.workspace} {project.name} -o train_calibrate_evaluate_benchmark_plot")


def _with_exits(imported: WeaverCommand) -> dict[str, Any]:
    """Return the options with those of the network that the network file builds, of its layers, and of its exits."""
    options = imported.options
    network, file = _network_and_file(options)
    model = build_network(network, file, _schema(options).weaver)
    backbone = adopt(model, str(file))
    # Those of ParticleNet have options of their own.
    own = NetworkOptions.model_fields if backbone.name == "ParticleNet" else ()
    built = {name: value for name, value in backbone.arguments.items() if name in own}
    stages = ["input", *range(len(backbone.stage_channels) - 1)][:_MOST_EXITS]
    return {
        **options,
        **built,
        **layer_options(imported.layers, model, backbone, _weights(options)),
        "network_options": {name: value for name, value in options["network_options"].items() if name not in built},
        "model_name": backbone.name,
        "exit_stages": stages,
        "beta_max": [1.0],
        "zero_epochs": min(_LONGEST_ZERO, options["epochs"] // 5),
    }


def _network_and_file(options: dict[str, Any]) -> tuple[NetworkOptions, Path]:
    network = NetworkOptions(network_options=options["network_options"])
    return network, find_file("--command: --network-config", options["network_config"], None)


def _schema(options: dict[str, Any]) -> DataSchema:
    path = find_file("--command: --data-config", options["data_config"], None)
    return DataSchema.load(path, class_count=lambda: unnamed_classes(*_network_and_file(options), path))


def _check(values: dict[str, Any]) -> None:
    """Raise UsageError where the new configuration would be refused, or a pattern matches no file."""
    options: Options = Configuration(_SOURCE, values, {}).options()
    tagger = build_tagger(options, Path(values["network_config"]), _schema(values).weaver)
    for name in ("train_files", "val_files", "test_files"):
        expand_patterns(f"--command: {name}", values[name], None)
    if (weights := _weights(values)) is not None:
        load_weights(tagger, weights, options.fresh_layers)


def _weights(options: dict[str, Any]) -> Path | None:
    given = options["init_from"]
    return None if given is None else find_file("--command: --load-model-weights", given, None)


def _report(imported: WeaverCommand, values: dict[str, Any]) -> None:
    say(f"  network   {values['model_name']} of {values['network_config']}, exits after {_stages(values)}")
    say(
        f"  training  {quantity(values['epochs'], 'epoch')}, batches of {values['batch_size']}, {values['optimizer']}, "
        f"lr {values['lr']:g}, {values['lr_schedule']}"
    )
    if not values["val_files"]:
        share = values["validation_share"]
        say(f"  files     the last {100 * share:.4g} % of the rows of each training file validate (no --data-val)")
    say(f"  device    {values['device']}" + (", one process for each GPU (torchrun)" if values["use_ddp"] else ""))
    for option, what in {"fresh_layers": "start afresh", "lr_factors": "have a learning rate of their own"}.items():
        if layers := values.get(option):
            say(f"  layers    {what}: {', '.join(layers)} (c.{option})")
    for flag, reason in imported.left_out.items():
        say(f"  left out  {flag}: {reason}")


def _stages(values: dict[str, Any]) -> str:
    return ", ".join(str(stage) for stage in values["exit_stages"])
