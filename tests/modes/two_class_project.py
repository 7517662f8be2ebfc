"""A project with a two-class data configuration, forty jets and a small network, ready to be evaluated."""

from pathlib import Path

import numpy as np
import torch
import uproot

from phaze_ee.models.checkpoint import Checkpoint, save_checkpoint
from phaze_ee.modes.request import Request
from phaze_ee.modes.session import Session
from phaze_ee.workspace import Project

JETS = 40

DATA_CONFIG = """
treename: Events
inputs:
  pf_points: {length: 16, vars: [p_eta, p_phi]}
  pf_features: {length: 16, vars: [p_eta, p_phi, p_pt]}
  pf_mask: {length: 16, vars: [p_mask]}
new_variables: {p_mask: "ak.ones_like(p_pt)"}
preprocess: {method: manual}
labels: {type: simple, value: [is_qcd, is_top]}
observers: [jet_id]
"""

CONFIG = """
def set_config(c):
    c.data_config = {folder!r} + "/two_classes.yaml"
    c.train_files = c.val_files = [{folder!r} + "/val.root"]
    c.conv_params = [(4, (8, 8)), (4, (8, 8))]
    c.fc_params = [(8, 0.1)]
    c.exit_head = "linear"  # a network as small as this is cheaper than Deep Sets
    c.beta_max = [1.0, 1.0]
    c.batch_size = 16
    c.num_workers = 0
    c.device = "cpu"
"""


def make_project(folder: Path, *extra_lines: str) -> Project:
    """Write the project's files; ``PHAZE_EE_WORKSPACES`` must point to ``folder``."""
    project = Project("Tops", "small")
    (folder / "two_classes.yaml").write_text(DATA_CONFIG, encoding="utf-8")
    write_jets(folder / "val.root", np.arange(JETS) % 2)
    project.config.parent.mkdir(parents=True)
    lines = "".join(f"    {line}\n" for line in extra_lines)
    project.config.write_text(CONFIG.format(folder=str(folder)) + lines, encoding="utf-8")
    return project


def write_jets(path: Path, is_top_N: np.ndarray) -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(3, len(is_top_N), 12)).astype(np.float32)
    with uproot.recreate(path) as file:
        columns = dict(zip(("p_eta", "p_phi", "p_pt"), values, strict=True))
        labels = {"is_qcd": is_top_N == 0, "is_top": is_top_N == 1, "jet_id": np.arange(len(is_top_N))}
        file.mktree("Events", dict.fromkeys(columns, ("f4", (12,))) | {n: v.dtype for n, v in labels.items()})
        file["Events"].extend(columns | labels)


def request(mode: str) -> Request:
    return Request(mode, "Tops", "small")


def save_best_model(
    project: Project, epoch: int = 3, seed: int = 1, *, with_options: bool = False, **flags: object
) -> None:
    """Write a best model with random weights, the same for a seed; with the options of the project, as train does."""
    torch.manual_seed(seed)
    session = Session.open(request("train")).with_flags(**flags)
    tagger = session.build(session.schema)
    options = session.options.model_dump(mode="json") if with_options else {}
    save_checkpoint(project.best_model, Checkpoint(tagger, options, session.schema.options, "", epoch, {}))
