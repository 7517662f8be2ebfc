"""Which weights a result was made with."""

import hashlib

from phaze_ee.modes.inputs import Setup
from phaze_ee.workspace import find_file


def weights_hash(setup: Setup) -> str | None:
    """Return the SHA-256 of the file that ``load_trained`` takes weights from; None where there is none."""
    path = setup.project.best_model
    if not path.is_file():
        if setup.options.init_from is None:
            return None
        path = find_file("init_from", setup.options.init_from, setup.project.root)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
