"""Inference that skips what an exit makes unnecessary."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Literal, TypeVar, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from phaze_ee.errors import UsageError
from phaze_ee.exits.policies import ExitPolicy
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import Exit, Jets

# Jets that go through the tagger together, at most: enough to hide the cost of calls, few enough to balance threads.
_CHUNK = 64
# A batch makes at least so many chunks, so that small batches occupy all threads; this does not depend on the number
# of threads, and so neither do the numbers that come out.
_CHUNKS = 4
# What it costs to drop jets from a state, as multiply-accumulates that take the same time: calls, and copying the
# particles that stay. Measured: half of 16 jets (340 particles stay) took 0.05 ms at 64 channels, 0.09 ms at 256,
# and grouping them anew for the neighbour search 0.05 ms, on a core that does 4e10 multiply-accumulates a second.
_SELECT_MACS = 4_000_000
_SELECT_MACS_PER_PARTICLE = 5_000

# The second argument is the number of threads; only compiled code uses them for a single jet.
_BACKENDS: dict[str, Callable[[Tagger, int], Tagger]] = {
    "auto": lambda tagger, _: tagger.unpadded(),
    "given": lambda tagger, _: tagger,
    "native": Tagger.native,
}


Result = TypeVar("Result")


@final
@dataclass(frozen=True)
class EngineResult:
    """Answers of an engine, one per jet, in the order of the input.

    ``logits_NK`` are those of the exit where the jet left, divided by the policy's temperature there. ``exit_index_N``
    counts the exits from 0; the full model is the last. ``macs_N`` are the multiply-accumulates that were really spent
    on a jet, with its own number of particles, in the form of the backbone that ran. ``visited_NEK`` are the logits,
    divided by the temperatures, of every exit up to the one where the jet left, the full model's last; not a number at
    exits that were not evaluated, and behind.
    """

    logits_NK: Float[Tensor, "N K"]
    exit_index_N: Int[Tensor, " N"]
    macs_N: Int[Tensor, " N"]
    visited_NEK: Float[Tensor, "N E K"]

    def cpu(self) -> "EngineResult":
        """Return the answers in the memory of the CPU."""
        return EngineResult(*(getattr(self, item.name).cpu() for item in fields(self)))


@final
class Engine:
    """Runs a tagger on jets and stops each at the exit where the policy lets it go.

    Jets go through the tagger in chunks, into which they are dealt by multiplicity. Several Python threads work on
    different chunks, each with one thread inside torch: torch's own threads wait for each other at every operation,
    which is much slower, for a single jet too.

    Args:
        tagger: in evaluation mode.
        policy: when jets leave; without one every jet gets the full model, and exits are not evaluated.
        threads: how many chunks are worked on at once.
        chunk_size: how many jets go through the tagger together, at most.
        backend: ``"auto"`` runs the form without padding where the network has one and lies on the CPU
            (:meth:`Tagger.unpadded`), ``"native"`` its compiled form (:meth:`Tagger.native`), ``"given"`` the tagger as
            it is.

    Raises:
        UsageError: the policy does not fit the tagger's exits, ``threads`` or ``chunk_size`` is not positive, the
            backend is unknown, the network has no native form, or that cannot be compiled.
    """

    def __init__(
        self,
        tagger: Tagger,
        policy: ExitPolicy | None = None,
        *,
        threads: int = 1,
        chunk_size: int = _CHUNK,
        backend: Literal["auto", "given", "native"] = "auto",
    ) -> None:
        if threads < 1 or chunk_size < 1:
            raise UsageError(f"threads = {threads} and chunk_size = {chunk_size}, but both must be at least 1")
        if backend not in _BACKENDS:
            raise UsageError(f"unknown backend {backend!r}; choose from {', '.join(_BACKENDS)}")
        if policy is not None:
            policy.check(len(tagger.exit_stages))
        self.tagger = _BACKENDS[backend](tagger, threads)
        self.policy = policy
        self.threads = threads
        self.chunk_size = chunk_size
        # Kept between calls, as are the memory and the settings that each thread has inside torch.
        self._pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))

    def __call__(self, jets: Jets) -> EngineResult:
        """Return the answers for a batch of jets.

        Raises:
            UsageError: the tagger is in training mode.
        """
        order_N, results = self._run_all(jets, lambda chunk: _Run(self.tagger, self.policy, chunk).finish())
        columns = [torch.cat(column) for column in zip(*results, strict=True)]
        return EngineResult(*(_reordered(column, order_N) for column in columns))

    def every_exit(self, jets: Jets) -> Float[Tensor, "E N K"]:
        """Return the logits of every exit for every jet, whatever the policy and its temperatures, the full model last.

        Raises:
            UsageError: the tagger is in training mode.
        """
        order_N, results = self._run_all(jets, self.tagger)
        return _reordered(torch.cat(results, dim=1).transpose(0, 1), order_N).transpose(0, 1)

    def _run_all(self, jets: Jets, run: Callable[[Jets], Result]) -> tuple[Int[Tensor, " N"], list[Result]]:
        """Run chunks of jets; return the order in which the jets stand in the chunks, and the chunks' results."""
        if self.tagger.training or self.tagger.backbone.training:
            raise UsageError("the tagger is in training mode; call tagger.eval() before it goes into an Engine")
        indices = self._chunk_indices(jets.particle_count_N.argsort(descending=True))
        order_N, chunks = torch.cat(indices), [jets.select(index_N) for index_N in indices]
        run = torch.inference_mode()(run)
        with _torch_threads(1):
            if self.threads == 1 or len(chunks) == 1:
                return order_N, [run(chunk) for chunk in chunks]
            return order_N, list(self._pool.map(run, chunks))

    def _chunk_indices(self, order_N: Int[Tensor, " N"]) -> list[Int[Tensor, " N"]]:
        """Deal jets that are sorted by multiplicity out to chunks, so that each chunk costs about the same."""
        if order_N.is_cuda:
            return [order_N]  # a GPU works on all jets at once
        count = max(1, min(len(order_N), max(_CHUNKS, -(-len(order_N) // self.chunk_size))))
        return [order_N[first::count] for first in range(count)]


@final
class _Run:
    """One chunk on its way through the tagger. A jet that has its answer is ``done``; it is dropped where that pays."""

    def __init__(self, tagger: Tagger, policy: ExitPolicy | None, jets: Jets) -> None:
        count_N = jets.particle_count_N
        self.policy = policy
        exits = () if policy is None else policy.exits
        self.walk = tagger.walk(jets, exits=exits)
        self.count_N = count_N
        self.macs_EN = tagger.exit_macs(count_N, exits=exits)
        self.row_A = torch.arange(len(count_N), device=count_N.device)  # which of the N jets are still on the walk
        self.done_N = torch.zeros_like(count_N, dtype=torch.bool)
        self.exit_index_N = torch.zeros_like(count_N)
        self.macs_N = torch.zeros_like(count_N)
        self.history: list[Tensor] = []

    def finish(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Walk until all jets have their answer; return the fields of :class:`EngineResult`."""
        exit_ = self._tempered(next(self.walk))
        logits_NK = exit_.logits_NK
        visited_NEK = logits_NK.new_full((len(logits_NK), len(self.macs_EN), logits_NK.shape[1]), torch.nan)
        while True:
            waiting_A = ~self.done_N[self.row_A]
            visited_NEK[self.row_A[waiting_A], exit_.index] = exit_.logits_NK[waiting_A]
            answered_A = self._leaves(exit_) & waiting_A
            self.exit_index_N[self.row_A[answered_A]] = exit_.index
            self.macs_N[self.row_A] = self.macs_EN[exit_.index, self.row_A]
            self.done_N[self.row_A[answered_A]] = True
            if bool(self.done_N.all()):
                logits_NK = visited_NEK[torch.arange(len(visited_NEK)), self.exit_index_N]
                return logits_NK, self.exit_index_N, self.macs_N, visited_NEK
            exit_ = self._tempered(self._next(exit_.index))

    def _tempered(self, exit_: Exit) -> Exit:
        temperatures = None if self.policy is None else self.policy.temperatures
        return exit_ if temperatures is None else replace(exit_, logits_NK=exit_.logits_NK / temperatures[exit_.index])

    def _leaves(self, exit_: Exit) -> Bool[Tensor, " A"]:
        if exit_.is_full_model or self.policy is None:
            return torch.ones_like(self.row_A, dtype=torch.bool)
        skipped = torch.full_like(exit_.logits_NK, torch.nan)
        self.history += [*[skipped] * (exit_.index - len(self.history)), exit_.logits_NK]
        return self.policy(torch.stack(self.history))

    def _next(self, index: int) -> Exit:
        done_A = self.done_N[self.row_A]
        if not self._dropping_pays(index, done_A):
            return next(self.walk)
        self.row_A = self.row_A[~done_A]
        self.history = [logits_NK[~done_A] for logits_NK in self.history]
        return self.walk.send(~done_A)

    def _dropping_pays(self, index: int, done_A: Bool[Tensor, " A"]) -> bool:
        ahead_A = (self.macs_EN[-1] - self.macs_EN[index])[self.row_A]
        staying = int(self.count_N[self.row_A][~done_A].sum())
        return int(ahead_A[done_A].sum()) > _SELECT_MACS + _SELECT_MACS_PER_PARTICLE * staying


def _reordered(value_N: Tensor, order_N: Tensor) -> Tensor:
    original_N = torch.empty_like(value_N)
    original_N[order_N] = value_N
    return original_N


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
