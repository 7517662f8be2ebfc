"""The jets of the study: generated in chunks with recorded seeds, or taken from files that lie ready."""

import hashlib
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

import awkward as ak
import numpy as np
import uproot

from benchmarks.drift import Shift, drop_particles, unchanged, write_shifted
from phaze_ee.atomic import replacing_folder
from phaze_ee.errors import UsageError
from phaze_ee.generate.processes import PROCESSES
from phaze_ee.generate.run import RECORD

CHUNK_JETS = 200  # of each class
# Half of the chunks "val" validate, the others calibrate. "reference" and "alpha_s" are of other kinds, and only judge.
CHUNKS = {
    "middle": {"train": 13, "val": 5, "test": 10, "reference": 2, "alpha_s": 2},
    "full": {"train": 30, "val": 10, "test": 20, "reference": 10, "alpha_s": 10},
}
DROPPED_TRACKS = 0.1
TREE = "tree"
# Samples on which nothing is trained or calibrated. All but "test" ask how much an answer depends on the simulation.
JUDGED = ("test", "other_mode", "alpha_s", "tracks")
# Rows of files that lie ready, as shares.
_SHARES = {"train": (0.0, 0.4), "val": (0.4, 0.45), "calibration": (0.45, 0.65), "test": (0.65, 1.0)}


@dataclass(frozen=True)
class Generated:
    """How a sample is generated: chunk i has the seed ``first_seed`` + i."""

    first_seed: int
    mode: str = "fast"
    pythia: tuple[str, ...] = ()


GENERATED = {
    "train": Generated(1000),
    "val": Generated(2000),
    "test": Generated(3000),
    "reference": Generated(4000, "reference"),
    "alpha_s": Generated(5000, pythia=("TimeShower:alphaSvalue = 0.16",)),
}


@dataclass(frozen=True)
class Chunk:
    """A folder with generated jets of all classes."""

    sample: str
    index: int
    folder: Path

    @property
    def done(self) -> bool:
        return (self.folder / RECORD).is_file()

    def make(self) -> None:
        """Generate the jets with the command line, in one process.

        Raises:
            UsageError: it failed; Pythia8 is not installed, for example.
        """
        how = GENERATED[self.sample]
        words = ["-m", "generate", "--jets", str(CHUNK_JETS), "--seed", str(how.first_seed + self.index)]
        words += ["--generator", how.mode, "--workers", "1", "--overwrite", "--output", str(self.folder)]
        words += [word for setting in how.pythia for word in ("--pythia", setting)]
        run = subprocess.run([sys.executable, "-m", "phaze_ee", *words], capture_output=True, text=True, check=False)
        if run.returncode:
            last = (run.stderr.strip().splitlines() or ["it printed nothing"])[-1]
            raise UsageError(f"the jets of {self.folder} could not be generated: {last}")

    @property
    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*.root"))


@dataclass(frozen=True)
class StudyJets:
    """The files of each sample.

    Attributes:
        work: the folder of the study.
        size: small, middle or full.
        ready: folders with files of JetClass's schema, which are divided by rows; empty: all jets are generated.
        chunks: the chunks of each sample.
    """

    work: Path
    size: str
    ready: Sequence[Path] = ()
    chunks: Mapping[str, Sequence[Chunk]] = field(default_factory=dict)

    @classmethod
    def generated(cls, work: Path, size: str) -> "StudyJets":
        """Jets of mode generate: their numbers are those of CHUNKS. The chunks of middle are the first ones of full."""
        return cls(work, size, (), {name: _chunks(work, name, count) for name, count in CHUNKS[size].items()})

    @classmethod
    def small(cls, work: Path, ready: Sequence[Path]) -> "StudyJets":
        """Divide files that lie ready; jets of the fast mode and of another α_s are generated."""
        if not ready:
            raise UsageError("--size small divides jets that lie ready: give their folder with --jets FOLDER")
        return cls(work, "small", ready, {"test": _chunks(work, "test", 2), "alpha_s": _chunks(work, "alpha_s", 2)})

    @property
    def missing(self) -> Iterator[Chunk]:
        """The chunks that are not generated yet, the first of every sample first."""
        every = (chunk for chunks in self.chunks.values() for chunk in chunks)
        yield from (chunk for chunk in sorted(every, key=lambda chunk: chunk.index) if not chunk.done)

    @cached_property
    def files(self) -> dict[str, list[Path]]:
        """The files of every sample; all chunks must be there."""
        files = self._own() if self.ready else self._generated()
        kept = self._derived("tracks", files["test"], partial(drop_particles, share=DROPPED_TRACKS, charged=True))
        return {**files, "tracks": kept}

    def _own(self) -> dict[str, list[Path]]:
        own = [path for folder in self.ready for path in sorted(folder.glob("*.root"))]
        if not own:
            raise UsageError(f"{self.ready[0]} has no *.root; give the folder of generated jets with --jets")
        parts = {name: self._derived(name, own, unchanged, share) for name, share in _SHARES.items()}
        return {**parts, "other_mode": _all_files(self.chunks["test"]), "alpha_s": _all_files(self.chunks["alpha_s"])}

    def _generated(self) -> dict[str, list[Path]]:
        held_out = self.chunks["val"]
        return {
            "train": _all_files(self.chunks["train"]),
            "calibration": _all_files(held_out[0::2]),
            "val": _all_files(held_out[1::2]),
            "test": _all_files(self.chunks["test"]),
            "other_mode": _all_files(self.chunks["reference"]),
            "alpha_s": _all_files(self.chunks["alpha_s"]),
        }

    def _derived(
        self, name: str, files: Sequence[Path], shift: Shift, share: tuple[float, float] = (0.0, 1.0)
    ) -> list[Path]:
        """Return files with changed jets, or with some of the rows; they are written if they are not there."""
        folder = self.work / "jets" / self.size / name
        if not folder.is_dir():
            with replacing_folder(folder) as temporary:
                for number, path in enumerate(files):
                    rows = uproot.open(path)[TREE].num_entries
                    chosen = slice(round(share[0] * rows), round(share[1] * rows))
                    write_shifted(path, temporary / f"{_class_of(path)}_{number:03d}.root", TREE, shift, chosen)
        return sorted(folder.glob("*.root"))

    @cached_property
    def counts(self) -> dict[str, int]:
        """The number of jets of each sample."""
        return {name: sum(uproot.open(path)[TREE].num_entries for path in paths) for name, paths in self.files.items()}

    @cached_property
    def hashes(self) -> dict[str, str]:
        """A hash of the jets of each sample."""
        return {name: jets_hash(paths) for name, paths in self.files.items()}

    @cached_property
    def hash(self) -> str:
        """A hash of all samples."""
        return _hash(f"{name} {digest}".encode() for name, digest in sorted(self.hashes.items()))


def jets_hash(files: Sequence[Path]) -> str:
    """Return a hash of the numbers in files: equal for jets that are generated again, in another folder too.

    The bytes of a ROOT file would not do, since they hold the time at which it was written.
    """
    return _hash(part for path in files for part in _columns(path))


def of_class(files: Sequence[Path], stem: str) -> list[Path]:
    """Return the files of a class, which is how JetClass names its files."""
    return [path for path in files if _class_of(path) == stem]


def _class_of(path: Path) -> str:
    stem = path.stem.rpartition("_")[0]
    if stem not in PROCESSES:
        raise UsageError(f"{path}: the name of a file begins with its class; known: {', '.join(PROCESSES)}")
    return stem


def _columns(path: Path) -> Iterator[bytes]:
    tree = uproot.open(path)[TREE]
    for name in sorted(tree.keys()):
        form, _, buffers = ak.to_buffers(ak.to_packed(tree[name].array()))
        yield f"{path.name} {name} {form.to_json()}".encode()
        yield from (np.ascontiguousarray(buffers[key]).tobytes() for key in sorted(buffers))


def _hash(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()[:16]


def _chunks(work: Path, sample: str, count: int) -> list[Chunk]:
    return [Chunk(sample, index, work / "jets" / sample / f"{index:03d}") for index in range(count)]


def _all_files(chunks: Sequence[Chunk]) -> list[Path]:
    return [path for chunk in chunks for path in chunk.files]
