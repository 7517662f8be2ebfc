"""The proof that a written file answers as the engine does: on jets of the user and on odd ones."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple, Self, final

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from phaze_ee.engine.engine import Engine
from phaze_ee.errors import RunError
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetInputs, RaggedJets

# The largest differences of probabilities that rounding explains, by the type of the network's numbers.
TOLERANCES = {torch.float32: 5e-6, torch.float64: 1e-8}
_ODD_COUNTS = (0, 1, 2, 3, 128, 300)
_NONE: Mapping[str, Mapping[str, str]] = MappingProxyType({})
_HOLES, _LONG = 0.3, 17
_TOGETHER = 256
# So many jets may be less exact in the file; of those with a ParticleNet, about one of 3,000 is.
_FEW, _SHARE = 2, 0.005


@final
@dataclass(frozen=True)
class Checked:
    """How a file compares with the engine.

    Attributes:
        jets: the jets compared.
        difference: the largest difference of a probability, without the jets of ``by_rounding``.
        by_rounding: jets that differ by more, or in their exit, only because numbers are rounded: two particles are
            equally near, or a score is at its threshold. In double precision they do not.
        less_exact: those of them for which the tagger is nearer to the answer in double precision than the file.
    """

    jets: int = 0
    difference: float = 0.0
    by_rounding: int = 0
    less_exact: int = 0

    def __add__(self, other: "Checked") -> "Checked":
        worst, by_rounding = max(self.difference, other.difference), self.by_rounding + other.by_rounding
        return Checked(self.jets + other.jets, worst, by_rounding, self.less_exact + other.less_exact)


class FileSession:
    """A file, loaded for one thread.

    Args:
        content: the bytes of the file.
        names: the name of each kind of input.
        more: the same of further collections, by their names.
    """

    def __init__(self, content: bytes, names: Mapping[str, str], more: Mapping[str, Mapping[str, str]] = _NONE) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        inputs = self._session.get_inputs()
        self._names, self._more, self._used = names, more, {value.name for value in inputs}
        self.one_jet = inputs[0].shape[0] == 1

    def __call__(self, jets: JetInputs) -> tuple[Tensor, Tensor]:
        """Return the probabilities (N, K) and the exit (N) of each jet."""
        pieces = [jets.select(torch.tensor([index])) for index in range(len(jets))] if self.one_jet else [jets]
        answers = [self._run(piece) for piece in pieces]
        scores_NK, index_N = (torch.from_numpy(np.concatenate(column)) for column in zip(*answers, strict=True))
        return scores_NK, index_N.long()

    def _run(self, jets: JetInputs) -> Any:
        parts = [(jets, self._names), *((jets.more[name], names) for name, names in self._more.items())]
        tensors = {name: getattr(part, kind) for part, names in parts for kind, name in names.items()}
        return self._session.run(None, {name: tensors[name].numpy() for name in self._used})


class Comparison:
    """Compares a file with the engine.

    Args:
        tagger: what was written, in the type of the file.
        policy: its policy.
        write: returns the bytes of the file of a tagger, in the type of the tagger.
        names: the name of each kind of input.
        more: the same of further collections, by their names.
        alone: whether the answer of a jet depends on its batch in the engine, so that it runs jet by jet.
    """

    def __init__(
        self,
        tagger: Tagger,
        policy: ThresholdPolicy | None,
        write: Callable[[Tagger], bytes],
        names: Mapping[str, str],
        more: Mapping[str, Mapping[str, str]] = _NONE,
        *,
        alone: bool,
    ) -> None:
        self.tagger, self.policy, self.write, self.names, self.more = tagger, policy, write, names, more
        self.chunk_size = 1 if alone else _TOGETHER

    def check(self, content: bytes, jets: Iterable[JetInputs]) -> Checked:
        """Compare the exit and the probabilities of each jet. The jets are padded, and in the type of the file.

        Raises:
            RunError: they differ by more than rounding.
        """
        session = FileSession(content, self.names, self.more)
        engine = Engine(self.tagger, self.policy, chunk_size=self.chunk_size)
        result = sum((self._compare(engine, session, batch) for batch in jets if len(batch)), start=Checked())
        if result.less_exact > max(_FEW, _SHARE * result.jets):
            raise RunError(
                f"{result.less_exact} of {result.jets} jets get other answers from the file than from the tagger in "
                "single precision, though not in double precision; nothing was written. Please report it"
            )
        return result

    def _compare(self, engine: Engine, session: FileSession, jets: JetInputs) -> Checked:
        both = _Answers.of(engine, session, jets)
        wrong_N = both.differ_N
        less_exact = self._less_exact(jets.select(wrong_N), both.select(wrong_N)) if wrong_N.any() else 0
        difference = float(both.difference_N.masked_fill(wrong_N, 0).amax())
        return Checked(len(jets), difference, int(wrong_N.sum()), less_exact)

    def _less_exact(self, jets: JetInputs, single: "_Answers") -> int:
        """Return how many of these jets the file answers less exactly than the tagger; double precision is the truth.

        Raises:
            RunError: file and tagger differ in double precision too.
        """
        tagger = copy.deepcopy(self.tagger).double()
        session = FileSession(self.write(tagger), self.names, self.more)
        engine = Engine(tagger, self.policy, chunk_size=self.chunk_size)
        double = _Answers.of(engine, session, jets.map(lambda tensor: tensor.double()))
        if double.differ_N.any():
            jet = int(double.differ_N.nonzero()[0])
            raise RunError(
                f"the file does not answer as the tagger: {int(double.differ_N.sum())} jets differ in a probability or "
                f"their exit, the first with {int(jets.particle_count_N[jet])} particles by "
                f"{float(single.difference_N[jet]):.1e}; nothing was written. Please report it"
            )
        truth_NK = double.expected_NK
        file_N, tagger_N = (
            (answer_NK - truth_NK).abs().amax(dim=1) for answer_NK in (single.scores_NK, single.expected_NK)
        )
        return int((file_N > torch.maximum(2 * tagger_N, torch.tensor(TOLERANCES[torch.float32]))).sum())


class _Answers(NamedTuple):
    """The answers of a file and of the engine for some jets."""

    scores_NK: Tensor
    index_N: Tensor
    expected_NK: Tensor
    expected_index_N: Tensor

    @classmethod
    def of(cls, engine: Engine, session: FileSession, jets: JetInputs) -> Self:
        expected = engine(jets)
        return cls(*session(jets), expected.logits_NK.softmax(dim=-1), expected.exit_index_N)

    def select(self, keep_N: Tensor) -> "_Answers":
        return _Answers(*(column[keep_N] for column in self))

    @property
    def difference_N(self) -> Tensor:
        """The largest difference of a probability."""
        return (self.scores_NK - self.expected_NK).abs().amax(dim=1)

    @property
    def differ_N(self) -> Tensor:
        """Whether the exits differ, or the probabilities by more than the tolerance."""
        near_N = self.difference_N <= TOLERANCES[self.scores_NK.dtype]
        return ~((self.index_N == self.expected_index_N) & near_N)


def odd_jets(pool: RaggedJets, neighbours: Iterable[int] = ()) -> Iterator[JetInputs]:
    """Yield jets as they seldom come: very few and very many particles, duplicates, holes, NaN in padded slots.

    Args:
        pool: jets whose particles they have.
        neighbours: numbers k that mean something to the network: jets of k and of k + 1 particles are made too.
    """
    counts = sorted({*_ODD_COUNTS, *(k + more for k in neighbours for more in (0, 1))})
    generator = torch.Generator().manual_seed(0)
    own = _drawn(pool.alone(), counts, generator)
    # Jets with few or no vertices and any number of particles, and the other way round.
    more = {
        name: _drawn(jets, [place % 4 for place in range(len(counts))], generator) for name, jets in pool.more.items()
    }
    padded = replace(own, more=more).padded()
    yield padded
    yield padded.padded(0)
    yield _with_nan(padded)
    holes = torch.rand(padded.mask.shape, generator=generator) > _HOLES
    yield _with_nan(replace(padded, mask=padded.mask * holes))
    yield padded.padded(_LONG).map(lambda tensor: torch.cat([tensor, tensor], dim=-1))
    for index in range(min(3, len(padded))):
        yield padded.select(torch.tensor([index]))


def _drawn(pool: RaggedJets, counts: Sequence[int], generator: torch.Generator) -> RaggedJets:
    """Return jets with these numbers of particles, drawn from those of a pool; without any if it has none."""
    available = len(pool.features_VC)
    count_N = torch.tensor(counts if available else [0] * len(counts))
    row_V = torch.randint(max(available, 1), (int(count_N.sum()),), generator=generator)
    vectors = None if pool.vectors_V4 is None else pool.vectors_V4[row_V]
    return RaggedJets(pool.points_V2[row_V], pool.features_VC[row_V], vectors, count_N)


def _with_nan(jets: JetInputs) -> JetInputs:
    def filled(tensor: Tensor) -> Tensor:
        return tensor.masked_fill(~jets.valid_N1P, torch.nan)

    vectors = None if jets.vectors is None else filled(jets.vectors)
    return replace(jets, points=filled(jets.points), features=filled(jets.features), vectors=vectors)
