"""Whether classes that a configuration names are those of the data configuration."""

from phaze_ee.data.labels import label_variables
from phaze_ee.data.schema import DataSchema
from phaze_ee.data.table import check_branches
from phaze_ee.errors import UsageError
from phaze_ee.modes.session import Session
from phaze_ee.names import class_title


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
