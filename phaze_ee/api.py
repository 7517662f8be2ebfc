"""From a name or a file to a tagger ready for inference, for use in Python."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal

from phaze_ee.config.load import Configuration
from phaze_ee.config.options import NetworkOptions
from phaze_ee.data.files import expand_patterns
from phaze_ee.data.loaders import evaluation_loader
from phaze_ee.data.schema import DataSchema
from phaze_ee.errors import UsageError
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.export import require_onnx
from phaze_ee.models.build import build_tagger
from phaze_ee.models.checkpoint import load_checkpoint, load_weights, stored_data_options
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetBatch
from phaze_ee.user_files import import_plugin
from phaze_ee.workspace import Project, existing_project, file_hash, find_file

_CHECK_BATCH = 500


def load(
    source: str | Path,
    *,
    data_config: str | Path | None = None,
    network_config: str | Path = "network_configs/ParticleNet_JetClass.py",
    plugins: Sequence[str | Path] = (),
    trust: bool = False,
) -> Tagger:
    """Return a trained tagger, on the CPU and in evaluation mode.

    A checkpoint never makes a Python file run. If it needs parts of your own (heads, links, networks), these come from
    ``plugins``, from classes that you have registered, or from the configuration of the project and its ``c.plugins``.

    Args:
        source: a project as ``"WORKSPACE/PROJECT"``, for its best model; or a checkpoint of PHAZE-EE; or, with
            ``data_config``, a checkpoint that weaver wrote, which has no exits.
        data_config: the weaver data YAML with which a weaver checkpoint was trained.
        network_config: the weaver network file of a weaver checkpoint, with its own architecture.
        plugins: Python files that register parts of your own. They are imported first.
        trust: accept parts from a file that has changed since the training.

    Raises:
        UsageError: there is no such project or file, or a plug-in fails.
        CheckpointError: the checkpoint is missing or unreadable, is of another architecture, or needs a part that is
            unknown or has changed.
        DataError: the data configuration is wrong.
    """
    _import_plugins(plugins)
    if data_config is not None:
        return _load_weaver(Path(source), str(data_config), str(network_config))
    if _is_checkpoint(source):
        return _loaded(Path(source), trust)
    project = _project(source)
    return _loaded(project.best_model, trust, lambda: Configuration.read(project.config))


def load_policy(project: str, *, name: str | None = None, plugins: Sequence[str | Path] = ()) -> ThresholdPolicy:
    """Return an exit policy that mode calibrate wrote for the best model of ``"WORKSPACE/PROJECT"``.

    ``repr(policy)`` says its score, thresholds and promise.

    Args:
        project: the project.
        name: the name of the policy; None: the active one.
        plugins: Python files that register a score of your own. They are imported first.

    Raises:
        UsageError: there is no such project or policy, the policy belongs to another model, or a plug-in fails.
    """
    _import_plugins(plugins)
    found = _project(project)
    return ExitPolicyFile.load(found.exit_policy if name is None else found.policy(name), found.model_hash).policy()


def read_jets(
    source: str | Path, files: Sequence[str | Path], *, batch_size: int = 1000, labelled: bool = True
) -> Iterable[JetBatch]:
    """Return the jets of files as inputs for the tagger of a project or checkpoint, every jet once and in order.

    Args:
        source: as in :func:`load`, but not a checkpoint of weaver.
        files: paths or glob patterns, looked up as those of a configuration.
        batch_size: jets per batch.
        labelled: whether the files contain the classes; otherwise ``label_N`` is -1.

    Raises:
        UsageError: there is no such project or file, ``files`` is one text, or the batches have no jets.
        CheckpointError: the checkpoint is missing or unreadable.
        DataError: a file cannot be used (also while iterating).
    """
    if batch_size < 1:
        raise UsageError(f"batch_size = {batch_size} is no number of jets; give 1 or more")
    if isinstance(files, str | Path) or not files:
        raise UsageError(f"files = {files!r} is no list of paths; give for example ['jets/*.root']")
    checkpoint = Path(source) if _is_checkpoint(source) else _project(source).best_model
    schema = DataSchema.from_options(stored_data_options(checkpoint), str(checkpoint))
    paths = expand_patterns("files", [str(file) for file in files], None)
    return evaluation_loader(schema, paths, batch_size=batch_size, labelled=labelled)


def export_onnx(
    source: str | Path,
    folder: str | Path,
    *,
    policy: ThresholdPolicy | Literal["project"] | None = "project",
    files: Sequence[str | Path] = (),
    one_jet: bool = False,
    opset: int | None = None,
    licence: str | None = None,
    plugins: Sequence[str | Path] = (),
) -> Path:
    """Write a trained tagger, with its exits and their thresholds, as one ONNX file with all that goes with it.

    The file is compared with the tagger before anything is written: on the jets of ``files``, and on odd ones.

    Args:
        source: a project as ``"WORKSPACE/PROJECT"``, for its best model; or a checkpoint of PHAZE-EE.
        folder: the folder to write. An older export is replaced only by a complete one.
        policy: decides where jets leave; ``"project"``: the policy of the project, if mode calibrate wrote one;
            None: every jet gets the full model.
        files: paths or glob patterns of jets to check the file on.
        one_jet: write a file for exactly one jet per call.
        opset: the version of the ONNX operators, 15 to 20; None: the one that suits the network.
        licence: of the weights, for the model card.
        plugins: Python files that register parts of your own. They are imported first.

    Returns:
        The folder.

    Raises:
        UsageError: onnx is not installed; there is no such project or file; the policy is of another model; or the
            network, an exit or the policy cannot be written.
        CheckpointError: the checkpoint is missing or unreadable.
        RunError: the file does not answer as the tagger, or cannot be written.
    """
    require_onnx()
    from phaze_ee.export.bundle import Export, checked_policy, write_bundle
    from phaze_ee.export.card import UNSTATED, Origin

    tagger = load(source, plugins=plugins)
    checkpoint = Path(source) if _is_checkpoint(source) else _project(source).best_model
    schema = DataSchema.from_options(stored_data_options(checkpoint), str(checkpoint))
    digest = file_hash(checkpoint) or ""
    promise = None
    if policy == "project":
        path = None if _is_checkpoint(source) else _project(source).exit_policy
        promise = ExitPolicyFile.load(path, digest) if path is not None and path.is_file() else None
        policy = None if promise is None else promise.policy()
    paths = expand_patterns("files", [str(file) for file in files], None)
    jets = evaluation_loader(schema, paths, batch_size=_CHECK_BATCH, labelled=False) if paths else ()
    origin = Origin(checkpoint.name, digest, schema.options, schema.class_names, promise, licence or UNSTATED)
    export = Export(tagger, checked_policy(policy, digest), schema, origin, jets, one_jet, opset)
    write_bundle(Path(folder), export)
    return Path(folder)


def _loaded(path: Path, trust: bool, register_parts: Callable[[], object] | None = None) -> Tagger:
    checkpoint = load_checkpoint(path, trust=trust, register_parts=register_parts)
    checkpoint.tagger.model_hash = checkpoint.hash
    return checkpoint.tagger


def _import_plugins(plugins: Sequence[str | Path]) -> None:
    for plugin in plugins:
        import_plugin(find_file("plugins", str(plugin), None))


def _is_checkpoint(source: str | Path) -> bool:
    return Path(source).suffix == ".pt"


def _project(source: str | Path) -> Project:
    parts = Path(source).parts
    if len(parts) != 2:
        raise UsageError(f"cannot load {str(source)!r}: give 'WORKSPACE/PROJECT' or the path of a checkpoint (.pt)")
    return existing_project(*parts)


def _load_weaver(checkpoint: Path, data_config: str, network_config: str) -> Tagger:
    schema = DataSchema.load(find_file("data_config", data_config, None))
    options = NetworkOptions(exit_stages=[])
    tagger = build_tagger(options, find_file("network_config", network_config, None), schema.weaver)
    load_weights(tagger, checkpoint)
    return tagger.eval()
