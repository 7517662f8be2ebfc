"""A backbone with exits, and the one loop over its stages."""

from collections.abc import Generator, Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from phaze_ee.errors import UsageError
from phaze_ee.models.backbone import Backbone
from phaze_ee.models.heads import EXIT_HEADS
from phaze_ee.types import Exit, ExitStage, JetInputs, State, exit_names

Walk = Generator[Exit, Tensor | None, None]


@final
class Tagger(nn.Module):
    """A backbone, and an exit head after each stage in ``exit_stages``.

    Args:
        backbone: the network.
        exit_stages: the stages after which a head sits, ascending; ``"input"`` stands for the state before stage 0.
        exit_head: the kind of head, a name in :data:`phaze_ee.models.heads.EXIT_HEADS`.

    Raises:
        UsageError: a stage that the backbone does not have, stages repeated or out of order, an unknown head.
    """

    def __init__(self, backbone: Backbone[Any], exit_stages: Sequence[ExitStage], exit_head: str = "linear") -> None:
        super().__init__()
        self.backbone = backbone
        self.exit_stages = check_exit_stages(exit_stages, len(backbone.stage_channels))
        self.exit_head = exit_head
        if exit_head not in EXIT_HEADS:
            raise UsageError(f"unknown exit_head {exit_head!r}; choose from {', '.join(EXIT_HEADS)}")
        self.heads = nn.ModuleList(
            EXIT_HEADS[exit_head](self._channels(stage), backbone.num_classes) for stage in self.exit_stages
        )

    def _channels(self, stage: ExitStage) -> int:
        return self.backbone.input_channels if stage == "input" else self.backbone.stage_channels[stage]

    @property
    def exit_names(self) -> tuple[str, ...]:
        return exit_names(len(self.exit_stages) + 1)

    def walk(self, inputs: JetInputs, *, detach: bool = False) -> Walk:
        """Yield each exit as soon as it is computed, and the full model last.

        Whoever iterates may stop at any exit, and nothing behind it is computed. Or it may ``send`` a boolean mask
        (or an index) of the jets that go on: later exits then hold those jets only. When none is left the walk ends.

        Args:
            inputs: a batch of jets.
            detach: let no gradient flow from the exit heads into the backbone.
        """
        state = self.backbone.embed(inputs)
        index = 0
        for stage in ("input", *range(len(self.backbone.stage_channels))):
            if stage != "input":
                state = self.backbone.stage(int(stage), state)
            if stage in self.exit_stages:
                keep_N = yield self._exit(index, state.detach() if detach else state)
                index += 1
                if keep_N is not None:
                    state = state.select(keep_N)
                    if len(state) == 0:
                        return
        yield Exit(index, None, self.backbone.readout(state))

    def _exit(self, index: int, state: State) -> Exit:
        return Exit(index, self.exit_stages[index], self.heads[index](state))

    def forward(self, inputs: JetInputs, *, detach: bool = False) -> Float[Tensor, "E N K"]:
        """Return the logits of every exit, the full model last."""
        return torch.stack([exit_.logits_NK for exit_ in self.walk(inputs, detach=detach)])


def check_exit_stages(exit_stages: Sequence[ExitStage], stage_count: int) -> tuple[ExitStage, ...]:
    """Return the stages as a tuple if they exist, are in order and none is repeated.

    Raises:
        UsageError: otherwise.
    """
    possible: tuple[ExitStage, ...] = ("input", *range(stage_count))
    if any(stage not in possible for stage in exit_stages):
        raise UsageError(f"exit_stages {list(exit_stages)} name a stage that is not there; this network has {possible}")
    order = [possible.index(stage) for stage in exit_stages]
    if order != sorted(set(order)):
        raise UsageError(f"exit_stages {list(exit_stages)} must be in ascending order without repeats")
    return tuple(exit_stages)
