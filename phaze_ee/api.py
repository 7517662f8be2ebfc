"""From a name or a file to a tagger that answers, for use in Python."""

from pathlib import Path

from phaze_ee.config.options import NetworkOptions
from phaze_ee.data.schema import DataSchema
from phaze_ee.errors import UsageError
from phaze_ee.models.build import build_tagger
from phaze_ee.models.checkpoint import load_checkpoint, load_weights
from phaze_ee.models.tagger import Tagger
from phaze_ee.workspace import existing_project, find_file


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
    if Path(source).suffix == ".pt":
        return load_checkpoint(Path(source)).tagger
    parts = Path(source).parts
    if len(parts) != 2:
        raise UsageError(f"cannot load {str(source)!r}: give 'WORKSPACE/PROJECT' or the path of a checkpoint (.pt)")
    return load_checkpoint(existing_project(*parts).best_model).tagger


def _load_weaver(checkpoint: Path, data_config: str, network_config: str) -> Tagger:
    schema = DataSchema.load(find_file("data_config", data_config, None))
    options = NetworkOptions(exit_stages=[])
    tagger = build_tagger(options, find_file("network_config", network_config, None), schema.weaver)
    load_weights(tagger, checkpoint)
    return tagger.eval()
