"""Inference in which each jet stops at the exit that its policy chooses."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import Literal, TypeVar, final, get_args

import torch
from torch import Tensor

from phaze_ee.engine.audit import Audit, Audited, ChunkAudit
from phaze_ee.engine.checked_jets import check_jets
from phaze_ee.engine.dealing import deal
from phaze_ee.engine.event_budget import EventBudget
from phaze_ee.engine.graphs import GraphWalks
from phaze_ee.engine.run import ChunkRun, EngineResult, MacsTable, consecutive, run_full_model
from phaze_ee.errors import UsageError
from phaze_ee.exits.policies import ExitPolicy, ThresholdPolicy
from phaze_ee.machine import Precision
from phaze_ee.models.precision import checked_precision, float32_products, half_products, widened
from phaze_ee.models.tagger import Tagger, Walk
from phaze_ee.models.threads import ThreadTeam
from phaze_ee.shapes import Float, Int
from phaze_ee.types import Jets

# The most jets that go through the tagger together: enough for those that stay after an exit to hide the cost of calls
# (benchmarks/cascade.py), and few enough to balance threads.
_CHUNK = 512
_ANSWERS = 5  # fields of EngineResult without those that are keywords
_BACKENDS: dict[str, Callable[[Tagger], Tagger]] = {
    "auto": Tagger.fastest_form,
    "given": lambda tagger: tagger,
    "native": Tagger.native,
}

Result = TypeVar("Result")


@final
class Engine:
    """Runs a tagger on jets and stops each jet at the exit where the policy lets it leave.

    Jets go through the tagger in chunks. They are dealt out by multiplicity, so that all chunks cost about the same;
    for a network that pads to its longest jet, a chunk has jets of similar length. Threads work on different chunks,
    and share the edge computation of another thread's chunk when no chunk is left (:mod:`phaze_ee.models.threads`).

    Args:
        tagger: the tagger, in evaluation mode.
        policy: decides where jets leave; None: every jet gets the full model, and no exit is evaluated.
        threads: the number of chunks that run at the same time.
        chunk_size: the most jets that go through the tagger together.
        event_budget: what the jets of an event may cost together; needs a :class:`ThresholdPolicy`. A number is the
            multiply-accumulates of an :class:`EventBudget`.
        backend: ``"auto"`` runs the form without padding if the network has one and is on the CPU, or on a CUDA device
            with Triton (:meth:`Tagger.fastest_form`), ``"native"`` the compiled form (:meth:`Tagger.native`),
            ``"given"`` the tagger as it is.
        audit: with which probability jets that leave early go on to the full model; the result then has ``audit``. A
            number is the rate of an :class:`Audit`.
        precision: of the operands of products on CUDA: ``"float32"``, ``"tf32"``, ``"float16"`` or ``"bfloat16"``; sums
            are in float32. Whether products use TF32 is a setting of the process while the engine runs, so engines of
            different precision must not run at the same time in one process.
        graphs: replay a call with one jet as CUDA graphs (:mod:`phaze_ee.engine.graphs`), which takes a fraction of the
            time once a jet with as many particles has been answered. Calls from several threads take turns, and must be
            on one CUDA stream.

    Raises:
        UsageError: the policy does not fit the tagger's exits, the budget or the audit, ``threads`` or ``chunk_size``
            is not positive, the backend or the precision is unknown, the network has no native form or it cannot be
            compiled, the device does not have the precision, the policy was calibrated in another one or for another
            model, or graphs are wanted of a network or on a device that does not have them.
    """

    def __init__(
        self,
        tagger: Tagger,
        policy: ExitPolicy | None = None,
        *,
        threads: int = 1,
        chunk_size: int = _CHUNK,
        backend: Literal["auto", "given", "native"] = "auto",
        event_budget: EventBudget | float | None = None,
        audit: Audit | float | None = None,
        precision: Precision = "float32",
        graphs: bool = False,
    ) -> None:
        if threads < 1 or chunk_size < 1:
            raise UsageError(f"threads = {threads} and chunk_size = {chunk_size}, but both must be at least 1")
        if backend not in _BACKENDS:
            raise UsageError(f"unknown backend {backend!r}; choose from {', '.join(_BACKENDS)}")
        if precision not in get_args(Precision):
            raise UsageError(f"unknown precision {precision!r}; choose from {', '.join(get_args(Precision))}")
        if policy is not None:
            policy.check(len(tagger.exit_stages))
        if isinstance(policy, ThresholdPolicy):
            policy.check_model(tagger.model_hash)
            policy.check_precision(precision)
        if precision != "float32":
            checked_precision(precision, next(tagger.parameters()).device)
        self.precision = precision
        if event_budget is not None and not isinstance(policy, ThresholdPolicy):
            raise UsageError("an event budget needs a ThresholdPolicy, whose score says which jets go on first")
        self.event_budget = EventBudget(event_budget) if isinstance(event_budget, int | float) else event_budget
        self.audit = Audit(audit) if isinstance(audit, int | float) else audit
        _check_audit(self.audit, policy, self.event_budget)
        self.tagger = _BACKENDS[backend](tagger)
        self.policy = policy
        self.chunk_size = chunk_size
        self._exits = () if policy is None else policy.exits
        self._macs = MacsTable(self.tagger, self._exits)
        self._graphs = GraphWalks(self.tagger, self._exits) if graphs else None
        self._graphs_at_work = Lock() if graphs else nullcontext()
        self._team = ThreadTeam(threads)

    def __call__(
        self, jets: Jets, event_N: Int[Tensor, " N"] | None = None, *, draw_N: Float[Tensor, " N"] | None = None
    ) -> EngineResult:
        """Return the answers for a batch of jets.

        Args:
            jets: the batch.
            event_N: the event of each jet, any integers; needed with an event budget, ignored otherwise.
            draw_N: a random number in [0, 1) for each jet, which is audited if it is below the probability; needed with
                an audit, ignored otherwise.

        Raises:
            UsageError: the jets do not fit the network, the tagger is in training mode, ``event_N`` is not one number
                for each jet although there is an event budget, or ``draw_N`` not one in [0, 1) although there is an
                audit.
        """
        check_jets(self.tagger, jets)
        device = jets.total_count_N.device
        if self.event_budget is None:
            units = torch.arange(len(jets), device=device)
        else:
            units = consecutive(_checked_events(event_N, len(jets))).to(device)
        draws = None if self.audit is None else _checked_draws(draw_N, len(jets)).to(device)

        def run(chunk: Jets, index_N: Tensor) -> tuple[Tensor, ...]:
            if self.policy is None:
                return run_full_model(self._walk(chunk), chunk, self._macs, self.precision)
            audit = None if self.audit is None or draws is None else ChunkAudit(self.audit, draws[index_N])
            return ChunkRun(
                self._walk(chunk),
                self.policy,
                chunk,
                self._macs,
                self.event_budget,
                units[index_N],
                audit,
                self.precision,
            ).finish()

        with self._graphs_at_work:
            order_N, results = self._run_all(jets, units, run)
        if len(results) == 1:  # the jets are in their order
            return _result(results[0])
        columns = [torch.cat(column) for column in zip(*results, strict=True)]
        return _result([_reordered(column, order_N) for column in columns])

    def _walk(self, chunk: Jets) -> Walk:
        if self._graphs is not None and len(chunk) == 1:
            return self._graphs(chunk)
        return self.tagger.walk(chunk, exits=self._exits)

    def every_exit(self, jets: Jets) -> Float[Tensor, "E N K"]:
        """Return the logits of every exit for every jet, the full model last; policy and temperatures have no effect.

        Raises:
            UsageError: the tagger is in training mode.
        """
        return self.every_answer(jets)[0]

    def every_answer(self, jets: Jets) -> tuple[Float[Tensor, "E N K"], Float[Tensor, "E N R"]]:
        """Return :meth:`every_exit`, and what each exit predicts for the R targets; R = 0 without targets.

        Raises:
            UsageError: the tagger is in training mode.
        """

        def run(chunk: Jets) -> tuple[Tensor, Tensor]:
            with half_products(self.precision, chunk.total_count_N.device):
                logits_ENK, value_ENR = self.tagger.every_answer(chunk)
                return widened(logits_ENK), widened(value_ENR)

        order_N, results = self.in_chunks(jets, run)
        logits_ENK, value_ENR = (
            _reordered(torch.cat(parts, dim=1).transpose(0, 1), order_N).transpose(0, 1)
            for parts in zip(*results, strict=True)
        )
        return logits_ENK, value_ENR

    def in_chunks(self, jets: Jets, run: Callable[[Jets], Result]) -> tuple[Int[Tensor, " N"], list[Result]]:
        """Run a function of the caller on chunks of a batch, on the engine's threads.

        Args:
            jets: the batch.
            run: called with each chunk.

        Returns:
            The indices of the jets in the order of the chunks, and the result of each chunk.

        Raises:
            UsageError: the tagger is in training mode.
        """
        check_jets(self.tagger, jets)
        unit_N = torch.arange(len(jets), device=jets.total_count_N.device)
        return self._run_all(jets, unit_N, lambda chunk, _: run(chunk))

    def _run_all(
        self, jets: Jets, unit_N: Int[Tensor, " N"], run: Callable[[Jets, Tensor], Result]
    ) -> tuple[Int[Tensor, " N"], list[Result]]:
        """Run chunks of jets; return the indices of the jets in the order of the chunks, and the chunks' results.

        ``run`` gets a chunk and the indices of its jets. ``unit_N`` is the unit of each jet, counted from 0, on the
        device of the jets; the jets of a unit stay together.
        """
        if self.tagger.training or self.tagger.backbone.training:
            raise UsageError("the tagger is in training mode; call tagger.eval() before it goes into an Engine")
        count_N = jets.total_count_N
        checked_precision(self.precision, count_N.device)
        indices = deal(self.tagger, count_N, unit_N, self.chunk_size)
        with float32_products(self.precision, count_N.device), _as_current(count_N.device):
            if len(indices) == 1:  # all jets, in their order: nothing to select
                return indices[0], self._team.map(run, [jets], indices)
            order_N, chunks = torch.cat(indices), [jets.select(index_N) for index_N in indices]
            return order_N, self._team.map(run, chunks, indices)


def _as_current(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which this is the current CUDA device, on which Triton launches kernels."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _check_audit(audit: Audit | None, policy: ExitPolicy | None, event_budget: EventBudget | None) -> None:
    if audit is None:
        return
    if policy is None:
        raise UsageError("an audit needs a policy: without one every jet gets the full model")
    if event_budget is not None:
        raise UsageError("an audit and an event budget do not go together: audited jets would use up the budget")
    if audit.near > 0 and not isinstance(policy, ThresholdPolicy):
        raise UsageError("an audit near the threshold needs a ThresholdPolicy")


def _checked_events(event_N: Tensor | None, jets: int) -> Tensor:
    if event_N is None:
        raise UsageError("an engine with an event budget needs event_N, the event of each jet")
    event_N = torch.as_tensor(event_N)  # an array of NumPy may come here
    if event_N.shape != (jets,):
        raise UsageError(f"event_N has the shape {tuple(event_N.shape)}; give {jets} numbers, the event of each jet")
    return event_N


def _checked_draws(draw_N: Tensor | None, jets: int) -> Tensor:
    if draw_N is None:
        raise UsageError("an engine with an audit needs draw_N, a random number in [0, 1) for each jet")
    draw_N = torch.as_tensor(draw_N)
    if draw_N.shape != (jets,) or not bool(((draw_N >= 0) & (draw_N < 1)).all()):
        raise UsageError(f"draw_N is not {jets} random numbers in [0, 1), one for each jet; torch.rand makes them")
    return draw_N.double()


def _result(columns: Sequence[Tensor]) -> EngineResult:
    answers, value_NR, *audited = columns[:_ANSWERS], *columns[_ANSWERS:]
    return EngineResult(*answers, audit=Audited(*audited) if audited else None, value_NR=value_NR)


def _reordered(value_N: Tensor, order_N: Tensor) -> Tensor:
    original_N = torch.empty_like(value_N)
    original_N[order_N] = value_N
    return original_N
