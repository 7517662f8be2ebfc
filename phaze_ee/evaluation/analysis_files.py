"""The efficiencies of a policy in the formats of an analysis: ROOT, HEPData YAML and LaTeX."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import uproot
import yaml
from uproot.writing.identify import to_TAxis, to_TH1x

from phaze_ee.atomic import replacing
from phaze_ee.names import class_title, short
from phaze_ee.results.policy import DynamicResults, RelativeEfficiency

_UNITS = {"jet_pt": "GeV", "jet_sdmass": "GeV"}
_LATEX = {"jet_pt": r"$p_\mathrm{T}$ [GeV]", "jet_eta": r"$\eta$", "jet_nparticles": "particles"}


def write_efficiencies(folder: Path, dynamic: DynamicResults) -> list[Path]:
    """Write the efficiencies to a folder and return it; nothing without efficiencies.

    ``efficiency.root`` has one histogram (TH1D) per sample, observable and number: ``full_model``, ``both``, ``added``,
    ``efficiency`` with its limits ``lower`` and ``upper``, and ``ratio`` with its errors; 0 in bins without a value.
    ``submission.yaml`` and the tables that it names are what HEPData takes. ``efficiency.tex`` has one tabular per
    sample and observable. Tables of an earlier evaluation are removed.

    Raises:
        RunError: a file could not be written.
    """
    if not dynamic.efficiencies:
        return []
    tables = {f"{_key(one).replace('/', '_')}.yaml": one for one in dynamic.efficiencies}
    with replacing(folder / "efficiency.root") as path:
        _write_root(path, dynamic.efficiencies)
    for name, table in tables.items():
        _write_yaml(folder / name, [_hepdata(table)])
    _write_yaml(folder / "submission.yaml", [_submission(dynamic), *itertools.starmap(_entry, tables.items())])
    with replacing(folder / "efficiency.tex") as path:
        path.write_text("\n".join(map(_latex, dynamic.efficiencies)), encoding="utf-8")
    for path in folder.glob("*.yaml"):
        if path.name not in {*tables, "submission.yaml"}:
            path.unlink()
    return [folder]


def _key(table: RelativeEfficiency) -> str:
    return f"{class_title(table.sample)}/{table.observable}"


def _write_root(path: Path, tables: Sequence[RelativeEfficiency]) -> None:
    with uproot.recreate(path) as file:
        for table in tables:
            key, edges = _key(table), np.array(table.edges)
            for name in ("full_model", "both", "added", "efficiency", "lower", "upper"):
                file[f"{key}/{name}"] = _filled(getattr(table, name)), edges
            file[f"{key}/ratio"] = _with_errors(table)


def _filled(value_B: Sequence[float | None]) -> npt.NDArray[np.float64]:
    """Return the content of a histogram: 0 where there is no value."""
    return np.array([0.0 if value is None else value for value in value_B])


def _with_errors(table: RelativeEfficiency) -> Any:
    """Return the ratio as a TH1D with its errors; without entries beside the edges."""
    edges = np.array(table.edges)
    axis = to_TAxis("xaxis", table.observable, len(edges) - 1, edges[0], edges[-1], fXbins=edges)
    content, error = (np.pad(_filled(values), 1) for values in (table.ratio, table.ratio_error))
    entries = float(sum(table.full_model))
    return to_TH1x(None, "ratio", content, entries, content.sum(), (error**2).sum(), 0.0, 0.0, error**2, axis)


def _submission(dynamic: DynamicResults) -> dict[str, Any]:
    moved = "" if dynamic.moved is None else f", {dynamic.moved}"
    return {
        "comment": f"Early exits of {dynamic.project}, relative to the full model; policy "
        f"{dynamic.policy.target}{moved}. "
        f"{dynamic.jets} jets. model {dynamic.model_hash}"
    }


def _entry(name: str, table: RelativeEfficiency) -> dict[str, Any]:
    return {
        "name": f"{class_title(table.sample)}, {table.observable}",
        "location": "produced by phaze_ee",
        "description": f"Jets of {class_title(table.sample)} that early exits keep, of those that the full model keeps "
        f"({table.kept})",
        "keywords": [{"name": "observables", "values": ["EFF"]}],
        "data_file": name,
    }


def _hepdata(table: RelativeEfficiency) -> dict[str, Any]:
    bins = [{"low": low, "high": high} for low, high in itertools.pairwise(table.edges)]
    rows = zip(table.efficiency, table.lower, table.upper, strict=True)
    efficiency = [
        "-" if value is None or lower is None or upper is None else _asymmetric(value, lower, upper)
        for value, lower, upper in rows
    ]
    ratio = [
        "-" if value is None else {"value": value, "errors": [{"symerror": error, "label": "stat"}]}
        for value, error in zip(table.ratio, table.ratio_error, strict=True)
    ]
    columns: dict[str, Sequence[Any]] = {
        "Efficiency relative to the full model": efficiency,
        "Kept jets relative to the full model": ratio,
        "Jets that the full model keeps": table.full_model,
    }
    return {
        "independent_variables": [{"header": _header(table.observable), "values": bins}],
        "dependent_variables": [
            {"header": {"name": name}, "values": [one if isinstance(one, dict) else {"value": one} for one in values]}
            for name, values in columns.items()
        ],
    }


def _asymmetric(value: float, lower: float, upper: float) -> dict[str, Any]:
    error = {"asymerror": {"minus": lower - value, "plus": upper - value}, "label": "stat"}
    return {"value": value, "errors": [error]}


def _header(name: str) -> dict[str, str]:
    return {"name": name} | ({"units": _UNITS[name]} if name in _UNITS else {})


def _write_yaml(path: Path, documents: Sequence[dict[str, Any]]) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        yaml.safe_dump_all(documents, file, sort_keys=False, width=1000)


def _latex(table: RelativeEfficiency) -> str:
    observable = _LATEX.get(table.observable, _escaped(table.observable))
    rows = [
        f"{short(low)} to {short(high)} & {full} & {_latex_efficiency(*limits)} & {_latex_ratio(*paired)} \\\\"
        for (low, high), full, limits, paired in zip(
            itertools.pairwise(table.edges),
            table.full_model,
            zip(table.efficiency, table.lower, table.upper, strict=True),
            zip(table.ratio, table.ratio_error, strict=True),
            strict=True,
        )
    ]
    return "\n".join(
        [
            f"% {class_title(table.sample)}; kept: {table.kept}; relative to the full model",
            r"\begin{tabular}{lrrr}",
            r"\hline",
            f"{observable} & full model & efficiency & kept jets \\\\",
            r"\hline",
            *rows,
            r"\hline",
            r"\end{tabular}",
            "",
        ]
    )


def _latex_efficiency(value: float | None, lower: float | None, upper: float | None) -> str:
    if value is None or lower is None or upper is None:
        return "--"
    return f"${value:.4f}_{{-{value - lower:.4f}}}^{{+{upper - value:.4f}}}$"


def _latex_ratio(value: float | None, error: float | None) -> str:
    return "--" if value is None or error is None else rf"${value:.4f} \pm {error:.4f}$"


def _escaped(text: str) -> str:
    return text.replace("_", r"\_")
