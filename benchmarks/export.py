"""Compares exported files with weaver's own export in ONNX Runtime, jet by jet on one thread, as a C++ user runs them.

    python benchmarks/export.py SHARED [--jets 62] [--rounds 11] [--project WORKSPACE/PROJECT] [--particle-transformer]

ParticleNet with the published weights and real jets of SHARED; the exits have random weights, and their thresholds
decide where all jets leave. The C++ program of the tests reads preprocess.json, pads, and calls ONNX Runtime with one
jet. All files take turns; times are CPU times. With a project, a ParticleNet whose policy is calibrated, its file is
run on jets of the background, against weaver's export of the same network.
"""

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from torch import Tensor, nn
from weaver.nn.model.ParticleTransformer import ParticleTransformer as WeaverParticleTransformer

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import phaze_ee
from phaze_ee.config.load import load_options
from phaze_ee.config.options import Options
from phaze_ee.data.schema import DataSchema
from phaze_ee.exits.policies import ThresholdPolicy
from phaze_ee.export.bundle import Export, write_bundle, write_preprocessing
from phaze_ee.export.card import Origin
from phaze_ee.models.build import adopt, build_network
from phaze_ee.models.particle_net.native.build import find_compiler
from phaze_ee.models.particle_net.padded import ParticleNet
from phaze_ee.models.particle_transformer import ParticleTransformer
from phaze_ee.models.tagger import Tagger
from phaze_ee.types import JetInputs
from phaze_ee.workspace import find_file
from tests.export.test_consumers import libraries
from tests.published import published_network, real_jets

DATA_CONFIG = ROOT / "data_configs" / "JetClass_ParT_kin.yaml"
FEW = torch.arange(2)  # jets, for tracing
_STREAM = 1000  # jets of the background
Race = tuple[JetInputs, DataSchema, dict[str, str]]
NEVER, ALWAYS = 2.0, 0.0
WEAVER, WEAVER_PADDED = "weaver's export, trimmed", "weaver's export, padded to 128"
BARS = {
    "no exits": (1.5, 4.5),
    "three exits, none taken": (1.45, None),
    "all leave after block 0": (15, None),
    "all leave on the inputs": (150, None),
    "QCD jets, calibrated policy": (60, 180),
    "ParT, no exits": (1, None),
    "ParT, all leave after block 1": (4, None),
}


class Probabilities(nn.Module):
    """A network of weaver with the softmax of its export."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.softmax(self.network(*inputs), dim=1)


def write_weaver(folder: Path, network: Any, schema: DataSchema, names: Sequence[str], jets: JetInputs) -> None:
    """Export as weaver does, by tracing."""
    folder.mkdir()
    tensors = {"pf_points": jets.points, "pf_features": jets.features, "pf_vectors": jets.vectors, "pf_mask": jets.mask}
    axes = {name: {0: "N", 2: "P"} for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Probabilities(network).eval(),
            tuple(tensors[name] for name in names),
            str(folder / "model.onnx"),
            input_names=list(names),
            output_names=["softmax"],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
    write_preprocessing(schema.weaver, list(names), folder / "preprocess.json")


def write_ours(folder: Path, tagger: Tagger, thresholds: Sequence[float], schema: DataSchema) -> None:
    policy = ThresholdPolicy("confidence", thresholds) if thresholds else None
    origin = Origin("benchmark", None, schema.options, schema.class_names)
    write_bundle(folder, Export(tagger, policy, schema, origin, one_jet=True))


def raw_variables(jets: JetInputs, schema: DataSchema) -> dict[str, np.ndarray]:
    """Return the variables (N, P) before their standardisation, which the C++ program does again."""
    tensors = {"pf_points": jets.points, "pf_features": jets.features, "pf_vectors": jets.vectors, "pf_mask": jets.mask}
    raw = {}
    for group, names in schema.weaver.input_dicts.items():
        tensor = tensors[group]
        assert tensor is not None
        for channel, name in enumerate(names):
            settings = schema.weaver.preprocess_params[name]
            value = tensor[:, channel].numpy()
            raw[name] = value if settings["center"] is None else value / settings["scale"] + settings["center"]
    return raw


def write_jets(path: Path, variables: Mapping[str, np.ndarray], count_N: Sequence[int]) -> Path:
    """Write jets for the C++ program."""
    stacked_NVP = np.stack(list(variables.values()), axis=1).astype(np.float32)
    pieces = [
        np.int32(count).tobytes() + np.ascontiguousarray(jet[:, :count]).tobytes()
        for jet, count in zip(stacked_NVP, count_N, strict=True)
    ]
    path.write_bytes(" ".join(variables).encode() + b"\n" + b"".join(pieces))
    return path


def timed(program: Path, jets: Path, rounds: int, folders: Mapping[str, str]) -> dict[str, float]:
    """Return the microseconds of each folder, by its title."""
    command: list[str | Path] = [program, libraries()[0], jets, str(rounds), *folders.values()]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    print(result.stderr.strip())
    return dict(zip(folders, (float(line.split()[0]) for line in result.stdout.splitlines()), strict=True))


def show(times: Mapping[str, float], trimmed: str, padded: str) -> None:
    print(f"{'':34} {'µs':>9} {'× trimmed':>10} {'bar':>6} {'× padded':>9} {'bar':>6}")
    for title, time in times.items():
        bars = ["" if bar is None else f"{bar:g}" for bar in BARS.get(title, (None, None))]
        ratios = times[trimmed] / time, times[padded] / time
        print(f"{title:34} {time:9.1f} {ratios[0]:10.2f} {bars[0]:>6} {ratios[1]:9.1f} {bars[1]:>6}")


def particle_net_folders(shared: Path, folder: Path, schema: DataSchema, jets: JetInputs) -> dict[str, str]:
    network = published_network(shared, "kin")
    torch.manual_seed(0)
    tagger = Tagger(ParticleNet(network), ("input", 0, 1), "deep_sets").eval()
    write_weaver(folder / "weaver", network, schema, ("pf_points", "pf_features", "pf_mask"), jets)
    found = {WEAVER: f"{folder}/weaver:trim", WEAVER_PADDED: f"{folder}/weaver"}
    choices = {
        "no exits": (),
        "three exits, none taken": (NEVER, NEVER, NEVER),
        "all leave after block 0": (NEVER, ALWAYS, NEVER),
        "all leave on the inputs": (ALWAYS, NEVER, NEVER),
    }
    for number, (title, thresholds) in enumerate(choices.items()):
        write_ours(folder / str(number), tagger, thresholds, schema)
        found[title] = f"{folder}/{number}:trim"
    found["no exits, padded to 128"] = f"{folder}/0"
    return found


def particle_transformer_folders(folder: Path, schema: DataSchema, jets: JetInputs) -> dict[str, str]:
    torch.manual_seed(0)
    network: Any = WeaverParticleTransformer(7, 10, trim=False).eval()
    tracing: Any = WeaverParticleTransformer(7, 10, trim=False, for_inference=False).eval()
    tracing.load_state_dict(network.state_dict())
    tagger = Tagger(ParticleTransformer(network), (0, 1), "deep_sets").eval()
    write_weaver(folder / "weaver_part", tracing, schema, ("pf_features", "pf_vectors", "pf_mask"), jets)
    found = {WEAVER: f"{folder}/weaver_part:trim", WEAVER_PADDED: f"{folder}/weaver_part"}
    for title, thresholds in {"ParT, no exits": (), "ParT, all leave after block 1": (NEVER, ALWAYS)}.items():
        write_ours(folder / title.replace(" ", "_"), tagger, thresholds, schema)
        found[title] = f"{folder}/{title.replace(' ', '_')}:trim"
    return found


def background_jets(project: str, options: Options, schema: DataSchema, count: int) -> JetInputs:
    """Return jets of the background class from the test files of a project."""
    background = schema.class_names.index(options.background or schema.class_names[0])
    batches = phaze_ee.read_jets(project, list(options.test_files), batch_size=1000)
    found = [batch.inputs.ragged().select(batch.label_N == background).padded(128) for batch in batches]
    together = [
        torch.cat([getattr(batch, kind) for batch in found])[:count]
        for kind in ("points", "features", "vectors", "mask")
    ]
    return JetInputs(*together)


def stream(project: str, folder: Path) -> Race:
    """Return jets of the background, weaver's export of the project's own network, and ours with its policy."""
    workspace, name = project.split("/")
    path = phaze_ee.workspace.existing_project(workspace, name)
    options = load_options(path.config)
    schema = DataSchema.load(find_file("data_config", options.data_config, path.root))
    network_file = find_file("network_config", options.network_file_for(1), path.root)
    network: Any = build_network(options, network_file, schema.weaver).eval()
    adopt(network, str(network_file)).load_state_dict(phaze_ee.load(project).architecture.state_dict())
    jets = background_jets(project, options, schema, _STREAM)
    write_weaver(folder / "weaver", network.mod, schema, ("pf_points", "pf_features", "pf_mask"), jets.select(FEW))
    phaze_ee.export_onnx(project, folder / "project", one_jet=True)
    own = {WEAVER: f"{folder}/weaver:trim", WEAVER_PADDED: f"{folder}/weaver"}
    return jets, schema, {**own, "QCD jets, calibrated policy": f"{folder}/project:trim"}


def races(arguments: argparse.Namespace, folder: Path) -> Iterator[Race]:
    schema = DataSchema.load(DATA_CONFIG)
    inputs = real_jets(arguments.shared)[0]
    chosen = torch.arange(0, len(inputs), max(1, len(inputs) // arguments.jets))[: arguments.jets]
    jets = inputs.select(chosen)
    yield jets, schema, particle_net_folders(arguments.shared, folder, schema, jets.select(FEW))
    if arguments.project:
        (folder / "stream").mkdir()
        yield stream(arguments.project, folder / "stream")
    if arguments.particle_transformer:
        yield jets, schema, particle_transformer_folders(folder, schema, jets.select(FEW))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shared", type=Path)
    parser.add_argument("--jets", type=int, default=62)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--project")
    parser.add_argument("--particle-transformer", action="store_true")
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = folder / "consumer"
        source = ROOT / "tests" / "export" / "consumer.cpp"
        subprocess.run([*find_compiler(), "-O2", "-std=c++17", source, "-ldl", "-o", program], check=True)
        for number, (jets, schema, folders) in enumerate(races(arguments, folder)):
            counts = jets.particle_count_N.tolist()
            path = write_jets(folder / f"jets_{number}", raw_variables(jets, schema), counts)
            print(f"{len(jets)} jets of {np.mean(counts):.1f} particles")
            show(timed(program, path, arguments.rounds, folders), WEAVER, WEAVER_PADDED)


if __name__ == "__main__":
    main()
