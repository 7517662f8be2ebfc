"""Pythia8 events as flat arrays."""

from dataclasses import dataclass
from typing import Any

import awkward
import numpy as np
import pythia8mc

from phaze_ee.errors import RunError
from phaze_ee.generate.columns import Booleans, Columns, Floats, Integers
from phaze_ee.generate.processes import BOTTOM, ELECTRON, GLUON, MUON, NEUTRINOS, Process
from phaze_ee.generate.propagation import Particles

METRES_PER_MILLIMETRE = 1e-3
# Particles further forward cannot reach a jet of |eta| < 2 or the towers next to it.
_MAXIMUM_ETA = 4.0
_COMMON = (
    "Beams:eCM = 13000",
    "Print:quiet = on",
    "Next:numberCount = 0",
    "Random:setSeed = on",
)
MAXIMUM_SEED = 900_000_000


@dataclass(frozen=True)
class Record(Columns):
    """All entries of a batch of events, in Pythia's order.

    Attributes:
        event: index within the batch.
        first_daughter, last_daughter: rows of this table; the entry itself if it has none.
        final: whether the particle is stable.
        px, py, pz, energy: GeV.  x, y, z: production point, m.
    """

    event: Integers
    pdg_id: Integers
    first_daughter: Integers
    last_daughter: Integers
    final: Booleans
    px: Floats
    py: Floats
    pz: Floats
    energy: Floats
    x: Floats
    y: Floats
    z: Floats

    @property
    def events(self) -> int:
        """Number of events; Pythia8 may fail to generate some of those requested."""
        return int(self.event[-1]) + 1


class Selection(pythia8mc.UserHooks):  # type: ignore[misc]
    """Rejects events without a wanted jet early, before most of their cost is spent.

    The decay is tested after the hard process. The transverse momentum is tested after all radiation above
    ``_JUDGED_AT``. So the hard process can start far below the jets, and no jets are lost at the lower edge of the
    window, while soft events cost little.
    """

    _JUDGED_AT = 15.0

    def __init__(self, process: Process) -> None:
        super().__init__()
        self._process = process

    def canVetoProcessLevel(self) -> bool:
        return True

    def doVetoProcessLevel(self, event: Any) -> bool:
        codes = [event[row].idAbs() for row in range(event.size()) if event[row].isFinal()]
        leptons = sum(code in (ELECTRON, MUON) for code in codes)
        partons = sum(code <= BOTTOM or code == GLUON for code in codes)
        wanted = self._process.resonances
        return (partons, leptons) != (wanted * self._process.partons, wanted * self._process.leptons)

    def canVetoPT(self) -> bool:
        return True

    def scaleVetoPT(self) -> float:
        return self._JUDGED_AT

    def doVetoPT(self, _position: int, event: Any) -> bool:
        outgoing = (event[row] for row in (5, 6))
        return not any(
            particle.idAbs() == self._process.resonance
            and event[particle.iBotCopyId()].pT() > self._process.minimum_boost
            for particle in outgoing
        )


def pythia(settings: tuple[str, ...], seed: int, selection: Selection | None = None) -> Any:
    """Return an initialised Pythia8 instance for proton collisions at 13 TeV.

    Raises:
        RunError: Pythia8 refuses a setting or fails to initialise.
    """
    instance = pythia8mc.Pythia("", False)
    for setting in (*_COMMON, f"Random:seed = {seed}", *settings):
        if not instance.readString(setting):
            raise RunError(f"Pythia8 refuses the setting {setting!r}; install the version that pyproject.toml names")
    if selection is not None:
        instance.setUserHooksPtr(selection)
    if not instance.init():
        raise RunError("Pythia8 failed to initialise; its own messages above say why")
    return instance


def next_batch(instance: Any, events: int) -> Record:
    """Generate ``events`` events, without those that Pythia8 fails to generate."""
    batch = instance.nextBatch(events, "skip").prt
    counts = awkward.to_numpy(awkward.num(batch.id)).astype(np.int64)
    start = np.repeat(np.cumsum(counts) - counts, counts)
    entries = awkward.flatten(batch)
    rows = np.arange(len(start))
    first, last = (awkward.to_numpy(entries[name]).astype(np.int64) for name in ("daughter1", "daughter2"))
    has_daughters = first > 0
    momentum = (awkward.to_numpy(entries.p[name]) for name in ("px", "py", "pz", "e"))
    # Entries without a vertex come from the collision point.
    vertex = (awkward.to_numpy(awkward.fill_none(entries.vProd[name], 0.0)) for name in ("px", "py", "pz"))
    return Record(
        np.repeat(np.arange(len(counts)), counts),
        awkward.to_numpy(entries.id).astype(np.int64),
        np.where(has_daughters, start + first, rows),
        np.where(has_daughters, start + np.maximum(first, last), rows),
        awkward.to_numpy(entries.status) > 0,
        *momentum,
        *(METRES_PER_MILLIMETRE * coordinate for coordinate in vertex),
    )


def visible_particles(record: Record) -> Particles:
    """Return the stable particles that could contribute to a jet in the acceptance."""
    stable = record[record.final & ~np.isin(np.abs(record.pdg_id), NEUTRINOS)]
    particles = Particles(**{name: getattr(stable, name) for name in Particles.names()})
    central = np.abs(particles.pz) < particles.pt * np.sinh(_MAXIMUM_ETA)
    return particles[central]
