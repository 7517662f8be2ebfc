"""What a file of predictions was made from; it stands in the file itself, and so is as whole as the file."""

from pathlib import Path
from typing import Self

from phaze_ee.errors import DataError
from phaze_ee.exits.drift import DriftReference
from phaze_ee.exits.event_budget import BudgetReport
from phaze_ee.results import Record


class InputFile(Record):
    """A file of jets as it was when it was read."""

    path: str
    size: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """Return what ``path`` is now.

        Raises:
            DataError: it does not exist.
        """
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"data file {path} does not exist (any more); correct the file list") from error
        return cls(path=str(path.absolute()), size=status.st_size, changed_ns=status.st_mtime_ns)


class Recipe(Record):
    """What predictions depend on besides the jets. Hashes where these are not plain values.

    No ``policy``: the full model. ``monitored``: the reference whose bins were counted in, if there is one.
    """

    model: str | None
    policy: str | None
    data: str
    exit_scores: bool
    monitored: str | None
    event_budget: str | None = None


class Manifest(Record):
    """What a file of predictions was made from, and what is in it.

    ``exits`` counts the jets that left at each exit, the full model last; ``macs`` are those of all jets, and
    ``full_macs`` what the full model would have spent. ``drift`` is there where the file was monitored, ``budget``
    where the jets of an event shared one.
    """

    recipe: Recipe
    input: InputFile
    rows: int
    labelled: bool
    exits: dict[str, int]
    macs: int
    full_macs: int
    drift: DriftReference | None = None
    budget: BudgetReport | None = None

    @property
    def jets(self) -> int:
        return sum(self.exits.values())

    def differences(self, recipe: Recipe, input_file: InputFile) -> list[str]:
        """Return what sets these predictions apart from those that would be made now."""
        names = {
            "model": "another model",
            "policy": "another exit policy",
            "data": "another data config or other observers",
            "exit_scores": "another choice of --exit-scores",
            "monitored": "another choice of --monitor",
            "event_budget": "another budget of events, or other events",
        }
        different = [text for name, text in names.items() if getattr(self.recipe, name) != getattr(recipe, name)]
        return [*different, *(["another input file"] if self.input != input_file else [])]
