"""Predictions of a bundle for one file of jets, without torch and weaver."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import awkward as ak
import numpy as np
import numpy.typing as npt

from phaze_ee.data.branches import columns_for
from phaze_ee.data.inputs import Lists, checked_lists, one_number_a_jet
from phaze_ee.data.labels import known_class_of_jets, label_variables
from phaze_ee.data.plain_config import PlainConfig
from phaze_ee.data.row_spans import ahead, spans_of
from phaze_ee.data.table import ROW, Span, check_complete, holds_all, selected_table
from phaze_ee.errors import DataError
from phaze_ee.prediction.columns import answer_columns
from phaze_ee.prediction.output_file import check_answers, write_predictions
from phaze_ee.prediction.outputs import FileJob
from phaze_ee.prediction.writers import Columns, Manifest, Recipe
from phaze_ee.runtime.bundle import Bundle, BundleResult, Group, Particles

_ROWS = 5_000  # of a file that are read at a time
_JETS = 500  # of a call: padded to the longest among them


@dataclass(frozen=True)
class BundleTask:
    """What is the same for all files.

    Attributes:
        bundle: gives the answers.
        config: how jets are read, with the observers to write.
        recipe: what predictions depend on, to tell outputs apart.
        rows: rows of a file that are processed at a time.
    """

    bundle: Bundle
    config: PlainConfig
    recipe: Recipe
    rows: int = _ROWS


@dataclass(frozen=True)
class Costs:
    """The multiply-accumulates of jets by their particles M: at E exits, and of the full model without exits.

    ``embedding_G`` is what a particle of each of G collections costs besides.
    """

    at_exit_EM: npt.NDArray[np.int64]
    full_M: npt.NDArray[np.int64]
    embedding_G: npt.NDArray[np.int64]

    @classmethod
    def of(cls, bundle: Bundle) -> "Costs | None":
        """Return what the file says of its costs; None: it was exported before it said so.

        Raises:
            DataError: what it says does not fit its exits.
        """
        text = bundle.description.get("macs")
        if text is None:
            return None
        try:
            told = json.loads(text)
            costs = cls(*(np.array(told[name], np.int64) for name in ("at_exit", "full", "embedding")))
        except (ValueError, LookupError, TypeError) as error:
            raise DataError(f"the bundle does not say what its exits cost ({error!r}); export again") from error
        wanted = ((len(bundle.exits), len(costs.full_M)), (len(_collections(bundle)),))
        if costs.full_M.ndim != 1 or (costs.at_exit_EM.shape, costs.embedding_G.shape) != wanted:
            raise DataError("the costs that the bundle tells are not those of its exits; export again")
        return costs

    def of_jets(
        self, counts_NG: npt.NDArray[np.int64], exit_index_N: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], int]:
        """Return the cost of each jet that left at these exits, and what all would have cost in the full model.

        Raises:
            DataError: a jet has more particles than the table.
        """
        count_N, embedding_N = counts_NG.sum(axis=1), counts_NG @ self.embedding_G
        if count_N.max(initial=0) >= len(self.full_M):
            raise DataError("the costs that the bundle tells end before the particles of a jet do; export again")
        return self.at_exit_EM[exit_index_N, count_N] + embedding_N, int((self.full_M[count_N] + embedding_N).sum())


def predict_file(task: BundleTask, job: FileJob, advance: Callable[[int], None] = lambda rows: None) -> Manifest:
    """Write the predictions for a file of jets, as :func:`phaze_ee.prediction.output_file.write_predictions`."""
    return write_predictions(_BundleRun(task, job), job, advance)


class _Part(NamedTuple):
    """Selected jets: their rows, class (None: no labels), observers, and inputs by variable."""

    row_N: npt.NDArray[np.int64]
    label_N: npt.NDArray[np.int64] | None
    observers: Columns
    variables: Mapping[str, Particles]
    bad: Mapping[str, int]


class _BundleRun:
    """Runs a bundle on one file, and counts exits and costs."""

    def __init__(self, task: BundleTask, job: FileJob) -> None:
        config, source = task.config, job.source
        self.task, self.source = task, source
        self.spans = spans_of(source, config.treename, task.rows, as_packed=True) or [Span(source, 0, 0)]
        self.labels = label_variables(config.label_value)
        self.labelled = holds_all(config, source, self.labels)
        self.costs = Costs.of(task.bundle)
        self.exits_E = np.zeros(len(task.bundle.exits), dtype=np.int64)
        self.macs = self.full_macs = self.unclassified = self.empty = 0
        self.bad: Counter[str] = Counter()

    def parts(self, advance: Callable[[int], None]) -> Iterator[_Part]:
        for span, part in zip(self.spans, ahead(map(self._read, self.spans)), strict=True):
            self.bad.update(part.bad)
            yield part
            advance(span.stop - span.start)

    def _read(self, span: Span) -> _Part:
        config, path = self.task.config, span.path
        collections = used_variables(self.task.bundle)
        names = {*(name for own in collections for name in own), *config.z_variables}
        labels = columns_for(config, self.labels)[0] if self.labelled else set[str]()
        table = selected_table(config, span, names, config.test_time_selection, training=False, columns=labels)
        label_N = known_class_of_jets(config, config.label_value, table, path) if self.labelled else None
        inputs = ak.Array(table)  # shares the columns; observers stay as they are in the file
        lists, bad = checked_lists(inputs, collections, config.preprocess_params, config.bad_values, path)
        if lists is None:
            check_complete(inputs, config.preprocess_params, path)
            lists = [_as_lists(inputs, own) for own in collections]
        kind = "observer" if config.observer_names else "monitor variable"
        observers = {name: one_number_a_jet(table[name], f"{kind} {name}", path) for name in config.z_variables}
        variables: dict[str, Particles] = {}
        for own in lists:
            count_N = np.diff(own.offsets)
            variables |= {name: Particles(values_V, count_N) for name, values_V in own.values_V.items()}
        return _Part(ak.to_numpy(table[ROW]), label_N, observers, variables, bad)

    def columns(self, part: _Part) -> Columns:
        result, counts_NG = self._answers(part.variables, len(part.row_N))
        finite_N = np.asarray(np.isfinite(result.scores_NK).all(axis=1), dtype=np.bool_)
        check_answers(finite_N, part.row_N, self.source)
        macs_N = None
        if self.costs is not None:
            macs_N, full_macs = self.costs.of_jets(counts_NG, result.exit_index_N)
            self.macs, self.full_macs = self.macs + int(macs_N.sum()), self.full_macs + full_macs
        self.exits_E += np.bincount(result.exit_index_N, minlength=len(self.exits_E))
        self.empty += int((counts_NG.sum(axis=1) == 0).sum())
        self.unclassified += 0 if part.label_N is None else int((part.label_N < 0).sum())
        return answer_columns(
            part.row_N,
            result.scores_NK,
            self.task.config.class_names,
            label_N=part.label_N,
            observers=part.observers,
            exit_index_N=result.exit_index_N,
            macs_N=macs_N,
            cascade=self.task.bundle.cascade,
        )

    def _answers(self, variables: Mapping[str, Particles], jets: int) -> tuple[BundleResult, npt.NDArray[np.int64]]:
        """Return the answers, and the particles (N, G) of each jet. Jets of like length are padded together."""
        bundle = self.task.bundle
        order_N = np.argsort(next(iter(variables.values())).count_N, kind="stable")
        ordered = _reordered(variables, order_N)
        scores_NK = np.empty((jets, len(bundle.classes)), np.float32)
        index_N = np.empty(jets, np.int64)
        counts_NG = np.zeros((jets, len(_collections(bundle))), np.int64)
        for start in range(0, jets, _JETS):
            row_B = order_N[start : start + _JETS]
            inputs = bundle.short_inputs(_cut(ordered, start, start + _JETS))
            scores_NK[row_B], index_N[row_B] = bundle(inputs)
            counts_NG[row_B] = _counts(bundle, inputs)
        return BundleResult(scores_NK, index_N), counts_NG

    def manifest(self, job: FileJob, checksums: dict[str, int]) -> Manifest:
        return Manifest(
            recipe=self.task.recipe,
            input=job.input_file,
            rows=self.spans[-1].stop,
            labelled=self.labelled,
            unclassified=self.unclassified,
            empty=self.empty,
            bad=dict(self.bad),
            exits=dict(zip(self.task.bundle.exits, self.exits_E.tolist(), strict=True)),
            macs=self.macs,
            full_macs=self.full_macs,
            checksums=checksums,
        )


def _collections(bundle: Bundle) -> list[list[Group]]:
    """Return the inputs of each collection: the beginning of a name is the collection where an end comes twice."""
    ends = [group.name.rpartition("_")[2] for group in bundle.groups]
    if len(set(ends)) == len(ends):
        return [list(bundle.groups)]
    found: dict[str, list[Group]] = {}
    for group in bundle.groups:
        found.setdefault(group.name.rpartition("_")[0], []).append(group)
    return list(found.values())


def used_variables(bundle: Bundle) -> list[list[str]]:
    """Return the variables of each collection that the file reads, each once."""
    return [
        list(dict.fromkeys(variable.name for group in own for variable in group.variables))
        for own in _collections(bundle)
    ]


def _as_lists(table: ak.Array, names: Sequence[str]) -> Lists:
    """Return columns of equal lengths as lists: those that are arrays of a fixed length in the file."""
    count_N = ak.to_numpy(ak.num(table[names[0]], axis=1)).astype(np.int64)
    values = {name: ak.to_numpy(ak.flatten(table[name], axis=None)) for name in names}
    return Lists(values, np.concatenate([[0], count_N.cumsum()]).astype(np.int64))


def _reordered(variables: Mapping[str, Particles], order_N: npt.NDArray[np.int64]) -> dict[str, Particles]:
    """Return the particles of the jets in another order."""
    found: dict[str, Particles] = {}
    known: npt.NDArray[np.int64] | None = None
    for name, (values_V, count_N) in variables.items():
        if count_N is not known:
            known, own_N = count_N, count_N[order_N]
            shift_N = (count_N.cumsum() - count_N)[order_N] - (own_N.cumsum() - own_N)
            index_V = np.arange(own_N.sum()) + np.repeat(shift_N, own_N)
        found[name] = Particles(values_V[index_V], own_N)
    return found


def _cut(variables: Mapping[str, Particles], start: int, stop: int) -> dict[str, Particles]:
    """Return the particles of some jets in a row."""
    found: dict[str, Particles] = {}
    for name, (values_V, count_N) in variables.items():
        first, own_N = int(count_N[:start].sum()), count_N[start:stop]
        found[name] = Particles(values_V[first : first + int(own_N.sum())], own_N)
    return found


def _counts(bundle: Bundle, inputs: Mapping[str, npt.NDArray[np.float32]]) -> npt.NDArray[np.int64]:
    """Return the particles (N, G) of each jet in each collection: those that the mask leaves."""
    counts = []
    for own in _collections(bundle):
        mask = next((group for group in own if group.name.endswith("_mask")), None)
        shown_NCP = inputs[own[0].name if mask is None else mask.name]
        counts.append((shown_NCP != 0).any(axis=1).sum(axis=1))
    return np.stack(counts, axis=1).astype(np.int64)
