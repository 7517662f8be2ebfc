"""One chunk of jets on its way through a tagger; each jet stops when it has its answer."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple, final

import torch
from torch import Tensor

from phaze_ee.engine.audit import Audited, ChunkAudit
from phaze_ee.engine.event_budget import EventBudget
from phaze_ee.exits.policies import ExitPolicy, ThresholdPolicy
from phaze_ee.machine import Precision
from phaze_ee.models.precision import half_products, widened
from phaze_ee.models.tagger import Tagger, Walk
from phaze_ee.shapes import Bool, Float, Int
from phaze_ee.types import Exit, Jets, RaggedJets

_AT_FIRST = 128  # particles, which jets seldom exceed
# What it costs to drop jets from a state, as multiply-accumulates that take the same time: calls, and a copy of the
# particles that stay. Measured on a core with 3.7e10 multiply-accumulates per second: half of 16 jets (347 particles
# stay) took 0.020 ms at 64 channels and 0.026 ms at 256, half of 512 (10,819 stay) 0.09 ms and 0.4 ms. The engine's
# own bookkeeping takes another 0.02 ms.
_SELECT_MACS = 1_500_000
_SELECT_MACS_PER_PARTICLE = 1_000


@final
class MacsTable:
    """The multiply-accumulates of jets at each exit, tabulated by the number of particles. It grows as needed.

    The embeddings of several collections are not in the table, because they cost the same at each exit.

    Args:
        tagger: the tagger that has the exits.
        exits: the exits that are evaluated; None: all (:meth:`Tagger.exit_macs`).
    """

    def __init__(self, tagger: Tagger, exits: Collection[int] | None) -> None:
        self._tagger, self._exits = tagger, exits
        self._table_EM = self._up_to(_AT_FIRST)  # only ever replaced as a whole: threads share it

    def __call__(
        self, particle_count_N: Int[Tensor, " N"] | Int[Tensor, "N G"], most: int | None = None
    ) -> Int[Tensor, "E N"]:
        """Return the multiply-accumulates of jets that leave at each exit, as :meth:`Tagger.exit_macs`.

        Args:
            particle_count_N: as there.
            most: the largest number of particles of a jet; None: the host waits for the device to tell it.
        """
        if particle_count_N.dim() == 2:
            return self(particle_count_N.sum(dim=1), most) + self._tagger.backbone.embed_macs(particle_count_N)
        table_EM = self._table_EM
        if most is None:
            most = int(particle_count_N.max()) if particle_count_N.shape[0] else 0
        if most >= table_EM.shape[1]:
            table_EM = self._up_to(2 * most)
        self._table_EM = table_EM = table_EM.to(particle_count_N.device)  # kept there: the host waits for a copy
        return table_EM.index_select(1, particle_count_N)

    def of(self, jets: Jets) -> Int[Tensor, "E N"]:
        """Return the multiply-accumulates of jets that leave at each exit."""
        most = None
        if isinstance(jets, RaggedJets) and len(jets) == 1:
            most = sum(len(own.features_VC) for own in (jets, *jets.others.values()))
        return self(jets.counts_NG if jets.more else jets.particle_count_N, most)

    def _up_to(self, most: int) -> Int[Tensor, "E M"]:
        return self._tagger.walk_macs(torch.arange(most + 1), exits=self._exits)


@final
@dataclass(frozen=True)
class EngineResult:
    """Answers of an engine for N jets, in the order of the input.

    Attributes:
        logits_NK: the logits at the exit where each jet left, divided by the policy's temperature there.
        exit_index_N: the exit where each jet left, counted from 0; the full model is the last.
        macs_N: the multiply-accumulates spent on each jet, for its own number of particles, in the form of the backbone
            that ran. A jet that has its answer goes on until dropping such jets pays off, so they depend on the others.
        visited_NEK: the logits of every exit up to the one where the jet left, divided by the temperatures; the full
            model is the last. NaN at exits that were not evaluated and at those after the jet had left.
        refused_N: whether the event budget made the jet leave although the policy would have let it go on.
        audit: the answers of the full model for audited jets; None without an audit.
        value_NR: what is predicted for the R targets where each jet left, in their own units; R = 0 without targets.
    """

    logits_NK: Float[Tensor, "N K"]
    exit_index_N: Int[Tensor, " N"]
    macs_N: Int[Tensor, " N"]
    visited_NEK: Float[Tensor, "N E K"]
    refused_N: Bool[Tensor, " N"]
    audit: Audited | None = field(default=None, kw_only=True)
    value_NR: Float[Tensor, "N R"] = field(default_factory=lambda: torch.empty(0, 0), kw_only=True)

    def cpu(self) -> "EngineResult":
        """Return the answers in the memory of the CPU."""
        answers = (getattr(self, item.name).cpu() for item in fields(self) if not item.kw_only)
        audit = None if self.audit is None else self.audit.cpu()
        return EngineResult(*answers, audit=audit, value_NR=self.value_NR.cpu())


def run_full_model(walk: Walk, jets: Jets, macs: MacsTable, precision: Precision = "float32") -> tuple[Tensor, ...]:
    """Return the fields of :class:`EngineResult`, ``value_NR`` last, for jets on a walk to the full model alone."""
    exit_ = _advance(lambda: next(walk), precision, jets.total_count_N.device)
    macs_EN = macs.of(jets)
    visited_NEK = exit_.logits_NK.new_full((len(jets), len(macs_EN), exit_.logits_NK.shape[1]), torch.nan)
    visited_NEK[:, exit_.index] = exit_.logits_NK
    exit_index_N = torch.full_like(macs_EN[-1], exit_.index)
    refused_N = torch.zeros_like(exit_index_N, dtype=torch.bool)
    return exit_.logits_NK, exit_index_N, macs_EN[-1], visited_NEK, refused_N, _values(exit_)


class Ahead(NamedTuple):
    """How many jets are not done after an exit, and whether to drop the others saves time."""

    staying: int
    dropping_pays: bool


@final
class ChunkRun:
    """One chunk on its way through the tagger. A jet that has its answer is ``done``; it is dropped if that saves time.

    On a CUDA device the host waits once after each exit, to know how many jets stay, and once more where others are
    dropped; an audit and an event budget wait more often.

    An audited jet is done when it has the answer of the full model besides.

    Args:
        walk: the walk of the chunk through a tagger in evaluation mode, with the exits of the policy.
        policy: decides where jets leave.
        jets: the chunk.
        macs: the costs of the tagger's exits.
        event_budget: what the jets of an event may cost together; None: there is no limit.
        event_N: the event of each jet, any integers; ignored without a budget.
        audit: which jets go on although they have an answer; None: no jet does.
        precision: of the products of the tagger. The policy works on logits in float32 at least.
    """

    def __init__(
        self,
        walk: Walk,
        policy: ExitPolicy,
        jets: Jets,
        macs: MacsTable,
        event_budget: EventBudget | None,
        event_N: Int[Tensor, " N"],
        audit: ChunkAudit | None = None,
        precision: Precision = "float32",
    ) -> None:
        count_N = jets.total_count_N
        self.precision = precision
        self.policy, self.event_budget, self.audit = policy, event_budget, audit
        self.event_N = event_N if event_budget is None else consecutive(event_N)
        self.walk = walk
        self.count_N = count_N
        self.waiting_costs = count_N.is_cuda
        self.macs_EN = macs.of(jets)
        self.row_A = torch.arange(len(count_N), device=count_N.device)  # the jets, of N, that are still on the walk
        self.answered_N = torch.zeros_like(count_N, dtype=torch.bool)
        self.done_N = torch.zeros_like(self.answered_N)
        self.exit_index_N = torch.zeros_like(count_N)
        self.macs_N = torch.zeros_like(count_N)
        self.refused_N = torch.zeros_like(self.done_N)
        self.value_NR: Tensor | None = None
        self.history: list[Tensor] = []

    def finish(self) -> tuple[Tensor, ...]:
        """Walk until all jets are done; return the fields of :class:`EngineResult`, values and those of an audit."""
        exit_ = self._tempered(self._advance(lambda: next(self.walk)))
        logits_NK = exit_.logits_NK
        visited_NEK = logits_NK.new_full((len(logits_NK), len(self.macs_EN), logits_NK.shape[1]), torch.nan)
        every_NEK = visited_NEK if self.audit is None else visited_NEK.clone()
        while True:
            if self.audit is not None:
                self._put(every_NEK[:, exit_.index], exit_.logits_NK)
            self._answer(exit_, visited_NEK[:, exit_.index])
            ahead = Ahead(0, False) if exit_.is_full_model else self._ahead(exit_.index)
            if not ahead.staying:
                logits_NK = visited_NEK[torch.arange(len(visited_NEK), device=visited_NEK.device), self.exit_index_N]
                value_NR = logits_NK[:, :0] if self.value_NR is None else self.value_NR
                answers = (logits_NK, self.exit_index_N, self.macs_N, visited_NEK, self.refused_N, value_NR)
                return answers if self.audit is None else (*answers, *self._audited(every_NEK, self.audit))
            exit_ = self._tempered(self._next(ahead))

    def _answer(self, exit_: Exit, visited_NK: Float[Tensor, "N K"]) -> None:
        """Record the answers of an exit. No mask is an index here: the host would wait for the device."""
        answered_A = self.answered_N[self.row_A]
        self._put(visited_NK, torch.where(answered_A[:, None], visited_NK[self.row_A], exit_.logits_NK))
        self._put(self.macs_N, self.macs_EN[exit_.index][self.row_A])
        now_A = self._leaves(exit_, ~answered_A) & ~answered_A
        self._put(self.exit_index_N, torch.where(now_A, exit_.index, self.exit_index_N[self.row_A]))
        self._keep_values(exit_, now_A)
        self._put(self.answered_N, answered_A | now_A)
        finished_A = now_A if self.audit is None else now_A & ~self._goes_on(exit_, now_A, self.audit)
        self._put(self.done_N, self.done_N[self.row_A] | finished_A)

    def _put(self, value_N: Tensor, value_A: Tensor) -> None:
        value_N.index_copy_(0, self.row_A, value_A)

    def _tempered(self, exit_: Exit) -> Exit:
        temperatures = self.policy.temperatures
        return exit_ if temperatures is None else replace(exit_, logits_NK=exit_.logits_NK / temperatures[exit_.index])

    def _keep_values(self, exit_: Exit, answered_A: Bool[Tensor, " A"]) -> None:
        """Keep what is predicted for the targets of the jets that leave at an exit."""
        if exit_.value_NR is None:
            return
        if self.value_NR is None:
            self.value_NR = exit_.value_NR.new_full((len(self.done_N), exit_.value_NR.shape[1]), torch.nan)
        self._put(self.value_NR, torch.where(answered_A[:, None], exit_.value_NR, self.value_NR[self.row_A]))

    def _leaves(self, exit_: Exit, waiting_A: Bool[Tensor, " A"]) -> Bool[Tensor, " A"]:
        if exit_.is_full_model:
            return torch.ones_like(self.row_A, dtype=torch.bool)
        skipped = torch.full_like(exit_.logits_NK, torch.nan)
        self.history += [*[skipped] * (exit_.index - len(self.history)), exit_.logits_NK]
        logits_EAK = torch.stack(self.history)
        leaves_A = self.policy(logits_EAK)
        if self.event_budget is not None:
            assert isinstance(self.policy, ThresholdPolicy)
            going_A = waiting_A & ~leaves_A
            leaves_A[going_A] = self._refused(exit_.index, self.policy.score(logits_EAK)[going_A], self.row_A[going_A])
        return leaves_A

    def _goes_on(self, exit_: Exit, leaves_A: Bool[Tensor, " A"], audit: ChunkAudit) -> Bool[Tensor, " A"]:
        """Return which of the jets that leave are audited."""
        audited_A = torch.zeros_like(leaves_A)
        if not exit_.is_full_model:
            margin_A = exit_.logits_NK.new_full(leaves_A.shape, torch.inf)
            if audit.audit.near > 0:
                assert isinstance(self.policy, ThresholdPolicy)
                margin_A = self.policy.score(torch.stack(self.history)) - self.policy.thresholds[exit_.index]
            audited_A[leaves_A] = audit.goes_on(self.row_A[leaves_A], margin_A[leaves_A])
        return audited_A

    def _audited(self, every_NEK: Float[Tensor, "N E K"], audit: ChunkAudit) -> tuple[Tensor, ...]:
        """Return the fields of :class:`Audited`."""
        alone_N = self.exit_index_N == len(self.macs_EN) - 1
        weight_N = audit.weight_N.masked_fill(alone_N, 1.0)
        after_N = self.macs_EN[-1] - self.macs_EN.gather(0, self.exit_index_N[None])[0]
        unseen_N = weight_N == 0
        return every_NEK.masked_fill(unseen_N[:, None, None], torch.nan), weight_N, after_N * ~unseen_N

    def _refused(self, index: int, score_G: Tensor, row_G: Int[Tensor, " G"]) -> Bool[Tensor, " G"]:
        """Return which of the jets that want to go on after an exit must leave, as their event's budget is used."""
        assert self.event_budget is not None
        exits = range(len(self.macs_EN) - 1) if self.policy.exits is None else self.policy.exits
        following = min((exit_ for exit_ in exits if exit_ > index), default=len(self.macs_EN) - 1)
        step_G = (self.macs_EN[following] - self.macs_EN[index])[row_G]
        spent_U = torch.zeros_like(self.macs_N).index_add(0, self.event_N, self.macs_N)
        self.refused_N[row_G] = self.event_budget.refused(score_G, self.event_N[row_G], step_G, spent_U)
        return self.refused_N[row_G]

    def _next(self, ahead: Ahead) -> Exit:
        if not ahead.dropping_pays:
            return self._advance(lambda: next(self.walk))
        keep_A = self.done_N[self.row_A].argsort(stable=True)[: ahead.staying]
        self.row_A = self.row_A[keep_A]
        self.history = [logits_NK[keep_A] for logits_NK in self.history]
        return self._advance(lambda: self.walk.send(keep_A))

    def _advance(self, step: Callable[[], Exit]) -> Exit:
        return _advance(step, self.precision, self.count_N.device)

    def _ahead(self, index: int) -> Ahead:
        """Return what is ahead after an exit. This is the one place between stages where the device is waited for."""
        done_A, count_A = self.done_N[self.row_A], self.count_N[self.row_A]
        if not self.waiting_costs and bool(done_A.all()):
            return Ahead(0, False)
        ahead_A = (self.macs_EN[-1] - self.macs_EN[index])[self.row_A]
        sums = torch.stack([(~done_A).sum(), (count_A * ~done_A).sum(), (ahead_A * done_A).sum()])
        staying, particles, saved = sums.tolist()
        if self.event_budget is not None:  # work on a jet that has its answer would count against its event
            return Ahead(staying, staying < len(done_A))
        return Ahead(staying, saved > _SELECT_MACS + _SELECT_MACS_PER_PARTICLE * particles)


def _advance(step: Callable[[], Exit], precision: Precision, device: torch.device) -> Exit:
    """Return the next exit of a walk, computed in a precision, with its logits in float32 at least."""
    with half_products(precision, device):
        exit_ = step()
    logits_NK = widened(exit_.logits_NK)
    return exit_ if logits_NK is exit_.logits_NK else replace(exit_, logits_NK=logits_NK)


def _values(exit_: Exit) -> Float[Tensor, "N R"]:
    """Return what an exit predicts for the targets; R = 0 without targets."""
    return exit_.logits_NK[:, :0] if exit_.value_NR is None else exit_.value_NR


def consecutive(event_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
    """Return the event of each jet, renumbered from 0."""
    unit_N: Tensor = torch.unique(event_N, return_inverse=True)[1]
    return unit_N
