"""Names as a reader wants them, in figures and tables. Nothing heavy is imported here."""

from typing import Literal

ExitStage = int | Literal["input"]


FULL_MODEL = "full_model"


def exit_names(exit_count: int) -> tuple[str, ...]:
    """Return the names of ``exit_count`` exits as the results use them: ``exit_0`` …, and ``full_model`` last."""
    return (*(f"exit_{index}" for index in range(exit_count - 1)), FULL_MODEL)


_OBSERVABLES = {
    "jet_pt": "$p_T$ (GeV)",
    "jet_eta": "η",
    "jet_nparticles": "Particles",
    "jet_sdmass": "Soft-drop mass (GeV)",
}


_OOD_SCORES = {"max_probability": "−max p"}


def quantity(number: int, noun: str) -> str:
    """Return ``1 file`` or ``2 files``: a number with its noun, which forms the plural with an s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def class_title(name: str) -> str:
    """Return ``label_Hbb`` as ``Hbb``."""
    return name.removeprefix("label_")


def exit_title(name: str) -> str:
    """Return ``exit_0`` as ``exit 0``."""
    return name.replace("_", " ")


def observable_title(name: str) -> str:
    """Return ``jet_pt`` as an axis shows it, with its unit; other names as they are."""
    return _OBSERVABLES.get(name, name)


def ood_score_title(name: str) -> str:
    """Return ``max_probability`` as ``−max p``, and other names with spaces."""
    return _OOD_SCORES.get(name, name.replace("_", " "))
