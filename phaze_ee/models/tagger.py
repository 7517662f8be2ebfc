"""A backbone with exits, and the one loop over its stages."""

from collections.abc import Collection, Generator, Iterator, Sequence
from typing import Any, cast, final

import torch
from torch import Tensor, nn

from phaze_ee.errors import UsageError
from phaze_ee.models.backbone import Backbone
from phaze_ee.models.heads import DEFAULT_SHAPE, EXIT_HEADS, ExitHead, HeadShape
from phaze_ee.models.links import EXIT_LINKS, ExitLink, Memory
from phaze_ee.names import ExitStage, exit_names
from phaze_ee.shapes import Float, Int
from phaze_ee.types import Exit, Jets, State

Walk = Generator[Exit, Tensor | None, None]

# By these names users look for links among the heads.
_LINK_NAMES = {"ztw": "cascade", **{name: name for name in EXIT_LINKS}}


@final
class Tagger(nn.Module):
    """A backbone, and an exit head after each stage in ``exit_stages``.

    Args:
        backbone: the network.
        exit_stages: the stages after which a head sits, ascending; ``"input"`` stands for the state before stage 0.
        exit_head: the kind of head, a name in :data:`phaze_ee.models.heads.EXIT_HEADS`; or one name per exit.
        heads: the heads of another tagger, to share them; fresh ones by default.
        head_shape: how large the layers of fresh heads are.
        link: how the answers of exits build on each other, a name in :data:`phaze_ee.models.links.EXIT_LINKS`; or the
            link of another tagger, to share it.

    Raises:
        UsageError: a stage that the backbone does not have, stages repeated or out of order, an unknown head or link,
            or not as many heads as exits.
    """

    def __init__(
        self,
        backbone: Backbone[Any],
        exit_stages: Sequence[ExitStage],
        exit_head: str | Sequence[str] = "linear",
        heads: nn.ModuleList | None = None,
        *,
        head_shape: HeadShape = DEFAULT_SHAPE,
        link: str | ExitLink = "independent",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.exit_stages = check_exit_stages(exit_stages, len(backbone.stage_channels))
        self.head_names = check_head_names(exit_head, len(self.exit_stages))
        self.head_shape = head_shape
        self.heads = self._fresh_heads() if heads is None else heads
        self.link = link if isinstance(link, ExitLink) else self._fresh_link(link)

    def _fresh_heads(self) -> nn.ModuleList:
        return nn.ModuleList(
            EXIT_HEADS[name](self._channels(stage), self.backbone.num_classes, self.head_shape)
            for name, stage in zip(self.head_names, self.exit_stages, strict=True)
        )

    def _fresh_link(self, name: str) -> ExitLink:
        if name not in EXIT_LINKS:
            raise UsageError(f"unknown exit_link {name!r}; choose from {', '.join(EXIT_LINKS)}")
        return EXIT_LINKS[name](len(self.exit_stages), self.backbone.num_classes)

    def _channels(self, stage: ExitStage) -> int:
        return self.backbone.input_channels if stage == "input" else self.backbone.stage_channels[stage]

    @property
    def exit_names(self) -> tuple[str, ...]:
        return exit_names(len(self.exit_stages) + 1)

    def packed(self) -> "Tagger":
        """Return the same tagger with the backbone's packed form; parameters, heads and buffers are shared.

        Both forms have the same ``state_dict``. Call ``train`` and ``eval`` on the one that is used.

        Raises:
            UsageError: the backbone has no packed form.
        """
        return self.with_backbone(self.backbone.packed())

    def fastest_form(self) -> "Tagger":
        """Return the packed form on the CPU if the backbone has one, else the tagger itself."""
        on_cpu = all(parameter.device.type == "cpu" for parameter in self.backbone.parameters())
        return self.packed() if on_cpu and self.backbone.has_packed_form else self

    def native(self) -> "Tagger":
        """Return the same tagger with the backbone's native form, as :meth:`packed` does with the packed form.

        Raises:
            UsageError: the backbone has no native form, or it cannot be compiled.
        """
        return self.with_backbone(self.backbone.native())

    def with_backbone(self, backbone: Backbone[Any]) -> "Tagger":
        """Return a tagger with the same exits, shared with this one, on a backbone of the same stages."""
        twin = Tagger(
            backbone, self.exit_stages, self.head_names, self.heads, head_shape=self.head_shape, link=self.link
        )
        twin.training = self.training
        return twin

    def exit_macs(
        self, particle_count_N: Int[Tensor, " N"], *, exits: Collection[int] | None = None
    ) -> Int[Tensor, "E N"]:
        """Return the multiply-accumulates of jets that leave at each exit, by their number of particles.

        Args:
            particle_count_N: particles of each jet.
            exits: the exits that are asked for their answer; None: all. Heads that the link needs for these answers,
                and for the full model's, count as well.
        """
        evaluated = self.link.evaluated(exits)
        spent_N = torch.zeros_like(particle_count_N)
        at_exit: list[Tensor] = []
        for stage, index in self._route():
            if stage != "input":
                spent_N = spent_N + self.backbone.stage_macs(stage, particle_count_N)
            if index is not None:
                spent_N = spent_N + (self.head_macs(index, particle_count_N) if index in evaluated else 0)
                at_exit.append(spent_N)
        return torch.stack([*at_exit, spent_N + self.backbone.readout_macs(particle_count_N)])

    def head_macs(self, index: int, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        """Return the multiply-accumulates of one exit branch alone, with what the link adds there."""
        return cast(ExitHead, self.heads[index]).macs(particle_count_N) + self.link.macs(index)

    def walk(self, inputs: Jets, *, detach: bool = False, exits: Collection[int] | None = None) -> Walk:
        """Yield each exit as soon as it is computed, and the full model last.

        Whoever iterates may stop at any exit, and nothing behind it is computed. Or it may ``send`` a boolean mask
        (or an index) of the jets that go on: later exits then hold those jets only. When none is left the walk ends.

        Args:
            inputs: a batch of jets.
            detach: let no gradient flow from the exit heads into the backbone.
            exits: the exits to evaluate and yield; None: all, none of them: the full model alone. Other exits are
                evaluated only where the link needs them, and not yielded.
        """
        evaluated = self.link.evaluated(exits)
        memory: Memory = ()
        state = self.backbone.embed(inputs)
        for stage, index in self._route():
            if stage != "input":
                state = self.backbone.stage(stage, state)
            if index is None or index not in evaluated:
                continue
            exit_, memory = self._exit(index, state.detach() if detach else state, memory)
            keep_N = (yield exit_) if exits is None or index in exits else None
            if keep_N is not None:
                state, memory = state.select(keep_N), tuple(tensor[keep_N] for tensor in memory)
                if len(state) == 0:
                    return
        logits_NK = self.link.full_model(self.backbone.readout(state), memory)
        yield Exit(len(self.exit_stages), None, logits_NK, logits_NK)

    def _route(self) -> Iterator[tuple[ExitStage, int | None]]:
        """Yield the stages in the order of the walk, each with the index of the exit behind it, if there is one."""
        index_at = {stage: index for index, stage in enumerate(self.exit_stages)}
        stages: tuple[ExitStage, ...] = ("input", *range(len(self.backbone.stage_channels)))
        for stage in stages:
            yield stage, index_at.get(stage)

    def _exit(self, index: int, state: State, memory: Memory) -> tuple[Exit, Memory]:
        logits_NK = self.heads[index](self.link.before_head(index, state))
        linked = self.link(index, logits_NK, memory)
        return Exit(index, self.exit_stages[index], linked.logits_NK, linked.trained_NK), linked.memory

    def forward(self, inputs: Jets, *, detach: bool = False) -> Float[Tensor, "E N K"]:
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


def check_head_names(exit_head: str | Sequence[str], exit_count: int) -> tuple[str, ...]:
    """Return the names of the heads, one per exit.

    Raises:
        UsageError: a name is unknown, or there are not as many as exits.
    """
    names = (exit_head,) * exit_count if isinstance(exit_head, str) else tuple(exit_head)
    unknown = [name for name in (exit_head, *names) if isinstance(name, str) and name not in EXIT_HEADS]
    if unknown and unknown[0] in _LINK_NAMES:
        raise UsageError(
            f"exit_head {unknown[0]!r} is no head but a way in which exits build on each other; set exit_link = "
            f"{_LINK_NAMES[unknown[0]]!r}, and exit_head to one of {', '.join(EXIT_HEADS)}"
        )
    if unknown:
        raise UsageError(f"unknown exit_head {unknown[0]!r}; choose from {', '.join(EXIT_HEADS)}")
    if len(names) != exit_count:
        raise UsageError(f"exit_head has {len(names)} names for {exit_count} exits; give one name, or one per exit")
    return names
