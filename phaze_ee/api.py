"""From a name or a file to a tagger that answers, for use in Python."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from phaze_ee.config.options import NetworkOptions
from phaze_ee.data.files import expand_patterns
from phaze_ee.data.loaders import evaluation_loader
from phaze_ee.data.schema import DataSchema
from phaze_ee.errors import UsageError
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.exits.policy_file import ExitPolicyFile
from phaze_ee.models.build import build_tagger
from phaze_ee.models.checkpoint import load_checkpoint, load_weights, weights_hash
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetBatch
from phaze_ee.workspace import Project, existing_project, find_file


def load(
    source: str | Path,
    *,
    data_config: str | Path | None = None,
    network_config: str | Path = "network_configs/ParticleNet_JetClass.py",
) -> Tagger:
    """Return a trained tagger, on the CPU and in evaluation mode.

    Args:
        source: a project as ``"WORKSPACE/PROJECT"``, whose best model is taken; or a checkpoint of ours; or, with
            ``data_config``, a checkpoint that weaver wrote, which has no exits.
        data_config: the weaver data YAML that a weaver checkpoint was trained with.
        network_config: the weaver network file of a weaver checkpoint, with its own architecture.

    Raises:
        UsageError: there is no such project or file.
        CheckpointError: the checkpoint is missing or unreadable, or is of another architecture.
        DataError: the data configuration is wrong.
    """
    if data_config is not None:
        return _load_weaver(Path(source), str(data_config), str(network_config))
    return load_checkpoint(_checkpoint_of(source)).tagger


def load_policy(project: str) -> ThresholdPolicy:
    """Return the exit policy that mode calibrate wrote for the best model of ``"WORKSPACE/PROJECT"``.

    Raises:
        UsageError: there is no such project or policy, or the policy belongs to another model.
    """
    found = _project(project)
    return ExitPolicyFile.load(found.exit_policy, weights_hash(found.best_model)).policy()


def read_jets(
    source: str | Path, files: Sequence[str | Path], *, batch_size: int = 1000, labelled: bool = True
) -> Iterable[JetBatch]:
    """Return the jets of files as the tagger of a project or a checkpoint takes them, every jet once and in order.

    Args:
        source: as for :func:`load`, without weaver's checkpoints.
        files: paths or glob patterns, looked up as those of a configuration.
        batch_size: jets per batch.
        labelled: whether the files tell the classes; otherwise ``label_N`` is -1.

    Raises:
        UsageError: there is no such project or file.
        CheckpointError: the checkpoint is missing or unreadable.
        DataError: a file cannot be used (also while iterating).
    """
    checkpoint = _checkpoint_of(source)
    schema = DataSchema.from_options(load_checkpoint(checkpoint).data_options, str(checkpoint))
    paths = expand_patterns("files", [str(file) for file in files], None)
    return evaluation_loader(schema, paths, batch_size=batch_size, labelled=labelled)


def _checkpoint_of(source: str | Path) -> Path:
    return Path(source) if Path(source).suffix == ".pt" else _project(source).best_model


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
