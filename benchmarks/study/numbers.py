"""Means and differences over seeds as plain values, and how tables of the page show them."""

import base64
import zlib
from collections.abc import Mapping, Sequence
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from phaze_ee.paired import Difference, significant

TITLES = {"test": "test jets", "other_mode": "other mode", "alpha_s": "α_s = 0.16", "tracks": "10 % of tracks lost"}
Rights = npt.NDArray[np.bool_] | npt.NDArray[np.float64]


def over_seeds(values: Sequence[float]) -> dict[str, Any]:
    """Return the mean and the standard deviation over seeds; the latter is None with one seed."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "spread": spread, "seeds": len(values)}


def difference(first_SN: Rights, second_TN: Rights, *, same_seeds: bool = False) -> dict[str, Any]:
    """Return the difference of two methods on the same jets, over jets and seeds, as plain values.

    Its ``error`` is √(e² + σ²/S) with the paired error e of the jets, the spread σ of the difference over seeds, and S
    seeds: see :meth:`phaze_ee.paired.Difference.over_seeds`.
    """
    found = Difference.over_seeds(first_SN, second_TN, same_seeds=same_seeds)
    seeds = min(len(first_SN), len(second_TN))
    error = sqrt(found.jets_error**2 + (found.spread or 0.0) ** 2 / seeds)
    return {**found._asdict(), "error": error, "seeds": seeds}


def mark_significant(differences: Sequence[dict[str, Any]]) -> None:
    """Set ``significant`` in each of the differences that are shown together (Holm, 5 %); never with one seed alone."""
    for found, sure in zip(differences, significant([found["p_value"] for found in differences]), strict=True):
        found["significant"] = sure and found["seeds"] > 1


def rights(records: Sequence[Mapping[str, Any]], sample: str) -> npt.NDArray[np.bool_]:
    """Return which jets the exits, the full model and the policy of each record have right, shape (S, E + 1, N)."""
    samples = [record["result"]["samples"][sample] for record in records]
    return np.stack([unpack_rights(found["right"], len(found["accuracy"])) for found in samples])


def pack_rights(right_RN: npt.NDArray[np.bool_]) -> str:
    """Return which jets each of some rules has right as text.

    The bits of a jet lie together, since a jet that one exit has right is easy for the others: this takes half of the
    place of rules one by one.
    """
    return _deflated(np.packbits(right_RN, axis=0), zlib.Z_HUFFMAN_ONLY)


def unpack_rights(text: str, rules: int) -> npt.NDArray[np.bool_]:
    """Return what :func:`pack_rights` has packed, for so many rules."""
    byte_BN = np.frombuffer(_inflated(text), np.uint8).reshape(-(-rules // 8), -1)
    return np.unpackbits(byte_BN, axis=0, count=rules).astype(bool)


def pack_costs(spent_N: npt.NDArray[np.float64]) -> str:
    """Return the cost of each jet as text: in single precision, deflated, in base64."""
    return _deflated(spent_N.astype("<f4"), zlib.Z_DEFAULT_STRATEGY)


def unpack_costs(text: str) -> npt.NDArray[np.float64]:
    """Return what :func:`pack_costs` has packed."""
    return np.frombuffer(_inflated(text), "<f4").astype(np.float64)


def _deflated(values: npt.NDArray[Any], strategy: int) -> str:
    deflater = zlib.compressobj(level=9, strategy=strategy)
    return base64.b64encode(deflater.compress(values.tobytes()) + deflater.flush()).decode("ascii")


def _inflated(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))


def percent(value: Mapping[str, Any], digits: int = 1) -> str:
    """Return a mean and its spread over seeds in percent."""
    mean = f"{100 * value['mean']:.{digits}f}"
    return mean if value["spread"] is None else f"{mean} ± {100 * value['spread']:.{digits}f}"


def points(found: Mapping[str, Any], digits: int = 1) -> str:
    """Return a difference in percentage points with its error, in bold if it is significant."""
    text = f"{100 * found['value']:+.{digits}f} ± {100 * found['error']:.{digits}f}".replace("-", "−")
    return f"**{text}**" if found["significant"] else text


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return a table; the first ``left`` columns are aligned to the left."""
    ruler = ["---"] * left + ["--:"] * (len(header) - left)
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ruler, *rows)) + "\n"
