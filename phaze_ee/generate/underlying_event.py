"""A library of underlying events, overlaid where multiparton interactions are switched off for speed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from phaze_ee.atomic import replacing
from phaze_ee.generate.columns import Floats, Integers
from phaze_ee.generate.events import MAXIMUM_SEED, Record, next_batch, pythia, visible_particles
from phaze_ee.generate.processes import Z_BOSON
from phaze_ee.generate.propagation import Particles

NO_MULTIPARTON_INTERACTIONS = ("PartonLevel:MPI = off",)
LIBRARY_EVENTS = 400
# A Z boson with little transverse momentum has little radiation; the rest is multiparton interactions and remnants.
_MAXIMUM_Z_PT = 5.0
_INVISIBLE_Z = (
    "WeakSingleBoson:ffbar2gmZ = on",
    "WeakZ0:gmZmode = 2",
    "PhaseSpace:mHatMin = 80",
    "23:onMode = off",
    "23:onIfAny = 12 14 16",
)


@dataclass(frozen=True)
class Library:
    """Underlying events: ``particles.event`` is the index from 0, ``counts`` the number of particles per event."""

    particles: Particles
    counts: Integers

    def overlay(self, events: int, generator: np.random.Generator) -> Particles:
        """Draw a library event for each of ``events`` events, randomly rotated about the beam and mirrored in z."""
        chosen = generator.integers(len(self.counts), size=events)
        counts = self.counts[chosen]
        event = np.repeat(np.arange(events), counts)
        first = np.cumsum(self.counts) - self.counts
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        particles = self.particles[first[chosen][event] + within]
        angle = generator.uniform(0.0, 2 * np.pi, events)[event]
        side = generator.choice([-1.0, 1.0], events)[event]
        px, py = _rotate(particles.px, particles.py, angle)
        x, y = _rotate(particles.x, particles.y, angle)
        return Particles(
            event, particles.pdg_id, px, py, side * particles.pz, particles.energy, x, y, side * particles.z
        )

    def save(self, path: Path) -> None:
        """Write the library so that other processes can load it."""
        with replacing(path) as temporary:
            np.savez(temporary, **vars(self.particles), counts=self.counts)

    @classmethod
    def load(cls, path: Path) -> "Library":
        """Read a library that :meth:`save` wrote."""
        with np.load(path) as stored:
            return cls(Particles(**{name: stored[name] for name in Particles.names()}), stored["counts"])


def build_library(seed: np.random.SeedSequence, events: int, more_settings: tuple[str, ...] = ()) -> Library:
    """Collect underlying events from Z production with a transverse momentum of the Z below 5 GeV."""
    first = int(np.random.default_rng(seed).integers(1, MAXIMUM_SEED))
    instance = pythia((*_INVISIBLE_Z, *more_settings), first)
    parts: list[Particles] = []
    collected = 0
    while collected < events:
        quiet = _quiet_events(next_batch(instance, 100))
        parts.append(Particles(**{**vars(quiet), "event": quiet.event + collected}))
        collected = int(parts[-1].event.max(initial=collected - 1)) + 1
    particles = Particles.concatenate(parts)
    particles = particles[particles.event < events]
    return Library(particles, np.bincount(particles.event, minlength=events))


def _quiet_events(record: Record) -> Particles:
    """Return the visible particles of the events with a soft Z, numbered from 0."""
    bosons = np.flatnonzero((record.pdg_id == Z_BOSON) & (np.roll(record.pdg_id, -1) != Z_BOSON))
    last_boson = dict(zip(record.event[bosons], bosons, strict=True))
    rows = np.array(list(last_boson.values()))
    soft = np.hypot(record.px[rows], record.py[rows]) < _MAXIMUM_Z_PT
    quiet = np.array(list(last_boson))[soft]
    particles = visible_particles(record)
    particles = particles[np.isin(particles.event, quiet)]
    return Particles(**{**vars(particles), "event": np.searchsorted(quiet, particles.event)})


def _rotate(x: Floats, y: Floats, angle: Floats) -> tuple[Floats, Floats]:
    cosine, sine = np.cos(angle), np.sin(angle)
    return x * cosine - y * sine, x * sine + y * cosine
