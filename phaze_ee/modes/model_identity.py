"""Which weights a result was made with."""

from phaze_ee.models import checkpoint
from phaze_ee.modes.inputs import Setup
from phaze_ee.workspace import find_file


def weights_hash(setup: Setup) -> str | None:
    """Return the SHA-256 of the file that ``load_trained`` takes weights from; None where there is none."""
    path = setup.project.best_model
    if path.is_file():
        return checkpoint.weights_hash(path)
    if setup.options.init_from is None:
        return None
    return checkpoint.weights_hash(find_file("init_from", setup.options.init_from, setup.project.root))
