"""ParticleNeXt in stages, around the module of weaver-core."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn
from weaver.nn.model.ParticleNeXt import ParticleNeXt as WeaverParticleNeXt
from weaver.nn.model.ParticleNeXt import ParticleNeXtTagger
from weaver.nn.model.ParticleTransformer import SequenceTrimmer

from phaze_ee.config.sections import MOST_NEIGHBOURS
from phaze_ee.errors import UsageError, one_line
from phaze_ee.models.backbone import macs_per_row
from phaze_ee.models.merged import MergedNetwork, MergingBackbone
from phaze_ee.models.states import GraphState, NeighbourGraph, beside, fit_length
from phaze_ee.models.weaver import built_again, is_head, refuse, trim
from phaze_ee.shapes import Bool, Float, Int
from phaze_ee.types import JetInputs, Jets

_AUGMENTATIONS = ("input_dropout", "pt_dropout", "lorentz_vector_scale", "lorentz_vector_smear", "lorentz_vector_shift")


def check_can_be_staged(mod: Any) -> None:
    """Raise a UsageError if a module of weaver cannot be divided into stages or built again."""
    reasons = {
        "for_segmentation = True answers for each particle, and exits need one answer for a jet": mod.for_segmentation,
        "for_inference = True is for export to ONNX; build it without": mod.for_inference,
        "its fc is not hidden layers with ReLU and Dropout, then a Linear": not is_head(mod.fc, nn.ReLU),
        f"each particle has at most {MOST_NEIGHBOURS:,} neighbours, here {mod.num_neighbors:,}": (
            mod.num_neighbors > MOST_NEIGHBOURS
        ),
        "edge_input_dim > 0 needs edge inputs, which no data_config here has; set 0": _edge_input_dim(mod) > 0,
        **{
            f"{name} changes the jets in training, which exits do not; set it to None": getattr(mod, name)
            for name in _AUGMENTATIONS
        },
    }
    refuse("ParticleNeXt", reasons)
    _check_runs(built_again(mod, arguments_of(mod)))


def _check_runs(twin: Any) -> None:
    channels, k = input_channels(twin), twin.num_neighbors
    try:
        with torch.device("meta"):
            twin.eval()(torch.zeros(1, 2, k), torch.zeros(1, channels, k), torch.zeros(1, 4, k), torch.ones(1, 1, k))
    except (RuntimeError, TypeError) as error:
        raise UsageError(
            "weaver's ParticleNeXt does not run with these options: lv_aggregation needs use_rel_lv_fts, use_rel_dist "
            "needs update_coords, and update_coords needs edge_dim = 0 and one scale in each layer "
            f"({one_line(error)})"
        ) from error


def arguments_of(mod: Any) -> dict[str, Any]:
    """Return plain values from which weaver-core builds the same architecture.

    The initial value of the scales (init_scale) is not among them, because the weights are loaded afterwards.
    """
    layer = mod.layers[0]
    return {
        "feature_input_dim": input_channels(mod),
        "num_classes": int(mod.fc[-1].out_features),
        "node_dim": _encoded_channels(mod.node_encode),
        "edge_dim": _encoded_channels(mod.edge_encode),
        "use_node_bn": not isinstance(mod.node_encode, nn.Identity),
        "use_edge_bn": isinstance(mod.edge_encode, nn.BatchNorm2d),
        "layer_params": [_layer_params(block) for block in mod.layers],
        "fc_params": [[int(hidden[0].out_features), float(hidden[2].p)] for hidden in mod.fc[:-1]],
        "global_aggregation": str(mod.global_aggregation),
        "edge_aggregation": str(layer.edge_aggregation),
        **pair_options(mod),
        "update_coords": bool(layer.update_coords),
        "lv_aggregation": bool(layer.lv_aggregation),
        "use_node_se": layer.node_se is not None,
        "use_edge_se": layer.edge_se is not None,
        "trim": bool(mod.trim),
    }


def input_channels(mod: Any) -> int:
    """Return the number of features of a particle that the network takes."""
    normalisation = _normalisation(mod.node_encode)
    return _node_channels(mod.layers[0]) if normalisation is None else normalisation.num_features


def _encoded_channels(encode: Any) -> int:
    convolution: Any = encode[1] if isinstance(encode, nn.Sequential) else None
    return 0 if convolution is None else int(convolution.out_channels)


def _node_channels(layer: Any) -> int:
    """Return the number of channels of a particle that a layer takes."""
    shortcut: Any = layer.shortcut
    return len(layer.gamma) if isinstance(shortcut, nn.Identity) else int(shortcut[0].in_channels)


def pair_options(mod: Any) -> dict[str, bool]:
    """Return the options about the features of pairs of a particle and its neighbour."""
    names = ("use_rel_lv_fts", "use_polarization_angle", "use_rel_fts", "use_rel_dist")
    keywords = mod.layers[0].get_graph_feature.keywords
    return {name: bool(keywords[name]) for name in names}


def _edge_input_dim(mod: Any) -> int:
    layer, pairs = mod.layers[0], pair_options(mod)
    made_here = pairs["use_rel_dist"] + (4 + pairs["use_polarization_angle"]) * pairs["use_rel_lv_fts"]
    normalisation = _normalisation(mod.edge_encode)
    if normalisation is None:
        return int(layer.edge_mlp[0].num_features) - _message_channels(layer) - made_here
    return normalisation.num_features - made_here


def _normalisation(encode: nn.Module) -> nn.BatchNorm2d | None:
    """Return the first layer of an encoder; None for the identity."""
    return next((layer for layer in encode.modules() if isinstance(layer, nn.BatchNorm2d)), None)


def _message_channels(layer: Any) -> int:
    channels: int = layer.edge_mlp[-1].out_channels
    return channels


def _layer_params(layer: Any) -> list[Any]:
    # A slice ends at k // reduction, and k // (k // reduction) is a reduction with the same end.
    scales = [[layer.k // part.stop, part.step] for part in layer.slices]
    return [int(layer.k), int(layer.gamma.shape[0]), scales, _message_channels(layer)]


@final
class MergedParticleNeXt(MergedNetwork):
    """A convolution on the features of each collection, then ParticleNeXt on all particles, as ParticleNeXtTagger."""

    tagger_class: ClassVar[type[nn.Module]] = ParticleNeXtTagger
    core_name: ClassVar[str] = "pn"
    layer_name: ClassVar[str] = "encode"
    width_keyword: ClassVar[str | None] = "node_dim"
    clears_padding: ClassVar[bool] = False

    @staticmethod
    def new_embedding(core: Any, channels: int, **options: Any) -> nn.Module:
        convolution = nn.Conv1d(channels, _node_channels(core.layers[0]), 1, bias=False, **options)
        return nn.Sequential(nn.BatchNorm1d(channels), convolution)

    @staticmethod
    def channels_of(layer: Any) -> int:
        return int(layer[0].num_features)

    def embed(self, layer: Any, features_NCP: Float[Tensor, "N C P"], valid_N1P: Bool[Tensor, "N 1 P"]) -> Tensor:
        embedded_NCP: Tensor = layer(features_NCP)
        return embedded_NCP


# Before the neighbour search, weaver moves padding this far away, and in training spreads its slots by this factor.
_FAR_AWAY, _SPREAD = 1e9, 1e6


@final
class ParticleNeXt(MergingBackbone[GraphState]):
    """ParticleNeXt (H. Qu, ML4Jets 2021): edge convolutions at several scales, with attention over the neighbours.

    The parameters, layers and names are those of the module of weaver-core, held as ``mod``; this class only calls them
    in order. Stage 0 encodes the particles, finds their neighbours, encodes the edges and runs the first layer; each
    further stage is one layer. In training, the batch is trimmed as in weaver (to a random quantile of the lengths,
    after five warm-up calls); in evaluation, to its longest jet, from the first call. Neighbours are searched in full
    precision. For a jet without particles, the aggregation returns zeros, where the attention of weaver returns NaN.

    Args:
        mod: the module of weaver, whose parameters are shared.

    Raises:
        UsageError: the module is for segmentation or export, changes jets in training, or needs inputs that jets do not
            have here.
    """

    name: ClassVar[str] = "ParticleNeXt"
    weaver_class: ClassVar[type[nn.Module] | None] = WeaverParticleNeXt
    merged_class: ClassVar[type[MergedNetwork]] = MergedParticleNeXt
    pads_to_longest: ClassVar[bool] = True

    def __init__(self, mod: WeaverParticleNeXt | MergedParticleNeXt) -> None:
        super().__init__(mod)
        core = self.core
        check_can_be_staged(core)
        self.input_channels = input_channels(core)
        self.num_classes = int(core.fc[-1].out_features)
        self.stage_channels = tuple(int(layer.gamma.shape[0]) for layer in core.layers)
        self.minimum_length = int(core.num_neighbors)
        self.trimmer = SequenceTrimmer(enabled=core.trim)

    @property
    def core_arguments(self) -> Mapping[str, Any]:
        return arguments_of(self.core)

    def embed(self, inputs: Jets) -> GraphState:
        jets = self._trim(self.merged(inputs))
        if not pair_options(self.core)["use_rel_lv_fts"]:
            jets = replace(jets, vectors=None)
        elif jets.vectors is None:
            raise self.missing_momenta("edges", "use_rel_lv_fts to False")
        valid_N1P = jets.valid_N1P
        if not (self.training and self.collections):  # there, BatchNorm sees what weaver's embeddings make of padding
            jets = jets.map(lambda tensor: tensor.where(valid_N1P, 0))
        return GraphState(replace(jets, mask=valid_N1P), self.minimum_length)

    def _trim(self, inputs: Jets) -> JetInputs:
        if not self.training:
            return fit_length(inputs, self.minimum_length)
        jets = inputs.padded()
        # weaver keeps at least as many slots as neighbours. Its trimmer has no such limit, so it gets a mask with that
        # many particles in each jet, and the real mask as one more feature.
        valid_N1P = jets.valid_N1P
        slot_P = torch.arange(valid_N1P.shape[-1], device=valid_N1P.device)
        features = torch.cat([jets.features, valid_N1P.to(jets.features.dtype)], dim=1)
        marked = replace(jets, features=features, mask=valid_N1P | (slot_P < self.minimum_length))
        trimmed = trim(marked, self.trimmer, training=True, minimum_length=self.minimum_length).jets
        return replace(trimmed, features=trimmed.features[:, :-1], mask=trimmed.features[:, -1:].bool())

    def stage(self, index: int, state: GraphState) -> GraphState:
        if index == 0:
            state = self._build_graph(state)
        jets, graph = state.jets, state.graph
        points, features = self.core.layers[index](
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
        features = self.core.node_encode(jets.features[..., None])[..., 0]
        graph = None if self.core.knn is None else self._nearest_neighbours(points, jets)
        return replace(state, jets=replace(jets, points=points, features=features), graph=graph)

    def _with_padding_far_away(self, jets: JetInputs) -> Float[Tensor, "N 2 P"]:
        padding = ~jets.valid_N1P
        points = jets.points.masked_fill(padding, _FAR_AWAY)
        # As in weaver: otherwise all padding would have the same neighbours.
        return points + _SPREAD * torch.rand_like(points) * padding if self.training else points

    def _nearest_neighbours(self, points: Float[Tensor, "N 2 P"], jets: JetInputs) -> NeighbourGraph:
        with torch.no_grad(), torch.autocast(points.device.type, enabled=False):
            index_NPk = self.core.knn(points)
            edges, _, vectors, null_N1Pk = self.core.get_graph_feature(lvs=jets.vectors, mask=jets.mask, idx=index_NPk)
        return NeighbourGraph(index_NPk, null_N1Pk, None if edges is None else self.core.edge_encode(edges), vectors)

    @property
    def readout_layers(self) -> nn.Module:
        layers: nn.Module = self.core.fc
        return layers

    def readout(self, state: GraphState, globals_NG: Tensor | None = None) -> Float[Tensor, "N K"]:
        features = self.core.post(state.jets.features[..., None])[..., 0]
        padding = ~state.jets.valid_N1P
        logits: Tensor = self.core.fc(beside(self._aggregate(features, padding), globals_NG))
        return logits

    def _aggregate(self, features_NCP: Tensor, padding_N1P: Tensor) -> Float[Tensor, "N C"]:
        kind = self.core.global_aggregation
        if "attn" in kind:
            # In a jet without particles, the softmax is NaN, and all slots are padding.
            attention = self.core.sa(features_NCP).masked_fill(padding_N1P, -torch.inf).softmax(dim=-1)
            attention = attention.masked_fill(padding_N1P, 0).repeat(1, self.core.sa_repeat or 1, 1)
            return torch.sum(attention * features_NCP, dim=-1)
        features_NCP = features_NCP.masked_fill(padding_N1P, 0)
        if kind == "max":
            return torch.amax(features_NCP, dim=-1)
        count_N1 = (~padding_N1P).sum(dim=-1).clamp(min=1) if kind == "mean" else 1
        return torch.sum(features_NCP, dim=-1) / count_N1

    def stage_macs(self, index: int, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        layer, slots_N = self.core.layers[index], particle_count_N.clamp(min=self.minimum_length)
        per_jet, per_particle = _layer_macs(layer)
        if index == 0:
            per_particle += macs_per_row(self.core.node_encode)
            if self.core.knn is not None:
                per_particle += self.core.num_neighbors * macs_per_row(self.core.edge_encode)
        # Of a distance, one of the two coordinates is a matrix product.
        searched = slots_N if index == 0 or self.core.knn is None else 0
        return slots_N * (per_particle + searched) + per_jet

    def readout_macs(self, particle_count_N: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
        attends = "attn" in self.core.global_aggregation
        per_particle = macs_per_row(self.core.sa) if attends else 0
        return particle_count_N.clamp(min=self.minimum_length) * per_particle + macs_per_row(self.core.fc)


def _layer_macs(layer: Any) -> tuple[int, int]:
    """Return the multiply-accumulates of a layer per jet, and per particle."""

    def macs(name: str) -> int:
        module = getattr(layer, name, None)
        return 0 if module is None else macs_per_row(module)

    lengths = [len(range(layer.k)[part]) for part in layer.slices]
    edges = min(layer.k, sum(layer.slice_dims))
    per_particle = sum(macs(name) for name in ("node_encode", "lv_encode", "node_mlp", "shortcut"))
    # Some parts exist once for each scale, all of the same size.
    at_scales = sum(macs(name) for name in ("sa", "coords_mlp", "lv_sa")) // len(lengths)
    return macs("edge_se") + macs("node_se"), per_particle + edges * macs("edge_mlp") + sum(lengths) * at_scales
