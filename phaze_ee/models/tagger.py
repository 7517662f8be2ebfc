"""A network with exits, and the one loop over its stages."""

from collections.abc import Collection, Generator, Iterator, Sequence
from typing import Any, cast, final

import torch
from torch import Tensor, nn

from phaze_ee.errors import UsageError
from phaze_ee.models.backbone import Backbone, Stages
from phaze_ee.models.heads import DEFAULT_SHAPE, EXIT_HEADS, ExitHead, HeadShape
from phaze_ee.models.links import EXIT_LINKS, ExitLink, Memory
from phaze_ee.models.outputs import TargetOutputs
from phaze_ee.models.states import GlobalsState
from phaze_ee.names import ExitStage, exit_names
from phaze_ee.registry import unknown, unknown_head
from phaze_ee.shapes import Float, Int
from phaze_ee.types import GLOBALS, Exit, Jets, State, globals_of

Walk = Generator[Exit, Tensor | None, None]


@final
class Tagger(nn.Module):
    """A backbone, and an exit head after each stage in ``exit_stages``.

    Args:
        backbone: the network.
        exit_stages: the stages after which a head sits, ascending; ``"input"`` is the state before stage 0.
        exit_head: a name in :data:`phaze_ee.models.heads.EXIT_HEADS`, or one name per exit.
        heads: the heads of another tagger, to share them; new ones by default.
        head_shape: width and depth of new heads.
        link: how an exit uses the answers of earlier exits, a name in :data:`phaze_ee.models.links.EXIT_LINKS`; or the
            link of another tagger, to share it.
        targets: the number of numbers R that network and heads predict beside the logits, as their last outputs; or the
            ``targets`` of another tagger, to share them. Links and policies act on the logits alone.

    Attributes:
        model_hash: the SHA-256 of the file that it was loaded from (:func:`phaze_ee.load`); None: of none. A policy of
            another file is refused.

    Raises:
        UsageError: a stage does not exist, is repeated or is out of order; a head or link is unknown; or the number of
            heads is not that of the exits.
    """

    model_hash: str | None = None

    def __init__(
        self,
        backbone: Stages[Any],
        exit_stages: Sequence[ExitStage],
        exit_head: str | Sequence[str] = "linear",
        heads: nn.ModuleList | None = None,
        *,
        head_shape: HeadShape = DEFAULT_SHAPE,
        link: str | ExitLink = "independent",
        targets: int | TargetOutputs | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.targets = TargetOutputs(targets) if isinstance(targets, int) and targets else targets or None
        self.globals_count = backbone.globals_count
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
            raise UsageError(unknown("exit_link", name))
        return EXIT_LINKS[name](len(self.exit_stages), self.class_count)

    def _channels(self, stage: ExitStage) -> int:
        own = self.backbone.input_channels if stage == "input" else self.backbone.stage_channels[stage]
        return own + self.globals_count

    @property
    def target_count(self) -> int:
        """The number of targets R."""
        return 0 if self.targets is None else self.targets.count

    @property
    def class_count(self) -> int:
        """The number of classes K."""
        return self.backbone.num_classes - self.target_count

    @property
    def exit_names(self) -> tuple[str, ...]:
        return exit_names(len(self.exit_stages) + 1)

    @property
    def architecture(self) -> Backbone[Any]:
        """The backbone, as a network that can be built again from its arguments; frozen features cannot."""
        assert isinstance(self.backbone, Backbone)
        return self.backbone

    def packed(self) -> "Tagger":
        """Return the tagger with the packed form of its backbone. Parameters, heads and buffers are shared.

        Both forms have the same ``state_dict``. Call ``train`` and ``eval`` on the form that you use.

        Raises:
            UsageError: the backbone has no packed form.
        """
        return self.with_backbone(self.backbone.packed())

    def fastest_form(self, device: torch.device | None = None) -> "Tagger":
        """Return the packed form, if the backbone has one and its device has fast code for it; else the tagger itself.

        That is a CUDA device with Triton, and for ParticleNet also the CPU. It holds for inference and for training:
        the packed form stores no padding, so it takes less memory than the padded one in both.

        Args:
            device: where the tagger will run; None: where its parameters are.
        """
        devices = {value.device for value in self.backbone.parameters()} if device is None else {device}
        is_fast = self.backbone.has_packed_form and all(map(self.backbone.packed_is_fast, devices))
        return self.packed() if is_fast else self

    def native(self) -> "Tagger":
        """Return the tagger with the native form of its backbone, see :meth:`packed`.

        Raises:
            UsageError: the backbone has no native form, or it cannot be compiled.
        """
        return self.with_backbone(self.backbone.native())

    def with_backbone(self, backbone: Stages[Any]) -> "Tagger":
        """Return a tagger on another backbone with the same stages. It shares the exits with this tagger."""
        twin = Tagger(
            backbone,
            self.exit_stages,
            self.head_names,
            self.heads,
            head_shape=self.head_shape,
            link=self.link,
            targets=self.targets,
        )
        twin.training = self.training
        twin.model_hash = self.model_hash
        return twin

    def exit_macs(
        self,
        particle_count_N: Int[Tensor, " N"] | Int[Tensor, "N G"],
        *,
        exits: Collection[int] | None = None,
    ) -> Int[Tensor, "E N"]:
        """Return the multiply-accumulates of jets that leave at each exit; the full model is the last.

        Args:
            particle_count_N: particles of each jet; a network with several collections needs those of each
                (``counts_NG`` of the jets).
            exits: the exits that are evaluated; None: all. Heads that the link needs for the answers of these exits
                and of the full model also count.

        Raises:
            UsageError: the numbers are not those of all collections.
        """
        counts_NG = particle_count_N[:, None] if particle_count_N.dim() == 1 else particle_count_N
        taken = self.backbone.collections
        if counts_NG.shape[1] != max(1, len(taken)):
            named = f"the collections {', '.join(taken)}" if taken else "one collection of particles"
            raise UsageError(
                f"{self.backbone.name} takes {named}, and the MACs were asked for numbers of particles in "
                f"{counts_NG.shape[1]}; give the counts_NG of the jets"
            )
        return self.walk_macs(counts_NG.sum(dim=1), exits=exits) + self.backbone.embed_macs(counts_NG)

    def walk_macs(
        self, particle_count_N: Int[Tensor, " N"], *, exits: Collection[int] | None = None
    ) -> Int[Tensor, "E N"]:
        """Return the multiply-accumulates as :meth:`exit_macs`, without the embeddings of several collections.

        Args:
            particle_count_N: particles of each jet, of all collections together.
            exits: as for :meth:`exit_macs`.
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
        """Return the multiply-accumulates of one exit head, with those that the link adds."""
        return cast(ExitHead, self.heads[index]).macs(particle_count_N) + self.link.macs(index)

    def walk(self, inputs: Jets, *, detach: bool = False, exits: Collection[int] | None = None) -> Walk:
        """Yield each exit as soon as it is computed, and the full model last.

        The caller may stop at any exit; later stages are not computed then. Or the caller may ``send`` a boolean mask
        (or an index) of the jets that continue: later exits then hold only these jets. The walk ends when no jet is
        left.

        Args:
            inputs: a batch of jets.
            detach: let no gradient flow from the exit heads into the backbone.
            exits: the exits to evaluate and yield; None: all; empty: only the full model. Other exits are evaluated
                only if the link needs them, and are not yielded.

        Raises:
            UsageError: the jets have other collections than the network takes.
        """
        evaluated = self.link.evaluated(exits)
        memory: Memory = ()
        self._check_collections(inputs)
        state = self._embed(inputs)
        for stage, index in self._route():
            if stage != "input":
                state = self._stage(stage, state)
            if index is None or index not in evaluated:
                continue
            exit_, memory = self._exit(index, state.detach() if detach else state, memory)
            keep_N = (yield exit_) if exits is None or index in exits else None
            if keep_N is not None:
                state, memory = state.select(keep_N), tuple(tensor[keep_N] for tensor in memory)
                if len(state) == 0:
                    return
        own_NK, value_NR = self._split(self._readout(state))
        logits_NK = self.link.full_model(own_NK, memory)
        yield Exit(len(self.exit_stages), None, logits_NK, logits_NK, value_NR)

    def _embed(self, inputs: Jets) -> Any:
        if not self.globals_count:
            return self.backbone.embed(inputs)
        globals_NG = globals_of(inputs)
        assert globals_NG is not None
        return GlobalsState(self.backbone.embed(inputs.particles()), globals_NG)

    def _stage(self, stage: int, state: Any) -> Any:
        if isinstance(state, GlobalsState):
            return GlobalsState(self.backbone.stage(stage, state.particles), state.globals_NG)
        return self.backbone.stage(stage, state)

    def _readout(self, state: Any) -> Float[Tensor, "N K+R"]:
        if isinstance(state, GlobalsState):
            logits: Tensor = cast(Any, self.backbone).readout(state.particles, state.globals_NG)
            return logits
        return self.backbone.readout(state)

    def _check_collections(self, inputs: Jets) -> None:
        own = getattr(inputs, "more", {})  # frozen features and the values of a file have no collections
        more = [name for name in own if name != GLOBALS]
        numbers = globals_of(inputs) if GLOBALS in own else None
        given = 0 if numbers is None else numbers.shape[1]
        if given != self.globals_count:
            raise UsageError(
                f"{self.backbone.name} takes {self.globals_count or 'no'} numbers of the jet itself (*_globals), and "
                f"the jets have {given or 'none'}; give phaze_ee.with_globals(jets, …), or jets.particles() without"
            )
        if more and not self.backbone.collections:
            raise UsageError(
                f"{self.backbone.name} takes one collection of particles, and the jets also have "
                f"{', '.join(more)}; give the jets without them (jets.alone()), or take a network for all"
            )

    def _route(self) -> Iterator[tuple[ExitStage, int | None]]:
        """Yield the stages in the order of the walk, each with the index of the exit after it, or None."""
        index_at = {stage: index for index, stage in enumerate(self.exit_stages)}
        stages: tuple[ExitStage, ...] = ("input", *range(len(self.backbone.stage_channels)))
        for stage in stages:
            yield stage, index_at.get(stage)

    def _exit(self, index: int, state: State, memory: Memory) -> tuple[Exit, Memory]:
        logits_NK, value_NR = self._split(self.heads[index](self.link.before_head(index, state)))
        linked = self.link(index, logits_NK, memory)
        return Exit(index, self.exit_stages[index], linked.logits_NK, linked.trained_NK, value_NR), linked.memory

    def _split(self, output_NO: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the logits, and the values of the targets where there are any."""
        return (output_NO, None) if self.targets is None else self.targets(output_NO)

    def forward(self, inputs: Jets, *, detach: bool = False) -> Float[Tensor, "E N K"]:
        """Return the logits of every exit, the full model last."""
        return torch.stack([exit_.logits_NK for exit_ in self.walk(inputs, detach=detach)])

    def every_answer(self, inputs: Jets) -> tuple[Float[Tensor, "E N K"], Float[Tensor, "E N R"]]:
        """Return the logits and the values of every exit, the full model last; R = 0 without targets."""
        exits = list(self.walk(inputs))
        logits_ENK = torch.stack([exit_.logits_NK for exit_ in exits])
        values = [exit_.value_NR for exit_ in exits if exit_.value_NR is not None]
        return logits_ENK, torch.stack(values) if values else logits_ENK[:, :, :0]


def check_exit_stages(exit_stages: Sequence[ExitStage], stage_count: int) -> tuple[ExitStage, ...]:
    """Return the stages as a tuple, after checking that they exist, are in order and are not repeated.

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
        UsageError: a name is unknown, or the number of names is not that of the exits.
    """
    names = (exit_head,) * exit_count if isinstance(exit_head, str) else tuple(exit_head)
    for name in (exit_head, *names) if isinstance(exit_head, str) else names:
        if (problem := unknown_head(name)) is not None:
            raise UsageError(problem)
    if len(names) != exit_count:
        raise UsageError(f"exit_head has {len(names)} names for {exit_count} exits; give one name, or one per exit")
    return names
