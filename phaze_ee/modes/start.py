"""The data configuration before a training: the YAML file, and what ``c.init_from`` says of its inputs."""

from typing import Any

from phaze_ee.data.schema import DataSchema
from phaze_ee.data.selections import JetChoice, for_training
from phaze_ee.data.starting import as_trained, other_standardisation
from phaze_ee.models.backbone import Backbone
from phaze_ee.models.checkpoint_content import is_tagger, read, read_tagger
from phaze_ee.models.layers_by_name import is_in
from phaze_ee.modes.session import Session
from phaze_ee.workspace import find_file


def starting_schema(session: Session) -> DataSchema:
    """Return the data configuration as its YAML file has it, with the standardisation of the weights to start from.

    Raises:
        UsageError: ``c.init_from`` does not exist.
        CheckpointError: it cannot be used, or its classes or inputs have another order.
        DataError: a data configuration is wrong.
    """
    options, origin = _start(session)
    if options is None:
        return session.schema
    return as_trained(session.schema, options, origin, same_classes=not session.options.fresh_layers)


def check_kept_classes(session: Session, backbone: Backbone[Any]) -> None:
    """Refuse ``c.init_from`` if its layer for the classes is kept, and these have another order now.

    Raises:
        CheckpointError: so it is.
    """
    fresh, layer = session.options.fresh_layers, backbone.class_layer
    options, origin = _start(session)
    if fresh and options is not None and (layer is None or not is_in(layer, fresh)):
        as_trained(session.schema, options, origin)


def initial_schema(session: Session) -> DataSchema:
    """Return the data configuration of the weights to start from; what it does not say is computed from the jets.

    Raises:
        UsageError, CheckpointError, DataError: as for :func:`starting_schema`, and for ``c.train_files``.
    """
    schema = starting_schema(session)
    if not schema.needs_standardisation:
        return schema
    return schema.resolve(session.files("train_files"), for_training(schema, jet_choice(session)))


def jet_choice(session: Session) -> JetChoice:
    """Return what the configuration says of the jets of each purpose.

    Raises:
        DataError: an expression is wrong or refused.
    """
    return JetChoice.of(session.options.model_dump())


def start_notes(session: Session) -> tuple[str, ...]:
    """Return what a reader of results should know of the inputs and targets of ``c.init_from``."""
    schema, (options, origin) = session.schema, _start(session)
    if not origin:
        return ()
    if options is not None:
        other = other_standardisation(schema, options, origin)
        return () if other is None else (f"init_from was trained otherwise: {other}",)
    if schema.needs_input_scales:
        return (
            "weights of weaver do not tell the standardisation of their inputs, which is computed from train_files "
            "here; set data_config to the .auto.yaml that weaver wrote in their training",
        )
    return ()


def _start(session: Session) -> tuple[dict[str, Any] | None, str]:
    """Return the data configuration in ``c.init_from``, and its path; None: weaver wrote it, or it is not set."""
    if session.options.init_from is None:
        return None, ""
    path = find_file("init_from", session.options.init_from, session.project.root)
    if not is_tagger(read(path)[0]):
        return None, str(path)
    return read_tagger(path)[0]["data_options"], str(path)
