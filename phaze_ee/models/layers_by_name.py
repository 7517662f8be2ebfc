"""Layers of a network, named as in its checkpoints: ``mod.fc`` is the head of the network, ``heads`` are the exits'."""

from collections.abc import Iterable

from phaze_ee.errors import UsageError
from phaze_ee.names import nearest

_OF_TAGGERS = "backbone."  # in front of the names of weaver in our own checkpoints


def is_in(parameter: str, layers: Iterable[str]) -> bool:
    """Return whether a parameter, by its name in a tagger or in its backbone, belongs to one of some layers."""
    return innermost(parameter, layers) is not None


def innermost(parameter: str, layers: Iterable[str]) -> str | None:
    """Return the most special of the layers that hold a parameter; None: none does."""
    name = parameter.removeprefix(_OF_TAGGERS)
    found = [layer for layer in layers if f"{name}.".startswith(f"{layer}.")]
    return max(found, key=len, default=None)


def check_layers(option: str, layers: Iterable[str], parameters: Iterable[str]) -> None:
    """Refuse names of layers that a network does not have.

    Args:
        option: the option that names them, for the error.
        layers: the layers.
        parameters: the names of all parameters of the network.

    Raises:
        UsageError: none of the parameters is in one of the layers.
    """
    names = [name.removeprefix(_OF_TAGGERS) for name in parameters]
    known = {".".join(name.split(".")[:length]) for name in names for length in range(1, name.count(".") + 2)}
    for layer in layers:
        if layer not in known:
            near = nearest(layer, sorted(known))
            hint = f"did you mean {near!r}?" if near else f"its parts are {', '.join(_parts(names))}"
            raise UsageError(f"{option} names {layer!r}, which the network does not have; {hint}")


def _parts(names: Iterable[str]) -> list[str]:
    """Return the outermost layers, without ``mod``, which holds all of weaver's."""
    shown = {".".join(name.split(".")[: 2 if name.startswith("mod.") else 1]) for name in names}
    return sorted(shown)
