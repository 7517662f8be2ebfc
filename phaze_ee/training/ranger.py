"""weaver's Ranger, with a state from which it goes on as if it had never stopped."""

from collections.abc import Iterable
from typing import Any, final

import torch
from torch import Tensor
from weaver.utils.nn.optimizer.lookahead import Lookahead
from weaver.utils.nn.optimizer.radam import RAdam

_KEY = "lookahead"


@final
class Ranger(Lookahead):  # type: ignore[misc]  # weaver has no types
    """RAdam (arXiv:1908.03265) with Lookahead (arXiv:1907.08610), as ``weaver.utils.nn.optimizer.ranger.Ranger``.

    weaver's ``state_dict`` leaves out Lookahead's slow weights and its counter, so that a training that is resumed from
    it takes other steps than one that was never interrupted. This one has them.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float) -> None:
        # The values of weaver's Ranger.
        super().__init__(RAdam(groups, lr=lr, betas=(0.95, 0.999), eps=1e-5, weight_decay=0), alpha=0.5, k=6)

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
