"""The classes of a project: how many there are, and whether those that a configuration names are among them."""

from functools import partial
from pathlib import Path

from phaze_ee.config.options import NetworkOptions
from phaze_ee.data.labels import label_variables
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.table import check_branches
from phaze_ee.data.weaver_yaml import read_options
from phaze_ee.errors import UsageError
from phaze_ee.modes.session import Session
from phaze_ee.names import class_title
from phaze_ee.workspace import find_file


def class_count(session: Session, path: Path) -> int | None:
    """Return the number of classes of a data YAML whose label is the number of the class.

    It is ``c.num_classes``, else what the network file sets. None: ``labels.names`` says it, or nothing does.
    """
    options = session.options
    if options.num_classes is not None:
        return options.num_classes
    network_file = find_file("network_config", options.network_file, session.project.root)
    return unnamed_classes(options, network_file, path, trusted=options.trust_expressions)


def unnamed_classes(
    options: NetworkOptions, network_file: Path, data_config: Path, *, trusted: bool = False
) -> int | None:
    """Return the number of classes that a network file sets; None: ``labels.names`` says it, or it follows the data.

    Raises:
        UsageError: the file builds no network that is known.
        DataError: the data configuration is wrong.
    """
    from phaze_ee.models.build import adopt, build_network

    if read_options(data_config)["labels"].get("names") is not None:
        return None
    found = set()
    for count in (2, 3):
        schema = DataSchema.load(data_config, trusted=trusted, class_count=partial(int, count))
        network = build_network(options, network_file, schema.weaver)
        found.add(adopt(network, str(network_file)).num_classes - len(schema.targets))
    return found.pop() if len(found) == 1 else None


def check_labels(session: Session, schema: DataSchema) -> None:
    """Refuse misspelt labels where the configuration names a class that the data configuration does not have.

    A label that the first training file lacks is the misspelt one. Otherwise, or without such files, it is the name in
    the configuration, for which other checks have a message.

    Raises:
        DataError: the first training file lacks a label.
    """
    known = {*schema.class_names, *map(class_title, schema.class_names), None}
    if known.issuperset((session.options.background, session.options.signal)):
        return
    try:
        first = session.files("train_files")[0]
    except UsageError:  # predictions need no training files
        return
    check_branches(schema.weaver, first, label_variables(schema.labels))
