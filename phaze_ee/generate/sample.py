"""Jets of one class, from the random seed to arrays."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from phaze_ee.generate.columns import Integers
from phaze_ee.generate.detector import Candidates, detect
from phaze_ee.generate.events import MAXIMUM_SEED, Record, Selection, next_batch, pythia, visible_particles
from phaze_ee.generate.jets import Jets, Substructure, cluster, measure_substructure
from phaze_ee.generate.processes import Process
from phaze_ee.generate.propagation import Particles
from phaze_ee.generate.truth import Truth, match
from phaze_ee.generate.underlying_event import NO_MULTIPARTON_INTERACTIONS, Library
from phaze_ee.generate.vertices import Vertices, find_vertices, vertices_of_jets

EVENTS_PER_BATCH = 100


@dataclass(frozen=True)
class Sample:
    """Jets, with their constituents and secondary vertices in the order of the jets.

    ``sizes`` and ``vertex_counts`` are the numbers of constituents and of vertices per jet.
    """

    jets: Jets
    truth: Truth
    substructure: Substructure
    sizes: Integers
    constituents: Candidates
    vertex_counts: Integers
    vertices: Vertices

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        return cls(
            Jets.concatenate([part.jets for part in parts]),
            Truth.concatenate([part.truth for part in parts]),
            Substructure.concatenate([part.substructure for part in parts]),
            np.concatenate([part.sizes for part in parts]),
            Candidates.concatenate([part.constituents for part in parts]),
            np.concatenate([part.vertex_counts for part in parts]),
            Vertices.concatenate([part.vertices for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.sizes)

    def first(self, jets: int) -> "Sample":
        """Return the first ``jets`` jets."""
        return Sample(
            self.jets[:jets],
            self.truth[:jets],
            self.substructure[:jets],
            self.sizes[:jets],
            self.constituents[: self.sizes[:jets].sum()],
            self.vertex_counts[:jets],
            self.vertices[: self.vertex_counts[:jets].sum()],
        )


def generate_sample(
    process: Process,
    jets: int,
    seed: np.random.SeedSequence,
    library: Library | None,
    report: Callable[[int], None],
    more_settings: tuple[str, ...] = (),
) -> Sample:
    """Generate jets of one class.

    Args:
        process: the class.
        jets: number of jets.
        seed: determines the sample, together with the versions of Pythia8, FastJet and numpy.
        library: underlying events to overlay instead of simulating multiparton interactions.
        report: called after each batch of events with the number of new jets.
        more_settings: of Pythia8; they override those of the process.
    """
    parts: list[Sample] = []
    missing = jets
    for part in _batches(process, seed, library, more_settings):
        parts.append(part)
        report(min(len(part), missing))
        missing -= len(part)
        if missing <= 0:
            break
    return Sample.concatenate(parts).first(jets)


def _batches(
    process: Process, seed: np.random.SeedSequence, library: Library | None, more_settings: tuple[str, ...]
) -> Iterator[Sample]:
    generator = np.random.default_rng(seed)
    vertex_generator = np.random.default_rng(seed.spawn(1)[0])  # of its own: vertices change nothing else
    settings = (*process.pythia, f"PhaseSpace:pTHatMin = {process.minimum_pt_hat}")
    if library is not None:
        settings = (*settings, *NO_MULTIPARTON_INTERACTIONS)
    selection = Selection(process) if process.resonance else None
    instance = pythia((*settings, *more_settings), int(generator.integers(1, MAXIMUM_SEED)), selection)
    while True:
        record = next_batch(instance, EVENTS_PER_BATCH)
        particles = visible_particles(record)
        vertices = find_vertices(particles, vertex_generator)
        if library is not None:
            particles = Particles.concatenate([particles, library.overlay(record.events, generator)])
        part = _jets_of(process, record, particles, vertices, generator)
        if part is not None:
            yield part


def _jets_of(
    process: Process, record: Record, particles: Particles, vertices: Vertices, generator: np.random.Generator
) -> Sample | None:
    jets, constituents, sizes = cluster(detect(particles, generator), record.events)
    matched, truth = match(process, record, jets)
    if not matched.any():
        return None
    constituents = constituents[np.repeat(matched, sizes)]
    sizes = sizes[matched]
    jets = jets[matched]
    own_vertices, vertex_counts = vertices_of_jets(vertices, jets)
    substructure = measure_substructure(constituents, sizes)
    return Sample(jets, truth, substructure, sizes, constituents, vertex_counts, own_vertices)
