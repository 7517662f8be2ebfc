"""Whether the network of a checkpoint and its data configuration fit together."""

from pathlib import Path

from phaze_ee.data.schema import DataSchema
from phaze_ee.errors import CheckpointError
from phaze_ee.models.tagger import Tagger


def check_fit(tagger: Tagger, schema: DataSchema, path: Path) -> None:
    """Refuse a checkpoint whose data configuration does not give what its network reads.

    Raises:
        CheckpointError: so it is.
    """
    network = tagger.backbone
    taken = list(network.collections.values()) or [network.input_channels]
    taken += [network.globals_count] if network.globals_count else []
    own = (" + ".join(map(str, taken)), tagger.class_count, tagger.target_count)
    stored = (" + ".join(str(one.feature_count) for one in schema.inputs), len(schema.class_names), len(schema.targets))
    if stored != own:
        raise CheckpointError(
            f"{path} is a damaged checkpoint: its network reads {own[0]} features and has {own[1]} classes, its data "
            f"config has {stored[0]} and {stored[1]} (targets: {own[2]} and {stored[2]}); give another file"
        )
