"""Links: how the answer of an exit uses those of earlier exits."""

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import ClassVar, NamedTuple, final

import torch
from torch import Tensor, nn

from phaze_ee.registry import Registry
from phaze_ee.shapes import Float
from phaze_ee.types import State

# What a link keeps from the exits passed: tensors with one row per jet.
Memory = tuple[Float[Tensor, "N ..."], ...]


class Linked(NamedTuple):
    """The result of a link at one exit.

    Attributes:
        logits_NK: the answer.
        trained_NK: the logits on which the exit loss acts.
        memory: what the link gets at the next exit.
    """

    logits_NK: Float[Tensor, "N K"]
    trained_NK: Float[Tensor, "N K"]
    memory: Memory


class ExitLink(nn.Module, ABC):
    """Turns the logits of the heads into answers, one exit after the other. Exits count from 0.

    Every link is constructed with the same arguments.

    Args:
        exit_count: number of exits, without the full model.
        num_classes: number of classes K.

    Attributes:
        name: by which ``c.exit_link`` chooses the link.
        trains_answers: whether the link has parameters that learn from the cross-entropy of the answers, which is then
            added to the exit losses.
    """

    name: ClassVar[str]
    trains_answers: ClassVar[bool] = False

    def __init__(self, exit_count: int, num_classes: int) -> None:
        super().__init__()
        self.exit_count = exit_count
        self.num_classes = num_classes

    @abstractmethod
    def evaluated(self, exits: Collection[int] | None) -> Collection[int]:
        """Return the exits whose heads are needed for the answers of ``exits`` (None: all) and of the full model."""

    @abstractmethod
    def forward(self, index: int, logits_NK: Float[Tensor, "N K"], memory: Memory) -> Linked:
        """Return the answer of exit ``index``, from the logits of its head and the memory of earlier exits."""

    def full_model(self, logits_NK: Float[Tensor, "N K"], memory: Memory) -> Float[Tensor, "N K"]:
        """Return the answer of the full model, from the logits of its readout."""
        return logits_NK

    def before_head(self, index: int, state: State) -> State:
        """Return the input of the head of exit ``index``."""
        return state

    def macs(self, index: int) -> int:
        """Return the multiply-accumulates per jet that the link adds at an exit, in matrix products."""
        return 0


@final
class IndependentLink(ExitLink):
    """Each exit answers for itself."""

    name: ClassVar[str] = "independent"

    def evaluated(self, exits: Collection[int] | None) -> Collection[int]:
        return range(self.exit_count) if exits is None else exits

    def forward(self, index: int, logits_NK: Float[Tensor, "N K"], memory: Memory) -> Linked:
        return Linked(logits_NK, logits_NK, ())


@final
class CascadeLink(ExitLink):
    """Zero Time Waste (arXiv:2106.05409): a head sees the logits of the exit before, and answers are ensembles.

    f_k = head_k(state) + U_k sg(f_{k-1}), and log q_k = norm(b_k + mean over j ≤ k of exp(w_kj) log p_j), with
    p_j = softmax(f_j) and sg: no gradient. The exit loss trains f_k; w and b learn from the cross-entropy of q_k, where
    log p_j is a constant. U, w and b start at 0, so that an untrained ensemble is the geometric mean. The answer of
    the full model is its own.
    """

    name: ClassVar[str] = "cascade"
    trains_answers: ClassVar[bool] = True

    def __init__(self, exit_count: int, num_classes: int) -> None:
        super().__init__(exit_count, num_classes)
        self.from_previous = nn.ModuleList(
            nn.Linear(num_classes, num_classes, bias=False) for _ in range(1, exit_count)
        )
        for layer in self.from_previous.parameters():
            nn.init.zeros_(layer)
        self.weights = nn.ParameterList(torch.zeros(index + 1) for index in range(exit_count))
        self.biases = nn.ParameterList(torch.zeros(num_classes) for _ in range(exit_count))

    def evaluated(self, exits: Collection[int] | None) -> Collection[int]:
        return range(self.exit_count if exits is None else max(exits, default=-1) + 1)

    def forward(self, index: int, logits_NK: Float[Tensor, "N K"], memory: Memory) -> Linked:
        if index > 0:
            logits_NK = logits_NK + self.from_previous[index - 1](memory[-1])
        memory = (*memory, logits_NK.detach())
        log_p_ENK = torch.stack(memory).log_softmax(dim=-1)
        weight_E11 = self.weights[index].exp()[:, None, None]
        answer_NK = (self.biases[index] + (weight_E11 * log_p_ENK).mean(dim=0)).log_softmax(dim=-1)
        return Linked(answer_NK, logits_NK, memory)

    def macs(self, index: int) -> int:
        return self.num_classes**2 if index > 0 else 0


@final
class BoostedLink(ExitLink):
    """The exits are weak learners of one boosted ensemble; the full model is the last (BoostNet, arXiv:2211.16726).

    F_k = f_k + sg(E_{k-1}) is the answer, and the exit loss acts on it; E_k = t (f_k + E_{k-1}), E_0 = 0, t = 1/2. The
    gradient of head k into the backbone is scaled by 1 / (K - k + 1), with K the full model, because many heads share
    the first layers and their gradients add up there (arXiv:1908.06294).
    """

    name: ClassVar[str] = "boosted"
    reweighting: ClassVar[float] = 0.5

    def __init__(self, exit_count: int, num_classes: int) -> None:
        super().__init__(exit_count, num_classes)
        # Counted from 1, exit `index` is k = index + 1 of K = exit_count + 1.
        self.scales = nn.ModuleList(_ScaledGradient(1 / (exit_count - index + 1)) for index in range(exit_count))

    def evaluated(self, exits: Collection[int] | None) -> Collection[int]:
        return range(self.exit_count)

    def forward(self, index: int, logits_NK: Float[Tensor, "N K"], memory: Memory) -> Linked:
        boosted_NK = self.full_model(logits_NK, memory)
        return Linked(boosted_NK, boosted_NK, (self.reweighting * boosted_NK.detach(),))

    def full_model(self, logits_NK: Float[Tensor, "N K"], memory: Memory) -> Float[Tensor, "N K"]:
        return logits_NK + memory[0] if memory else logits_NK

    def before_head(self, index: int, state: State) -> State:
        return state.map(self.scales[index]) if torch.is_grad_enabled() else state


class _ScaledGradient(nn.Module):
    """The identity; in the backward pass, the gradient is multiplied by a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, value: Tensor) -> Tensor:
        return torch.lerp(value.detach(), value, self.factor)


EXIT_LINKS: Registry[type[ExitLink]] = Registry("exit_link", ExitLink)
