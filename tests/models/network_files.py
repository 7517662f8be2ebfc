"""Network files as users write them, for tests of what makes a tagger of them."""

from pathlib import Path

# The shape of the published files: a wrapper with the network as ``mod``, architecture fixed, options of its own.
PUBLISHED_STYLE = """
import torch
from weaver.nn.model.ParticleNet import ParticleNet


class ParticleNetWrapper(torch.nn.Module):
    def __init__(self, **kwargs):
        super().__init__()
        self.mod = ParticleNet(**kwargs)

    def forward(self, points, features, lorentz_vectors, mask):
        return self.mod(points, features, mask)


def get_model(data_config, **kwargs):
    settings = dict(
        input_dims=len(data_config.input_dicts["pf_features"]),
        num_classes=len(data_config.label_value),
        conv_params=kwargs.get("conv_params", [(7, (32, 32, 32)), (7, (64, 64, 64))]),
        fc_params=kwargs.get("fc_params", [(128, 0.1)]),
        use_fusion=kwargs.get("use_fusion", False),
        use_fts_bn=kwargs.get("use_fts_bn", True),
        use_counts=kwargs.get("use_counts", True),
    )
    return ParticleNetWrapper(**settings), {"input_names": list(data_config.input_names)}


def get_loss(data_config, **kwargs):
    return torch.nn.CrossEntropyLoss()
"""

HARD_CODED = """
from weaver.nn.model.ParticleNet import ParticleNet


def get_model(data_config, **kwargs):
    network = ParticleNet(
        input_dims=7, num_classes=10, conv_params=[(5, (8, 8)), (5, (12, 12)), (5, (16, 16))], fc_params=[(16, 0.2)],
        use_fts_bn=True, use_fusion=False,
    )
    return network, {}
"""


def write(folder: Path, content: str) -> Path:
    path = folder / "network.py"
    path.write_text(content, encoding="utf-8")
    return path


# For fine-tuning: the module around the network has the head, wholly (Particle Transformer) or its last layer.
HEAD_OUTSIDE = """
import torch
from torch import nn
from weaver.nn.model.ParticleNet import ParticleNet
from weaver.nn.model.ParticleTransformer import ParticleTransformer


class Headless(nn.Module):
    def __init__(self, mod, head, keep_momenta):
        super().__init__()
        self.fc_out = head
        self.mod = mod
        self.probabilities = nn.Softmax(dim=1)
        self.keep_momenta = keep_momenta

    def forward(self, points, features, lorentz_vectors, mask):
        if self.keep_momenta:
            return self.fc_out(self.mod(features, v=lorentz_vectors, mask=mask))
        return self.fc_out(self.mod(points, features, mask))


HEADS = {
    "last": lambda width, classes: nn.Linear(width, classes),
    "nested": lambda width, classes: nn.Sequential(
        nn.Sequential(nn.Linear(width, 12), nn.ReLU(), nn.Dropout(0.2)), nn.Linear(12, classes)
    ),
    "flat": lambda width, classes: nn.Sequential(
        nn.Linear(width, 12), nn.GELU(), nn.Dropout(0.2), nn.Linear(12, 10), nn.GELU(), nn.Dropout(0.1),
        nn.Linear(10, classes),
    ),
    "unbiased": lambda width, classes: nn.Linear(width, classes, bias=False),
    "other": lambda width, classes: nn.Sequential(nn.LayerNorm(width), nn.Linear(width, classes)),
}


def get_model(data_config, kind="ParticleNet", head="last", **kwargs):
    features, classes = len(data_config.input_dicts["pf_features"]), len(data_config.label_value)
    if kind == "ParticleNet":
        width = 16
        mod = ParticleNet(
            input_dims=features, num_classes=classes, conv_params=[(4, (8, 8)), (4, (12, 12))],
            fc_params=[(width, 0.1)], use_fts_bn=True, use_fusion=False,
        )
        mod.fc = mod.fc[:-1]
    else:
        width = 8
        mod = ParticleTransformer(
            input_dim=features, num_classes=None, fc_params=None, pair_input_dim=4, embed_dims=[16, width],
            pair_embed_dims=[4], num_heads=2, num_layers=2, num_cls_layers=1,
        )
    return Headless(mod, HEADS[head](width, classes), kind != "ParticleNet"), {}
"""
