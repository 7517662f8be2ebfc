"""ParticleNeXt in stages around weaver-core's own module."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from weaver.nn.model.ParticleNeXt import ParticleNeXt as WeaverParticleNeXt
from weaver.nn.model.ParticleTransformer import SequenceTrimmer

from phaze_ee.errors import UsageError
from phaze_ee.models.backbone import Backbone
from phaze_ee.models.graph_state import GraphState, NeighbourGraph
from phaze_ee.models.macs import macs_per_row
from phaze_ee.models.padded import fit_length
from phaze_ee.models.particle_next_arguments import arguments_of, check_can_be_staged, input_channels, pair_options
from phaze_ee.models.trimming import trim
from phaze_ee.types import JetInputs, Jets

# Where weaver moves padding to before neighbours are searched; in training each slot elsewhere, by this factor.
_FAR_AWAY, _SPREAD = 1e9, 1e6


@final
class ParticleNeXt(Backbone[GraphState]):
    """ParticleNeXt (H. Qu, ML4Jets 2021): edge convolutions at several scales, with attention over the neighbours.

    The parameters, layers and names are those of weaver-core's module, held as ``mod``; only the order of calls is
    written here. Stage 0 encodes particles, finds neighbours, encodes the edges to them and runs the first layer; each
    further stage is one layer. In training the batch is trimmed as weaver trims it (to a random quantile of the
    lengths, after five warm-up calls); in evaluation to its longest jet, from the first call on. Neighbours are
    searched in full precision whatever the precision of the layers. For a jet without particles the aggregation gives
    zeros, where weaver's attention gives no number.

    Raises:
        UsageError: the module is made for segmentation or export, changes jets in training, or wants inputs that jets
            here do not have.
    """

    name: ClassVar[str] = "ParticleNeXt"
    weaver_class: ClassVar[type[nn.Module] | None] = WeaverParticleNeXt
    pads_to_longest: ClassVar[bool] = True

    def __init__(self, mod: WeaverParticleNeXt) -> None:
        super().__init__()
        check_can_be_staged(mod)
        self.mod = mod
        self.input_channels = input_channels(mod)
        self.num_classes = int(mod.fc[-1].out_features)
        self.stage_channels = tuple(int(layer.gamma.shape[0]) for layer in mod.layers)
        self.minimum_length = int(mod.num_neighbors)
        self.trimmer = SequenceTrimmer(enabled=mod.trim)

    @property
    def arguments(self) -> Mapping[str, Any]:
        return arguments_of(self.mod)

    def embed(self, inputs: Jets) -> GraphState:
        jets = self._trim(inputs.padded())
        if not pair_options(self.mod)["use_rel_lv_fts"]:
            jets = replace(jets, vectors=None)
        elif jets.vectors is None:
            raise UsageError(
                "ParticleNeXt makes its edges of four-momenta and the jets have none: add pf_vectors (px, py, pz, "
                "energy) to the inputs of the data_config, or set use_rel_lv_fts to False in network_options"
            )
        valid_N1P = jets.valid_N1P
        return GraphState(
            replace(jets.map(lambda tensor: tensor.where(valid_N1P, 0)), mask=valid_N1P), self.minimum_length
        )

    def _trim(self, jets: JetInputs) -> JetInputs:
        if not self.training:
            return fit_length(jets, self.minimum_length)
        # weaver cuts here to no fewer slots than there are neighbours. Its trimmer has no such bound, and so is told
        # that each jet has so many particles; which of them are real, it takes along.
        valid_N1P = jets.valid_N1P
        slot_P = torch.arange(valid_N1P.shape[-1], device=valid_N1P.device)
        features = torch.cat([jets.features, valid_N1P.to(jets.features.dtype)], dim=1)
        marked = replace(jets, features=features, mask=valid_N1P | (slot_P < self.minimum_length))
        trimmed = trim(marked, self.trimmer, training=True, minimum_length=self.minimum_length)
        return replace(trimmed, features=trimmed.features[:, :-1], mask=trimmed.features[:, -1:].bool())

    def stage(self, index: int, state: GraphState) -> GraphState:
        if index == 0:
            state = self._build_graph(state)
        jets, graph = state.jets, state.graph
        points, features = self.mod.layers[index](
            points=jets.points,
            features=jets.features[..., None],
            lorentz_vectors=jets.vectors,
            mask=jets.mask,
            idx=None if graph is None else graph.index_NPk,
            null_edge_pos=None if graph is None else graph.null_N1Pk,
            edge_inputs=None if graph is None else graph.edges_NCPk,
            lvs_ngbs=None if graph is None else graph.vectors_N4Pk,
        )
        return replace(state, jets=replace(jets, points=points, features=features[..., 0]))

    def _build_graph(self, state: GraphState) -> GraphState:
        jets = state.jets
        points = self._with_padding_far_away(jets)
        features = self.mod.node_encode(jets.features[..., None])[..., 0]
        graph = None if self.mod.knn is None else self._nearest_neighbours(points, jets)
        return replace(state, jets=replace(jets, points=points, features=features), graph=graph)

    def _with_padding_far_away(self, jets: JetInputs) -> Float[Tensor, "N 2 P"]:
        padding = ~jets.valid_N1P
        points = jets.points.masked_fill(padding, _FAR_AWAY)
        # weaver does so too: otherwise all padding would have the same neighbours.
        return points + _SPREAD * torch.rand_like(points) * padding if self.training else points

    def _nearest_neighbours(self, points: Float[Tensor, "N 2 P"], jets: JetInputs) -> NeighbourGraph:
        with torch.no_grad(), torch.autocast(points.device.type, enabled=False):
            index_NPk = self.mod.knn(points)
            edges, _, vectors, null_N1Pk = self.mod.get_graph_feature(lvs=jets.vectors, mask=jets.mask, idx=index_NPk)
        return NeighbourGraph(index_NPk, null_N1Pk, None if edges is None else self.mod.edge_encode(edges), vectors)

    def readout(self, state: GraphState) -> Float[Tensor, "N K"]:
        features = self.mod.post(state.jets.features[..., None])[..., 0]
        padding = ~state.jets.valid_N1P
        logits: Tensor = self.mod.fc(self._aggregate(features, padding))
        return logits

    def _aggregate(self, features_NCP: Tensor, padding_N1P: Tensor) -> Float[Tensor, "N C"]:
        kind = self.mod.global_aggregation
        if "attn" in kind:
            # In a jet without particles the softmax is not a number, and everything is padding.
            attention = self.mod.sa(features_NCP).masked_fill(padding_N1P, -torch.inf).softmax(dim=-1)
            attention = attention.masked_fill(padding_N1P, 0).repeat(1, self.mod.sa_repeat or 1, 1)
            return torch.sum(attention * features_NCP, dim=-1)
        features_NCP = features_NCP.masked_fill(padding_N1P, 0)
        if kind == "max":
            return torch.amax(features_NCP, dim=-1)
        count_N1 = (~padding_N1P).sum(dim=-1).clamp(min=1) if kind == "mean" else 1
        return torch.sum(features_NCP, dim=-1) / count_N1

    def stage_macs(self, index: int, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        layer, slots_N = self.mod.layers[index], particle_count_N.clamp(min=self.minimum_length)
        per_jet, per_particle = _layer_macs(layer)
        if index == 0:
            per_particle += macs_per_row(self.mod.node_encode)
            if self.mod.knn is not None:
                per_particle += self.mod.num_neighbors * macs_per_row(self.mod.edge_encode)
        # Of a distance, one of the two coordinates is a matrix product.
        searched = slots_N if index == 0 or self.mod.knn is None else 0
        return slots_N * (per_particle + searched) + per_jet

    def readout_macs(self, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        attends = "attn" in self.mod.global_aggregation
        per_particle = macs_per_row(self.mod.sa) if attends else 0
        return particle_count_N.clamp(min=self.minimum_length) * per_particle + macs_per_row(self.mod.fc)


def _layer_macs(layer: Any) -> tuple[int, int]:
    """Return the multiply-accumulates of a layer for each jet and for each particle."""

    def macs(name: str) -> int:
        module = getattr(layer, name, None)
        return 0 if module is None else macs_per_row(module)

    lengths = [len(range(layer.k)[part]) for part in layer.slices]
    edges = min(layer.k, sum(layer.slice_dims))
    per_particle = sum(macs(name) for name in ("node_encode", "lv_encode", "node_mlp", "shortcut"))
    # Of the parts that look at one scale each, there is one for each scale, all of the same size.
    at_scales = sum(macs(name) for name in ("sa", "coords_mlp", "lv_sa")) // len(lengths)
    return macs("edge_se") + macs("node_se"), per_particle + edges * macs("edge_mlp") + sum(lengths) * at_scales
