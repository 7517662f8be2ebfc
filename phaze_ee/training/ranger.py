"""Ranger, the optimiser of weaver: RAdam (arXiv:1908.03265) with Lookahead (arXiv:1907.08610)."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, final

import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from weaver.utils.nn.optimizer.lookahead import Lookahead
from weaver.utils.nn.optimizer.radam import RAdam

_KEY = "lookahead"


@final
class JoinedRAdam(RAdam):  # type: ignore[misc]  # weaver has no types
    """weaver's RAdam, the same numbers with few launches: parameters in float32 take a step together.

    weaver goes through them one after the other, with eight launches each.
    """

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None if closure is None else closure()
        if any(weight.dtype != torch.float32 for group in self.param_groups for weight in group["params"]):
            super().step()
            return loss
        for group in self.param_groups:
            by_step: dict[int, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    by_step[self.state[weight].get("step", 0) + 1].append(weight)
            for step, weights in by_step.items():
                _step(group, weights, [self.state[weight] for weight in weights], step)
        return loss


@torch.no_grad()
def _step(group: dict[str, Any], weights: list[Tensor], states: list[dict[str, Any]], step: int) -> None:
    """Take the step with this number with some parameters of a group."""
    for weight, state in zip(weights, states, strict=True):
        for name in ("exp_avg", "exp_avg_sq"):
            if name not in state:
                state[name] = torch.zeros_like(weight)
        state["step"] = step
    gradients: list[Any] = [weight.grad for weight in weights]
    means, squares = ([state[name] for state in states] for name in ("exp_avg", "exp_avg_sq"))
    beta1, beta2 = group["betas"]
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
    torch._foreach_mul_(means, beta1)
    torch._foreach_add_(means, gradients, alpha=1 - beta1)
    if group["weight_decay"] != 0:
        torch._foreach_add_(weights, weights, alpha=-group["weight_decay"] * group["lr"])
    rectified, size = _size(step, beta1, beta2)
    if rectified:
        deviations = torch._foreach_sqrt(squares)
        torch._foreach_add_(deviations, group["eps"])
        torch._foreach_addcdiv_(weights, means, deviations, value=-size * group["lr"])
    else:
        torch._foreach_add_(weights, means, alpha=-size * group["lr"])


def _size(step: int, beta1: float, beta2: float) -> tuple[bool, float]:
    """Return whether the variance is known well enough to be used, and the size of the step (arXiv:1908.03265)."""
    power = beta2**step
    most = 2 / (1 - beta2) - 1
    length = most - 2 * step * power / (1 - power)
    if length < 5:
        return False, 1.0 / (1 - beta1**step)
    variance = (1 - power) * (length - 4) / (most - 4) * (length - 2) / length * most / (most - 2)
    return True, math.sqrt(variance) / (1 - beta1**step)


@final
class Ranger(Lookahead):  # type: ignore[misc]  # weaver has no types
    """RAdam (arXiv:1908.03265) with Lookahead (arXiv:1907.08610), as ``weaver.utils.nn.optimizer.ranger.Ranger``.

    The ``state_dict`` of weaver lacks the slow weights and the step counter of Lookahead, so that a resumed training
    would take other steps than one without interruption. Here it has them.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float) -> None:
        # The parameters of Ranger in weaver.
        inner = JoinedRAdam(groups, lr=lr, betas=(0.95, 0.999), eps=1e-5, weight_decay=0)
        super().__init__(inner, alpha=0.5, k=6)

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = super().step(closure)
        # weaver changes them such that torch does not notice, and what was folded from them would be used again.
        increment_version([weight for group in self.param_groups for weight in group["params"]])
        return loss

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = super().state_dict()
        return {**state, _KEY: {"step": self.step_counter, "slow": [slow.clone() for slow in self._slow_weights()]}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict({name: value for name, value in state_dict.items() if name != _KEY})
        own = state_dict[_KEY]
        self.step_counter = own["step"]
        with torch.no_grad():
            for slow, saved in zip(self._slow_weights(), own["slow"], strict=True):
                slow.copy_(saved)

    def _slow_weights(self) -> list[Tensor]:
        return [self.state[weight]["cached_params"] for group in self.param_groups for weight in group["params"]]
