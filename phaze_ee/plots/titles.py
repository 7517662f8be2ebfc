"""Names as a reader wants them, in figures and tables. Nothing heavy is imported here."""


def class_title(name: str) -> str:
    """Return ``label_Hbb`` as ``Hbb``."""
    return name.removeprefix("label_")


def exit_title(name: str) -> str:
    """Return ``exit_0`` as ``exit 0``."""
    return name.replace("_", " ")
