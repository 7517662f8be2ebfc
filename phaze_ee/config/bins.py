"""Bins of observables in a configuration and on the command line."""

import itertools
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

_FORM = "give an observable and rising edges, such as jet_pt:500,600,800"


def _rising(edges: list[float]) -> list[float]:
    if len(edges) < 2 or not all(low < high for low, high in itertools.pairwise(edges)):
        written = ", ".join(f"{edge:g}" for edge in edges)
        raise ValueError(f"the edges of bins must be two or more rising numbers, not [{written}]")
    return edges


def _parsed(value: object) -> object:
    """Return bins that are written as ``["jet_pt:500,600,800"]``; anything else as it is."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return value
    bins: dict[str, list[float]] = {}
    for text in value:
        name, _, edges = str(text).rpartition(":")
        try:
            own = [float(edge) for edge in edges.split(",")]
        except ValueError:
            own = []
        if not name or not own:
            raise ValueError(f"{text!r} names no bins; {_FORM}")
        if name in bins:
            raise ValueError(f"{name} has bins twice; {_FORM}")
        bins[name] = own
    return bins


Edges = Annotated[list[float], Field(strict=False), AfterValidator(_rising)]
Bins = Annotated[dict[str, Edges], BeforeValidator(_parsed)]
