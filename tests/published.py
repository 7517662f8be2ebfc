"""Published weights and real jets of ../shared, for tests that the ``shared_dir`` fixture guards."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from weaver.nn.model.ParticleNet import ParticleNet as WeaverParticleNet

from phaze_ee.types import JetInputs

INPUT_DIMS = {"kin": 7, "kinpid": 13, "full": 17}


def published_network(shared: Path, kind: str) -> WeaverParticleNet:
    """weaver's module with weights trained on 100M JetClass jets (MIT licence, jet-universe/particle_transformer)."""
    network = WeaverParticleNet(
        input_dims=INPUT_DIMS[kind],
        num_classes=10,
        conv_params=[(16, (64, 64, 64)), (16, (128, 128, 128)), (16, (256, 256, 256))],
        fc_params=[(256, 0.1)],
        use_fusion=False,
        use_fts_bn=True,
        use_counts=True,
        trim=False,
    )
    weights = torch.load(shared / "weights" / f"ParticleNet_{kind}.pt", map_location="cpu", weights_only=True)
    network.load_state_dict({name.removeprefix("mod."): value for name, value in weights.items()})
    return network.eval()


def real_jets(shared: Path) -> tuple[JetInputs, Tensor]:
    """248 JetClass jets with the seven kinematic inputs, standardised as the published YAML does (shared README)."""
    with np.load(shared / "data" / "jetclass_real_dev.npz") as archive:
        vectors, points, label = archive["vectors"].astype("f8"), archive["points"].astype("f8"), archive["label"]
    px, py, _, energy = np.moveaxis(vectors, 1, 0)
    valid = energy > 0
    jet_px, jet_py, _, jet_energy = vectors.sum(axis=2).T
    pt, jet_pt = np.hypot(px, py), np.hypot(jet_px, jet_py)[:, None]
    features = [
        0.7 * (_log(pt, valid) - 1.7),
        0.7 * (_log(energy, valid) - 2.0),
        0.7 * (_log(pt / jet_pt, valid) + 4.7),
        0.7 * (_log(energy / jet_energy[:, None], valid) + 4.7),
        4.0 * (np.hypot(points[:, 0], points[:, 1]) - 0.2),
    ]
    stacked = np.stack([*(np.clip(feature, -5, 5) for feature in features), points[:, 0], points[:, 1]], axis=1)
    filled = [torch.from_numpy(np.where(valid[:, None], value, 0)).float() for value in (points, stacked, vectors)]
    inputs = JetInputs(filled[0], filled[1], filled[2], torch.from_numpy(valid[:, None]).float())
    return inputs, torch.from_numpy(label)


def _log(value_NP: npt.NDArray[np.float64], valid_NP: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    logarithm: npt.NDArray[np.float64] = np.log(np.where(valid_NP, value_NP, 1.0))
    return logarithm
