"""The ten classes of JetClass: label, Pythia8 process, and the decay that a jet must contain.

Source of the classes and of their truth codes: H. Qu, C. Li, S. Qian, arXiv:2202.03772, and the authors' ntuple maker
(github.com/jet-universe/jetclass_generation). Jets of a class come from production together with a Z boson that decays
to neutrinos (top quarks: in pairs), so that the rest of the event adds nothing to the jet.
"""

from dataclasses import dataclass, field

HIGGS, Z_BOSON, W_BOSON, TOP, GLUON, BOTTOM, CHARM = 25, 23, 24, 6, 21, 5, 4
ELECTRON, MUON = 11, 13
NEUTRINOS = (12, 14, 16)
LABELS = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")

_QUARKS = "1 2 3 4 5"
_INVISIBLE_Z = ("23:onMode = off", "23:onIfAny = 12 14 16")
_HIGGS = ("HiggsSM:ffbar2HZ = on", "25:m0 = 125.0", "25:onMode = off", *_INVISIBLE_Z)
_TOP_PAIRS = ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on", "24:onMode = off")


@dataclass(frozen=True)
class Process:
    """One class of jets.

    Attributes:
        stem: how JetClass names its files.
        label: the branch ``label_<label>`` that is true.
        pythia: Pythia8 settings that select production and decay.
        resonance: PDG code of the particle whose decay products must be in the jet; 0: any jet is accepted.
        partons: number of quarks and gluons of that decay.
        leptons: number of electrons and muons of that decay.
        resonances: number of such decays in every event.
        minimum_boost: transverse momentum, GeV, that a resonance must have after hard radiation.
        minimum_pt_hat: lower cut on the hard process, GeV.
        truth_codes: JetClass's ``aux_truth_match`` by the PDG code of the leg that determines it; 0: no leg.
    """

    stem: str
    label: str
    pythia: tuple[str, ...]
    resonance: int = 0
    partons: int = 2
    leptons: int = 0
    resonances: int = 1
    minimum_boost: float = 430.0
    minimum_pt_hat: float = 300.0
    truth_codes: dict[int, int] = field(default_factory=dict)

    def truth_code(self, legs: tuple[int, ...]) -> int:
        """Return JetClass's code for a decay with these legs (absolute PDG codes).

        The codes of a class differ by its lepton, else by its heaviest quark below the bottom of a top decay.
        """
        deciding = [leg for leg in legs if leg in self.truth_codes]
        return self.truth_codes[max(deciding, default=0)]


def _higgs_to(parton: int, stem: str, label: str, code: int) -> Process:
    return Process(stem, label, (*_HIGGS, f"25:onIfMatch = {parton} {parton}"), HIGGS, truth_codes={0: code})


_ALL = (
    Process(
        "ZJetsToNuNu",
        "QCD",
        ("WeakBosonAndParton:qqbar2gmZg = on", "WeakBosonAndParton:qg2gmZq = on", "WeakZ0:gmZmode = 2", *_INVISIBLE_Z),
        minimum_pt_hat=370.0,
        truth_codes={0: 50},
    ),
    _higgs_to(BOTTOM, "HToBB", "Hbb", 41),
    _higgs_to(CHARM, "HToCC", "Hcc", 42),
    _higgs_to(GLUON, "HToGG", "Hgg", 44),
    Process(
        "HToWW4Q",
        "H4q",
        (*_HIGGS, "25:onIfMatch = 24 24", "24:onMode = off", f"24:onIfAny = {_QUARKS}"),
        HIGGS,
        partons=4,
        truth_codes={0: 45},
    ),
    Process(
        "HToWW2Q1L",
        "Hqql",
        (*_HIGGS, "25:onIfMatch = 24 24", "24:onMode = off", f"24:onIfAny = {_QUARKS} 11 13"),
        HIGGS,
        leptons=1,
        truth_codes={0: 46},
    ),
    Process(
        "ZToQQ",
        "Zqq",
        (
            "WeakDoubleBoson:ffbar2gmZgmZ = on",
            "WeakZ0:gmZmode = 2",
            "23:onMode = off",
            f"23:onIfAny = {_QUARKS} 12 14 16",
        ),
        Z_BOSON,
        truth_codes={0: 33, BOTTOM: 31, CHARM: 32},
    ),
    Process(
        "WToQQ",
        "Wqq",
        ("WeakDoubleBoson:ffbar2ZW = on", "24:onMode = off", f"24:onIfAny = {_QUARKS}", *_INVISIBLE_Z),
        W_BOSON,
        truth_codes={0: 22, CHARM: 21, BOTTOM: 21},
    ),
    Process(
        "TTBar",
        "Tbqq",
        (*_TOP_PAIRS, f"24:onIfAny = {_QUARKS}"),
        TOP,
        partons=3,
        resonances=2,
        truth_codes={0: 12, CHARM: 11},
    ),
    Process(
        "TTBarLep",
        "Tbl",
        (*_TOP_PAIRS, "24:onIfAny = 11 13"),
        TOP,
        partons=1,
        resonances=2,
        leptons=1,
        truth_codes={ELECTRON: 15, MUON: 16},
    ),
)
PROCESSES = {process.stem: process for process in _ALL}
