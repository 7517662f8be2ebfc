"""Whether a checkpoint, its data configuration and that of the project fit together."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phaze_ee.config.exit_rules import regime_defaults
from phaze_ee.config.sections import ExitOptions, NetworkOptions, TrainingOptions
from phaze_ee.data.changes import changed_sections
from phaze_ee.data.schema import DataSchema
from phaze_ee.errors import CheckpointError, UsageError
from phaze_ee.models.tagger import Tagger
from phaze_ee.workspace import find_file

if TYPE_CHECKING:
    from phaze_ee.modes.session import Session

# The options of a note: of those on which a training rests (training.run.deciding_options, which imports Lightning),
# the ones that a reader of results misses. The notes on the data configuration say what has changed there.
_TRAINING = (NetworkOptions, ExitOptions, TrainingOptions)
_NOT_NOTED = {"batch_size", "freeze_backbone", "init_from", "network_config", "num_classes", "plugins", "seed", "seeds"}


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


def current_schema(session: "Session") -> DataSchema | None:
    """Return the data configuration of a project as its file has it; None: it is gone, and only a training needs it.

    Raises:
        UsageError, DataError: as :attr:`Session.schema`.
    """
    try:
        find_file("data_config", session.options.data_config, session.project.root)
    except UsageError:
        return None
    return session.schema


def model_notes(
    session: "Session", trained: DataSchema, now: DataSchema | None, options: Mapping[str, Any]
) -> tuple[str, ...]:
    """Return what a reader of results should know of the best model of a project and its data configuration.

    Args:
        session: on the project.
        trained: the data configuration of the model, which is used, with tree and observers of ``now``.
        now: as the file has it; None: there is none any more.
        options: those of the training.
    """
    mode = "retrofit" if options.get("freeze_backbone") else "train"
    remedy = f"{mode} again to use it"
    notes = (
        *_data_config_notes(session.options.data_config, trained, now, remedy),
        *_option_notes(options, _options_now(session, mode), session.project.config, remedy),
    )
    if not session.project.resume_point.is_file():
        return notes
    return (*notes, "the training of this model has not ended: it is the best of the epochs so far")


def _options_now(session: "Session", mode: str) -> dict[str, Any]:
    """Return the options of a note as a mode would train with them now; retrofit freezes the backbone."""
    names = [name for section in _TRAINING for name in inspect.get_annotations(section) if name not in _NOT_NOTED]
    values = session.options.model_dump(mode="json", include=set(names))
    options = {name: values[name] for name in names}
    if mode != "retrofit":
        return options
    given = {**session.configuration.values, **session.request.flags}
    defaults = regime_defaults({**given, "freeze_backbone": True})
    return {**options, **{name: value for name, value in defaults.items() if name not in given}}


def _option_notes(trained: Mapping[str, Any], now: Mapping[str, Any], config: Path, remedy: str) -> tuple[str, ...]:
    # A checkpoint of an earlier version lacks options that it did not have.
    changed = [name for name, value in now.items() if name in trained and trained[name] != value]
    if not changed:
        return ()
    return (f"{config.name} has changed since the training ({', '.join(changed)}): {remedy}",)


def _data_config_notes(name: str, trained: DataSchema, now: DataSchema | None, remedy: str) -> tuple[str, ...]:
    if now is None:
        return (f"data_config {name} does not exist here; the model's own is used",)
    changed = changed_sections(trained, now)
    if not changed:
        return ()
    remedies = [remedy]
    if any(section.endswith("selection") for section in changed):
        remedies.append("choose jets with --extra-selection-test")
    return (
        f"data_config {name} has changed since the training ({', '.join(changed)}), and the model's own is used: "
        f"{', or '.join(remedies)}",
    )
