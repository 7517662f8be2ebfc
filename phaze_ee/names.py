"""Names of exits, and how figures and tables write names. This module imports nothing heavy."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Literal

ExitStage = int | Literal["input"]
FULL_MODEL = "full_model"
POLICY = "policy"  # the policy among the exits, in figures and tables
MULTIPLICITY = "jet_nparticles"
CROSS_ENTROPY = "Cross-entropy"  # of figures
_OBSERVABLES = {
    "jet_pt": "$p_T$ (GeV)",
    "jet_eta": "η",
    MULTIPLICITY: "Particles",
    "jet_sdmass": "Soft-drop mass (GeV)",
}
_NAMED_SHARES = 3
_OOD_SCORES = {"max_probability": "−max p"}


def exit_names(exit_count: int) -> tuple[str, ...]:
    """Return the names of ``exit_count`` exits in results: ``exit_0``, ``exit_1`` …, and ``full_model`` last."""
    return (*(f"exit_{index}" for index in range(exit_count - 1)), FULL_MODEL)


def quantity(number: int, noun: str) -> str:
    """Return a number with its noun, ``1 file``, ``2 files`` or ``2 batches``."""
    plural = f"{noun}es" if noun.endswith(("nch", "tch")) else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like a name, for a hint in a message; None if none is like it.

    Upper and lower case do not count.
    """
    names = {one.lower(): one for one in known}
    return next((names[one] for one in get_close_matches(name.lower(), names, n=1)), None)


def short(value: object) -> str:
    """Return a number with at most four digits, and anything else as text."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def brief(text: str, most: int = 10) -> str:
    """Return a text with at most this many characters; the middle of a longer one is replaced by an ellipsis."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[len(text) - (most - 1) // 2 :]}"


def class_title(name: str) -> str:
    """Return ``label_Hbb`` as ``Hbb``."""
    return name.removeprefix("label_")


def shares_title(shares: Mapping[str, float], most: int = _NAMED_SHARES) -> str:
    """Return shares of classes, the largest first, such as ``99.9 % QCD, 0.1 % Hbb``."""
    named = sorted(shares.items(), key=lambda item: -item[1])[:most]
    more = ", …" if len(named) < len(shares) and most > 1 else ""
    return ", ".join(f"{100 * share:.4g} % {brief(class_title(name), 12)}" for name, share in named) + more


def exit_title(name: str) -> str:
    """Return ``exit_0`` as ``exit 0``."""
    return name.replace("_", " ")


def observable_title(name: str) -> str:
    """Return the label of an axis with its unit, for ``jet_pt`` and the like; other names unchanged."""
    return _OBSERVABLES.get(name, name)


def ood_score_title(name: str) -> str:
    """Return ``max_probability`` as ``−max p``, and other names with spaces."""
    return _OOD_SCORES.get(name, name.replace("_", " "))
