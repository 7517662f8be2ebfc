"""An exported tagger in Python, without torch: ``phaze_ee.load_bundle``."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self, final

import numpy as np
import numpy.typing as npt

from phaze_ee.errors import DataError, UsageError
from phaze_ee.installation import require
from phaze_ee.runtime.cascade import Cascade

Array = npt.NDArray[np.float32]

_MODEL, _INPUTS, _CHECKSUMS = "model.onnx", "preprocess.json", "SHA256SUMS"
_NO_LIMIT = 1e32  # weaver writes this limit for a variable that it does not clip
_SETTINGS = ("median", "norm_factor", "replace_inf_value", "lower_bound", "upper_bound", "pad")


class BundleResult(NamedTuple):
    """Answers for N jets: the probabilities (N, K) at the exit where each jet left, and that exit (N)."""

    scores_NK: Array
    exit_index_N: npt.NDArray[np.int64]


class Particles(NamedTuple):
    """A variable of the particles of N jets, jet after jet: the values of all V particles, and their number per jet."""

    values_V: npt.NDArray[Any]
    count_N: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Variable:
    """How a variable of a particle becomes an input: (value − median) · norm_factor, between two limits."""

    name: str
    median: float
    norm_factor: float
    replace_inf_value: float
    lower_bound: float
    upper_bound: float
    pad: float

    def standardised(self, value: Array, *, zero: bool = False) -> Array:
        """Return the values as the network gets them.

        Args:
            value: as files have it.
            zero: NaN becomes 0 after the standardisation, and infinity a limit, or 0 where there is none, as the tagger
                was trained with ``bad_values = "zero"``. Otherwise both become ``replace_inf_value`` before it.
        """
        if not zero:
            value = np.where(np.isfinite(value), value, np.float32(self.replace_inf_value))
        with np.errstate(invalid="ignore"):
            scaled = (value - np.float32(self.median)) * np.float32(self.norm_factor)
        limited: Array = np.clip(scaled, self.lower_bound, self.upper_bound)
        if zero:
            unlimited = max(abs(self.lower_bound), abs(self.upper_bound)) >= _NO_LIMIT
            limited[np.isnan(scaled) | (np.isinf(value) & unlimited)] = 0
        return limited


@dataclass(frozen=True)
class Group:
    """One input of the file: its variables, and the particles to which jets are padded or cut."""

    name: str
    length: int
    variables: tuple[Variable, ...]


@final
class Bundle:
    """An exported tagger that is loaded. Call it with inputs, or with the variables of particles.

    Attributes:
        classes: the classes, in the order of the probabilities.
        exits: the names of the exits, the full model last.
        groups: the inputs.
        one_jet: whether the file takes one jet per call; here any number of jets is taken.
        description: all texts of the file: thresholds, promise, hashes, versions.
        cascade: how rejected jets are scored, if the policy only rejects background; None: it does not.
    """

    def __init__(self, session: Any, groups: Sequence[Group]) -> None:
        self._session = session
        self.groups = tuple(groups)
        self.description: dict[str, str] = dict(session.get_modelmeta().custom_metadata_map)
        self.classes: tuple[str, ...] = tuple(json.loads(self.description["classes"]))
        self.exits: tuple[str, ...] = tuple(json.loads(self.description["exits"]))
        self.cascade = Cascade.of(*(json.loads(self.description.get(name, "null")) for name in ("score", "thresholds")))
        self.one_jet = session.get_inputs()[0].shape[0] == 1
        self._zero = self.description.get("bad_values") == "zero"

    @classmethod
    def load(cls, folder: str | Path, *, threads: int = 1) -> Self:
        """Load a folder that mode export wrote.

        Args:
            folder: the folder.
            threads: the threads of ONNX Runtime; a jet is too small for more than one.

        Raises:
            UsageError: onnxruntime is not installed, or the folder holds no exported tagger.
            DataError: a file of the folder has changed, or is of another tagger.
        """
        require("onnxruntime", "load_bundle", '".[onnx]" in a checkout of PHAZE-EE, or ./runtime without torch')
        path = Path(folder)
        _check_files(path)
        groups = _groups(path / _INPUTS)
        try:
            bundle = cls(_session(path / _MODEL, threads), groups)
        except (ValueError, LookupError) as error:
            raise DataError(f"{path / _MODEL} does not describe a tagger ({error!r}); export again") from error
        bundle._check_groups(path / _INPUTS)
        return bundle

    def __repr__(self) -> str:
        promise = self.description.get("promise", "null")
        promise = "no promise" if promise == "null" else promise  # the texts are JSON
        names = f"classes {', '.join(self.classes)}; exits {', '.join(self.exits)}"
        return f"<{type(self).__name__} {names}; {'one jet' if self.one_jet else 'any number of jets'}; {promise}>"

    def __call__(self, inputs: Mapping[str, npt.ArrayLike]) -> BundleResult:
        """Return the answers for padded jets.

        Args:
            inputs: by the name of each input, numbers (N, variables, P), standardised. The mask is 1 for a particle.

        Raises:
            UsageError: an input is missing, or has another number of variables, jets or particles.
        """
        _check_names("inputs", inputs)
        feeds = {group.name: self._checked(group, inputs) for group in self.groups}
        _check_shapes(feeds)
        jets = len(next(iter(feeds.values())))
        if not self.one_jet:
            return _result([self._session.run(None, feeds)])
        if not jets:
            return BundleResult(np.zeros((0, len(self.classes)), np.float32), np.zeros(0, np.int64))
        single = ({name: value[jet : jet + 1] for name, value in feeds.items()} for jet in range(jets))
        return _result([self._session.run(None, feed) for feed in single])

    def predict(self, variables: Mapping[str, Sequence[npt.ArrayLike]]) -> BundleResult:
        """Return the answers for the particles of jets.

        Args:
            variables: by its name in the data configuration, a variable of the particles: for each jet, its particles.

        NaN and infinity become what the description says (``replace_inf_value``), as in other programs that read it.
        After a training with ``bad_values = "zero"`` they become what they were in it.

        Raises:
            UsageError: a variable is missing, or has other numbers of particles than another one.
        """
        return self(self.inputs(variables))

    def inputs(self, variables: Mapping[str, Sequence[npt.ArrayLike]]) -> dict[str, Array]:
        """Return the inputs of the file: variables standardised, and jets padded or cut, as the description says."""
        _check_names("variables", variables)
        packed = {name: _packed(name, jets) for name, jets in variables.items()}
        _check_counts(self.groups, packed)
        return {group.name: _padded(group, packed, group.length, zero=self._zero) for group in self.groups}

    def short_inputs(self, variables: Mapping[str, Particles]) -> dict[str, Array]:
        """Return the inputs with as many slots as the longest jet has particles, which saves time.

        Raises:
            UsageError: a variable is missing.
        """
        longest = {group.name: _longest(group, variables) for group in self.groups}
        return {group.name: _padded(group, variables, longest[group.name], zero=self._zero) for group in self.groups}

    def _checked(self, group: Group, inputs: Mapping[str, npt.ArrayLike]) -> Array:
        if group.name not in inputs:
            raise UsageError(f"the tagger needs the input {group.name} and got {', '.join(inputs)}; add it")
        value = _numbers(f"input {group.name}", inputs[group.name])
        if value.ndim != 3 or value.shape[1] != len(group.variables):
            raise UsageError(
                f"input {group.name} has the shape {value.shape} and must have (jets, {len(group.variables)}, "
                "particles)"
            )
        return value

    def _check_groups(self, path: Path) -> None:
        wanted = {value.name: value.shape[1] for value in self._session.get_inputs()}
        given = {group.name: len(group.variables) for group in self.groups}
        if wanted != given:
            raise DataError(
                f"{path} describes the inputs {_listed(given)} and {_MODEL} takes {_listed(wanted)}: it belongs to "
                "another network; export again"
            )


def load_bundle(folder: str | Path, *, threads: int = 1) -> Bundle:
    """Return an exported tagger, ready to run with ONNX Runtime and without torch; see :class:`Bundle`.

    Args:
        folder: a folder that mode export wrote.
        threads: the threads of ONNX Runtime; a jet is too small for more than one.

    Raises:
        UsageError: onnxruntime is not installed, or the folder holds no exported tagger.
        DataError: a file of the folder has changed, or is of another tagger.
    """
    return Bundle.load(folder, threads=threads)


def _check_files(folder: Path) -> None:
    """Compare the files with their checksums."""
    try:
        lines = (folder / _CHECKSUMS).read_text(encoding="utf-8").splitlines()
        sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        changed = [name for name, digest in sums.items() if _sha256(folder / Path(name).name) != digest]
    except (OSError, UnicodeDecodeError) as error:
        if folder.is_file():
            raise UsageError(
                f"{folder} is a file and holds no exported tagger; give the folder of model.onnx"
            ) from error
        reason = f"{Path(error.filename).name}: {error.strerror}" if isinstance(error, OSError) else str(error)
        raise UsageError(f"{folder} holds no exported tagger ({reason}); mode export writes one") from error
    if changed or not {_MODEL, _INPUTS} <= sums.keys():
        what = changed[0] if changed else f"the checksum of {_MODEL}"
        raise DataError(f"{folder}: {what} is not what mode export wrote; copy the folder again, or export again")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _groups(path: Path) -> list[Group]:
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        return [_group(name, described[name]) for name in described["input_names"]]
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(f"{path} is not weaver's description of inputs ({error!r}); export again") from error


def _group(name: str, described: Mapping[str, Any]) -> Group:
    settings = described["var_infos"]
    variables = (Variable(own, *(float(settings[own][key]) for key in _SETTINGS)) for own in described["var_names"])
    length = int(described["var_length"])
    if length < 1:
        raise ValueError(f"{name} has the length {length}")
    return Group(name, length, tuple(variables))


def _session(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    state = onnxruntime.capi.onnxruntime_pybind11_state
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NotImplemented,
    ) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"ONNX Runtime cannot load {path}: {reason}; copy the folder again, or export again") from error


def _check_names(what: str, given: object) -> None:
    if not isinstance(given, Mapping):
        raise UsageError(f"{what} are {type(given).__name__}, not a dict from names to jets of particles")


def _numbers(what: str, values: npt.ArrayLike) -> Array:
    try:
        return np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what} holds no numbers ({error}); give numbers") from error


def _collections(names: Iterable[str]) -> dict[str, str]:
    """Return the collection of each input, ``pf`` of ``pf_mask``; it is one where no kind (``mask``) occurs twice."""
    parts = {name: name.rpartition("_") for name in names}
    one = len({kind for _, _, kind in parts.values()}) == len(parts)
    return {name: "" if one else collection for name, (collection, _, _) in parts.items()}


def _check_shapes(inputs: Mapping[str, Array]) -> None:
    """Refuse inputs that are not of the same jets or, in one collection, not of the same number of particles."""
    collections = _collections(inputs)
    slots = {(collections[name], value.shape[2]) for name, value in inputs.items()}
    if len(slots) > len(set(collections.values())) or len({len(value) for value in inputs.values()}) > 1:
        shapes = ", ".join(f"{name} {value.shape}" for name, value in inputs.items())
        raise UsageError(
            f"the inputs do not have the same jets and particles: {shapes}; give the same jets in all of them, and the "
            "same number of particles in those of one collection"
        )


def _packed(name: str, jets: Sequence[npt.ArrayLike]) -> Particles:
    own = [_numbers(f"the variable {name}", particles) for particles in jets]
    if any(particles.ndim != 1 for particles in own):
        raise UsageError(f"the variable {name} is not one list of numbers for each jet; give a list of lists")
    return Particles(np.concatenate([np.empty(0, np.float32), *own]), np.array([len(jet) for jet in own], np.int64))


def _check_counts(groups: Sequence[Group], variables: Mapping[str, Particles]) -> None:
    """Refuse variables of one collection that are not of the same particles."""
    collections = _collections([group.name for group in groups])
    first: dict[str, Variable] = {}
    for group in groups:
        for variable in group.variables:
            other = first.setdefault(collections[group.name], variable)
            if not np.array_equal(_of(variables, variable).count_N, _of(variables, other).count_N):
                raise UsageError(
                    f"the variables {other.name} and {variable.name} have other numbers of jets or of their particles; "
                    "give the same particles in each"
                )


def _longest(group: Group, variables: Mapping[str, Particles]) -> int:
    counts = (_of(variables, variable).count_N.max(initial=1) for variable in group.variables)
    return min(group.length, int(max(counts)))


def _of(variables: Mapping[str, Particles], variable: Variable) -> Particles:
    if variable.name not in variables:
        raise UsageError(f"the tagger needs the variable {variable.name} of each particle; add it")
    return variables[variable.name]


def _padded(group: Group, variables: Mapping[str, Particles], length: int, *, zero: bool) -> Array:
    """Return (N, variables, length): standardised, and padded or cut. Slots are filled for all jets at once."""
    first = _of(variables, group.variables[0])
    padded_NCP = np.empty((len(first.count_N), len(group.variables), length), np.float32)
    known: npt.NDArray[np.int64] | None = None
    for channel, variable in enumerate(group.variables):
        values_V, count_N = _of(variables, variable)
        if known is None or not np.array_equal(known, count_N):
            known = count_N
            filled_NP = np.arange(length) < count_N[:, None]
            kept_V = np.arange(count_N.sum()) - np.repeat(count_N.cumsum() - count_N, count_N) < length
        column_NP = padded_NCP[:, channel]
        column_NP[...] = variable.pad
        column_NP[filled_NP] = variable.standardised(values_V.astype(np.float32, copy=False)[kept_V], zero=zero)
    return padded_NCP


def _result(answers: Sequence[Sequence[Any]]) -> BundleResult:
    scores_NK, index_N = (np.concatenate(column) for column in zip(*answers, strict=True))
    return BundleResult(scores_NK, index_N.astype(np.int64))


def _listed(inputs: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({variables})" for name, variables in inputs.items())
