"""Networks on several collections of a jet: an embedding for each collection, then one network on all of them together.

weaver has such networks for particles and secondary vertices, its ``ParticleNetTagger`` and the like. The modules here
have the same layers under the same names, for any number of collections.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, pad
from weaver.nn.model.ParticleTransformer import SequenceTrimmer

from phaze_ee.errors import UsageError
from phaze_ee.models.backbone import Backbone, StateT, macs_per_row
from phaze_ee.models.states import fit_length
from phaze_ee.models.weaver import trim
from phaze_ee.shapes import Bool, Float, Int
from phaze_ee.slots import ragged_rows
from phaze_ee.transfer import constants
from phaze_ee.types import JetInputs, Jets, RaggedJets

PartT = TypeVar("PartT")
_NO_OPTIONS: Mapping[str, Any] = {}
OF_WEAVER = ("pf", "sv")  # the collections of weaver's own networks, in their order


def in_their_order(collections: Iterable[str], more: Mapping[str, PartT]) -> list[PartT]:
    """Return what belongs to the further collections of jets, in the order of a network.

    That of a network of weaver, ``pf`` and ``sv``, may have other names in the jets; then it is their own order.

    Args:
        collections: the names of all collections in the network.
        more: the same of further collections, by their names in the jets.
    """
    _, *names = collections
    return [more[name] for name in names] if set(names) == more.keys() else list(more.values())


class MergedNetwork(nn.Module):
    """The embeddings of several collections, and weaver's network on all particles together.

    In evaluation, the particles of a jet are put together without padding. In training, weaver's padding is kept,
    because BatchNorm depends on it.

    Args:
        core: the network. It has no embedding of its own.
        embeddings: by collection, the layers on its features. The particles are put together in this order.
        input_dropout: by collection, the probability to drop a particle in training.
        trims: shorten each collection in training by weaver's rule.
    """

    tagger_class: ClassVar[type[nn.Module]]  # weaver's network for the collections pf and sv
    core_name: ClassVar[str]  # weaver's name of the core in it
    layer_name: ClassVar[str]  # and the end of its names of embeddings
    width_keyword: ClassVar[str | None] = None  # weaver's keyword for the widths of an embedding, if the core has one
    clears_padding: ClassVar[bool] = True  # whether embedded padding is zero in training

    def __init__(
        self,
        core: nn.Module,
        embeddings: Mapping[str, nn.Module],
        *,
        input_dropout: Mapping[str, float] | None = None,
        trims: bool = True,
    ) -> None:
        super().__init__()
        self.collections = {name: self.channels_of(layer) for name, layer in embeddings.items()}
        self.trims = trims
        self.input_dropout = {name: float(rate) for name, rate in (input_dropout or {}).items() if rate}
        self.add_module(self.core_name, core)
        for name, layer in embeddings.items():
            self.add_module(f"{name}_{self.layer_name}", layer)
            self.add_module(f"{name}_trimmer", SequenceTrimmer(enabled=trims))

    @classmethod
    def of_weaver(cls, tagger: Any) -> Self:
        """Return the network in one of weaver, whose parameters are shared, not copied."""
        dropouts = {name: getattr(tagger, f"{name}_input_dropout", None) for name in OF_WEAVER}
        merged = cls(
            getattr(tagger, cls.core_name),
            {name: getattr(tagger, f"{name}_{cls.layer_name}") for name in OF_WEAVER},
            input_dropout={name: float(layer.p) for name, layer in dropouts.items() if layer is not None},
            trims=hasattr(tagger, "pf_trimmer") and bool(tagger.pf_trimmer.enabled),
        )
        return merged.train(tagger.training)

    @classmethod
    def around(
        cls, core: Any, channels: Mapping[str, int], *, embedding: Mapping[str, Any] = _NO_OPTIONS, **options: Any
    ) -> Self:
        """Return a network with new embeddings of collections with these numbers of features.

        Args:
            core: the network on all particles together.
            channels: by collection, the features of a particle.
            embedding: options of the embeddings.
            options: those of the constructor.
        """
        layers = {name: cls.new_embedding(core, count, **embedding) for name, count in channels.items()}
        return cls(core, layers, **options)

    @property
    def core(self) -> Any:
        """The network on all particles together."""
        return getattr(self, self.core_name)

    @property
    def embeddings(self) -> list[Any]:
        """The embedding of each collection."""
        return [getattr(self, f"{name}_{self.layer_name}") for name in self.collections]

    @property
    def arguments(self) -> dict[str, Any]:
        """Plain values with which :meth:`around` builds the same network."""
        return {
            "channels": self.collections,
            "embedding": self.options_of(self.embeddings[0]),
            "input_dropout": self.input_dropout,
            "trims": self.trims,
        }

    @staticmethod
    @abstractmethod
    def new_embedding(core: Any, channels: int, **options: Any) -> nn.Module:
        """Return a new embedding of particles with this number of features."""

    @staticmethod
    @abstractmethod
    def channels_of(layer: Any) -> int:
        """Return the number of features that an embedding takes."""

    @staticmethod
    def options_of(layer: Any) -> dict[str, Any]:
        """Return the options with which an embedding was made."""
        return {}

    @abstractmethod
    def embed(self, layer: Any, features_NCP: Float[Tensor, "N C P"], valid_N1P: Bool[Tensor, "N 1 P"]) -> Tensor:
        """Return the embedded features (N, C, P) of all slots of a collection."""

    def merge(self, inputs: Jets, *, keep_slots: bool = False) -> Jets:
        """Return jets of one collection, which has the embedded particles of all.

        Args:
            inputs: jets with these collections.
            keep_slots: keep the padding of each collection in evaluation too.

        Raises:
            UsageError: the jets have other collections.
        """
        parts = self._parts(inputs)
        return self._side_by_side(parts) if self.training or keep_slots else self._end_to_end(parts)

    def _parts(self, inputs: Jets) -> list[Jets]:
        more = inputs.more
        if len(more) + 1 != len(self.collections):
            raise UsageError(
                f"the network takes the collections {', '.join(self.collections)}, and the jets have "
                f"{', '.join(['one', *more])}; give JetInputs(…, more={{name: JetInputs(…)}}) with the others"
            )
        others: list[Any] = in_their_order(self.collections, more)
        return [inputs.alone(), *others]

    def _end_to_end(self, parts: Sequence[Jets]) -> RaggedJets:
        jets = [part.ragged() for part in parts]
        features = [self._embedded_rows(*pair) for pair in zip(self.embeddings, jets, strict=True)]
        count_NG = torch.stack([part.particle_count_N for part in jets], dim=1)
        row_V = _rows_by_jet(count_NG, sum(len(part.features_VC) for part in jets))

        def joined(rows: Sequence[Tensor | None]) -> Tensor | None:
            known = [row_VC for row_VC in rows if row_VC is not None]
            return torch.cat(known).index_select(0, row_V) if len(known) == len(rows) else None

        points, features_VC = joined([part.points_V2 for part in jets]), joined(features)
        assert points is not None
        assert features_VC is not None
        return RaggedJets(points, features_VC, joined([part.vectors_V4 for part in jets]), count_NG.sum(dim=1))

    def _embedded_rows(self, layer: Any, jets: RaggedJets) -> Float[Tensor, "V C"]:
        count = len(jets.features_VC)
        row_VC = jets.features_VC if count else pad(jets.features_VC, (0, 0, 0, 1))  # convolutions need a particle
        valid_11V = torch.ones(1, 1, len(row_VC), dtype=torch.bool, device=row_VC.device)
        embedded: Tensor = self.embed(layer, row_VC.T[None], valid_11V)
        return embedded[0].T[:count]

    def _side_by_side(self, parts: Sequence[Jets]) -> JetInputs:
        # First all are trimmed, then particles are dropped: the order in which weaver draws random numbers.
        jets = [self._trimmed(*pair) for pair in zip(self.collections, parts, strict=True)]
        jets = [self._thinned(*pair) for pair in zip(self.collections, jets, strict=True)]
        features = [self._embedded_slots(*pair) for pair in zip(self.embeddings, jets, strict=True)]
        momenta = [part.vectors for part in jets if part.vectors is not None]
        return JetInputs(
            torch.cat([part.points for part in jets], dim=-1),
            torch.cat(features, dim=-1),
            torch.cat(momenta, dim=-1) if len(momenta) == len(jets) else None,
            torch.cat([part.valid_N1P for part in jets], dim=-1),
        )

    def _trimmed(self, name: str, part: Jets) -> JetInputs:
        if not self.training:
            return fit_length(part, 1)
        return (
            trim(part, getattr(self, f"{name}_trimmer"), training=True, minimum_length=1).jets
            if self.trims
            else (part.padded())
        )

    def _thinned(self, name: str, jets: JetInputs) -> JetInputs:
        rate = self.input_dropout.get(name)
        if not self.training or rate is None:
            return jets
        return replace(jets, mask=dropout(jets.mask.to(jets.features.dtype), rate) != 0)

    def _embedded_slots(self, layer: Any, jets: JetInputs) -> Float[Tensor, "N C P"]:
        embedded: Tensor = self.embed(layer, jets.features, jets.valid_N1P)
        clears = self.clears_padding or not self.training
        return embedded.masked_fill(~jets.valid_N1P, 0) if clears else embedded


def _rows_by_jet(count_NG: Int[Tensor, "N G"], particles: int) -> Int[Tensor, " V"]:
    """Return the rows of the particles jet after jet, in each jet collection after collection.

    The given rows come collection after collection, in each of them jet after jet.
    """
    count_GN = count_NG.T
    first_GN = (count_GN.flatten().cumsum(0) - count_GN.flatten()).view(count_GN.shape)
    return ragged_rows(first_GN.T.flatten(), count_NG.flatten(), particles)


class MergingBackbone(Backbone[StateT], Generic[StateT]):
    """A backbone around a network of weaver for one collection, or around a :class:`MergedNetwork`.

    With several collections, the state before stage 0 is that after the embeddings.

    Args:
        mod: the network, whose parameters are shared and keep their names.
    """

    merged_class: ClassVar[type[MergedNetwork]]

    def __init__(self, mod: Any) -> None:
        super().__init__()
        self.mod = mod
        if isinstance(mod, MergedNetwork):
            self.collections = mod.collections

    @property
    def core(self) -> Any:
        """weaver's network on all particles together."""
        return self.mod.core if isinstance(self.mod, MergedNetwork) else self.mod

    @property
    def arguments(self) -> Mapping[str, Any]:
        own = self.core_arguments
        return {**own, "collections": self.mod.arguments} if isinstance(self.mod, MergedNetwork) else own

    @property
    def moved_keyword(self) -> str | None:
        return self.mod.width_keyword if isinstance(self.mod, MergedNetwork) else None

    @property
    @abstractmethod
    def core_arguments(self) -> Mapping[str, Any]:
        """Plain values from which weaver builds the same core."""

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any]) -> Self:
        own = {name: value for name, value in arguments.items() if name != "collections"}
        assert cls.weaver_class is not None
        core = cls.weaver_class(**own)
        collections = arguments.get("collections")
        return cls(core if collections is None else cls.merged_class.around(core, **collections))

    @classmethod
    def staged_classes(cls) -> Iterator[type[nn.Module]]:
        yield from super().staged_classes()
        yield from (cls.merged_class, cls.merged_class.tagger_class)

    @classmethod
    def from_weaver(cls, module: Any) -> Self:
        if type(module) is cls.merged_class.tagger_class:
            module = cls.merged_class.of_weaver(module)
        return cls(module)

    def merged(self, inputs: Jets, *, keep_slots: bool = False) -> Jets:
        """Return jets of one collection, which has the embedded particles of all; one collection is left as it is."""
        return self.mod.merge(inputs, keep_slots=keep_slots) if isinstance(self.mod, MergedNetwork) else inputs

    def missing_momenta(self, what: str, otherwise: str) -> UsageError:
        """Return the error about jets without four-momenta.

        Args:
            what: what the network makes of them.
            otherwise: how the network does without.
        """
        groups = [f"{name}_vectors" for name in self.collections or ("pf",)]
        some = " or some of their collections" if len(groups) > 1 else ""
        numbers = "; numbers of the jet alone go into a group *_globals" if len(groups) > 1 else ""
        return UsageError(
            f"{self.name} makes its {what} of four-momenta and the jets{some} have none: the inputs of the data_config "
            f"must have {', '.join(groups)} (px, py, pz, energy){numbers}; or set {otherwise} in network_options"
        )

    def embed_macs(self, counts_NG: Int[Tensor, "N G"]) -> Int[Tensor, " N"]:
        if not isinstance(self.mod, MergedNetwork):
            return super().embed_macs(counts_NG)
        macs_G = constants(tuple(map(macs_per_row, self.mod.embeddings)), counts_NG.dtype, counts_NG.device)
        return (counts_NG * macs_G).sum(dim=1)
