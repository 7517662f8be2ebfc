"""The options of a generated sample."""

from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Literal

from phaze_ee.errors import UsageError
from phaze_ee.generate.processes import PROCESSES
from phaze_ee.names import nearest

Mode = Literal["reference", "fast"]


@dataclass(frozen=True)
class GeneratorOptions:
    """Options of :func:`phaze_ee.generate.generate_files`.

    Attributes:
        output: folder of the files.
        jets_per_class: jets of each class.
        classes: file stems as JetClass names them.
        seed: of the whole sample. With the class and the index of the file it determines every jet.
        workers: processes that generate files. The jets do not depend on their number.
        jets_per_file: maximum number of jets per file.
        mode: ``reference`` simulates multiparton interactions; ``fast`` overlays them from a library of events.
        overwrite: replace existing files.
        vertices: write secondary vertices too, which JetClass does not have.
        pythia: more settings of Pythia8, such as "TimeShower:alphaSvalue = 0.16"; they override others.

    Raises:
        UsageError: an option is out of range or names an unknown class.
    """

    output: Path
    jets_per_class: int = 1000
    classes: tuple[str, ...] = field(default_factory=lambda: tuple(PROCESSES))
    seed: int = 1
    workers: int = 1
    jets_per_file: int = 10_000
    mode: Mode = "reference"
    overwrite: bool = False
    vertices: bool = False
    pythia: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("jets_per_class", 1), ("seed", 0), ("workers", 1), ("jets_per_file", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"generate: {name} is {getattr(self, name)}; give a number of at least {least}")
        if self.mode not in ("reference", "fast"):
            raise UsageError(f"generate: unknown mode {self.mode!r}; use 'reference' or 'fast'")
        for stem in self.classes:
            if stem not in PROCESSES:
                near = nearest(stem, PROCESSES)
                hint = f"did you mean {near!r}? Known" if near else "known"
                raise UsageError(f"generate: unknown class {stem!r}; {hint}: {', '.join(PROCESSES)}")
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise UsageError("generate: name at least one class, and each only once")

    @property
    def command(self) -> str:
        """The command that generates the same jets, in a folder of the same name."""
        flags = f"--output {self.output.name} --jets {self.jets_per_class} --seed {self.seed} --generator {self.mode}"
        chosen = "" if self.classes == tuple(PROCESSES) else f" --classes {' '.join(self.classes)}"
        pythia = "".join(f" --pythia {quote(setting)}" for setting in self.pythia)
        return f"phaze_ee -m generate {flags}{chosen}{' --vertices' if self.vertices else ''}{pythia}"


@dataclass(frozen=True)
class Progress:
    """The progress of a generation."""

    jets_done: int
    jets_total: int
