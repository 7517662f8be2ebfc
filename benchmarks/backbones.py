"""Compares the four networks on the same jets: parameters, MACs and accuracy of every exit, and training speed.

    python benchmarks/backbones.py [--files FILE ... --val-files FILE ... --test-files FILE ...] [--epochs 12]

All are small configurations with the same exits and the same training. Without files they train on the bundled jets.
Projects stay in $PHAZE_EE_WORKSPACES/backbones, and a second run prints their results.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.projects import Judged, judged

CONSOLE = Console(width=80)
NETWORKS: dict[str, dict[str, Any]] = {
    "ParticleNet": {"exit_stages": ["input", 0, 1, 2]},
    "ParticleTransformer": {
        "network_options": {
            "embed_dims": [64, 128, 64],
            "pair_embed_dims": [16, 16],
            "num_heads": 4,
            "num_layers": 4,
            "num_cls_layers": 1,
        },
        "exit_stages": ["input", 0, 1, 2, 3],
        "lr": 0.002,
    },
    "ParticleNeXt": {
        "network_options": {
            "node_dim": 16,
            "edge_dim": 8,
            "layer_params": [
                (8, 32, [(2, 1), (1, 1)], 32),
                (8, 64, [(2, 1), (1, 1)], 32),
                (8, 64, [(2, 1), (1, 1)], 32),
            ],
            "fc_params": [(64, 0.1)],
            "init_scale": 0.1,  # with the default 1e-5 its layers need many epochs to have an effect
        },
        "exit_stages": ["input", 0, 1, 2],
        "lr": 0.005,
    },
    "PFN": {"exit_stages": ["input", 0, 1, 2], "lr": 0.005},
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for part in ("", "val-", "test-"):
        parser.add_argument(f"--{part}files", nargs="+", default=[])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    return parser.parse_args()


def common(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options that all trainings share."""
    files = {"train_files": arguments.files, "val_files": arguments.val_files, "test_files": arguments.test_files}
    return {
        **{option: [str(Path(file).resolve()) for file in given] for option, given in files.items() if given},
        "epochs": arguments.epochs,
        "batch_size": 128,
        "beta_max": 1.0,
        "save_interval": arguments.epochs,
    }


def rows(name: str, found: Judged) -> list[list[str]]:
    """Return the rows of one network, the full model last."""
    cells = []
    for exit_name, cost in found.benchmark.exits.items():
        accuracy = found.evaluation.exits[exit_name].accuracy
        title = exit_name.replace("_", " ")
        cells.append([name, title, f"{cost.params:,}", f"{cost.macs / 1e6:.2f}", f"{100 * accuracy:.1f}", ""])
        name = ""
    cells[-1][-1] = f"{found.jets_per_second:,.0f}"
    return cells


def main() -> None:
    arguments = parse()
    judged_networks = {
        name: judged("backbones", name, {"model_name": name, **common(arguments), **NETWORKS[name]})
        for name in arguments.networks
    }
    sample = next(iter(judged_networks.values()))
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"{arguments.epochs} epochs; judged on {sample.evaluation.jets:,} jets; MACs of "
        f"{sample.benchmark.particles} particles, {sample.benchmark.input_channels} inputs",
    )
    for column in ("network", "exit"):
        table.add_column(column)
    for column in ("parameters", "MMACs", "accuracy %", "jets/s"):
        table.add_column(column, justify="right")
    for name, found in judged_networks.items():
        for row in rows(name, found):
            table.add_row(*row)
    CONSOLE.print(table)
    CONSOLE.print("jets/s: training with all exits, in the fastest epoch, on this machine's CPU.")


if __name__ == "__main__":
    main()
